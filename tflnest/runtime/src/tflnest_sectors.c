#include "tflnest/tflnest_sectors.h"

#define UNIT 8u
#define ERASED 0xFFu

static int is_all(const uint8_t *bytes, uint32_t count, uint8_t value)
{
    for (uint32_t i = 0; i < count; i++) {
        if (bytes[i] != value) {
            return 0;
        }
    }
    return 1;
}

/* The end of the sector that a byte lies in. */
static uint32_t end_of_sector(const tflnest_sectors *sectors, uint32_t offset)
{
    return (offset / sectors->sector_bytes + 1u) * sectors->sector_bytes;
}

int tflnest_sectors_accepts(const void *context, const tflnest_page *page, uint32_t offset)
{
    const tflnest_sectors *sectors = context;

    if (offset == 0u || tflnest_sectors_is_dropped(context, page)) {
        return offset == 0u;
    }
    return offset % sectors->sector_bytes == 0u ||
           is_all(page->image + offset, end_of_sector(sectors, offset) - offset, ERASED);
}

tflnest_status tflnest_sectors_erase(const void *context, const tflnest_page *page, uint32_t offset)
{
    const tflnest_sectors *sectors = context;
    const uint32_t size = sectors->sector_bytes;

    for (uint32_t at = (offset + size - 1u) / size * size; at < page->size + TFLNEST_SECTORS_MARK_BYTES; at += size) {
        if (!is_all(page->image + at, size, ERASED) && sectors->erase(page->image + at) != 0) {
            return TFLNEST_ERROR_FLASH;
        }
    }
    return TFLNEST_OK;
}

tflnest_status tflnest_sectors_program(const void *context, const tflnest_page *page, uint32_t offset,
                                       const uint8_t *bytes, uint32_t count)
{
    const tflnest_sectors *sectors = context;

    for (uint32_t i = 0; i < count; i += UNIT) {
        const uint8_t *to = page->image + offset + i;

        if (!is_all(to, UNIT, ERASED)) {
            return TFLNEST_ERROR_FLASH;
        }
        if (!is_all(bytes + i, UNIT, ERASED) && sectors->program(to, bytes + i) != 0) {
            return TFLNEST_ERROR_FLASH;
        }
    }
    return TFLNEST_OK;
}

/* The last sector with content may have been cut off in the middle: it does not count. */
uint32_t tflnest_sectors_find(const void *context, const tflnest_page *page)
{
    const tflnest_sectors *sectors = context;
    uint32_t end = page->size;

    if (tflnest_sectors_is_dropped(context, page)) {
        return 0;
    }
    while (end > 0u && page->image[end - 1u] == ERASED) {
        end--;
    }
    return end == 0u ? 0u : (end - 1u) / sectors->sector_bytes * sectors->sector_bytes;
}

tflnest_status tflnest_sectors_drop(const void *context, const tflnest_page *page)
{
    static const uint8_t mark[TFLNEST_SECTORS_MARK_BYTES] = {0};
    const tflnest_sectors *sectors = context;

    if (tflnest_sectors_is_dropped(context, page)) {
        return TFLNEST_OK;
    }
    return sectors->program(page->image + page->size, mark) == 0 ? TFLNEST_OK : TFLNEST_ERROR_FLASH;
}

int tflnest_sectors_is_dropped(const void *context, const tflnest_page *page)
{
    (void)context;
    return !is_all(page->image + page->size, TFLNEST_SECTORS_MARK_BYTES, ERASED);
}
