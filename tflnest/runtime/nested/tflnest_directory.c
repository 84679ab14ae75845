#include "tflnest_directory.h"

#include <string.h>

#include "tflnest/tflnest_crc32.h"

static uint32_t read_word(const uint8_t *from)
{
    return (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}

static uint32_t read_half(const uint8_t *from)
{
    return (uint32_t)from[0] | (uint32_t)from[1] << 8;
}

/* CRC-32 of the directory, with its identity and its CRC-32 taken as zeros. */
static uint32_t checksum(const uint8_t *bytes, uint32_t size)
{
    uint8_t header[TFLNEST_DIRECTORY_HEADER_BYTES];
    memcpy(header, bytes, sizeof header);
    memset(header + TFLNEST_DIRECTORY_AT_IDENTITY, 0, TFLNEST_DIRECTORY_IDENTITY_BYTES);
    memset(header + TFLNEST_DIRECTORY_AT_CRC32, 0, 4);
    return tflnest_crc32(tflnest_crc32(0, header, sizeof header), bytes + sizeof header,
                         size - (uint32_t)sizeof header);
}

static const char *read_levels(tflnest_directory *directory, const uint8_t *rows)
{
    for (uint32_t i = 0; i < directory->count; i++) {
        const uint8_t *row = rows + i * TFLNEST_DIRECTORY_LEVEL_BYTES;
        if (row[0] <= (i > 0 ? directory->levels[i - 1] : 0) || row[0] > TFLNEST_MASTER_BITS || row[1] != 0 ||
            read_half(row + 2) != 0) {
            return "the levels of its TFLNEST directory do not increase within 1 to 8";
        }
        directory->levels[i] = row[0];
    }
    return NULL;
}

const char *tflnest_directory_read(tflnest_directory *directory, const void *bytes, size_t size)
{
    const uint8_t *header = bytes;
    if (header == NULL || size < TFLNEST_DIRECTORY_HEADER_BYTES || size > UINT32_MAX) {
        return "its TFLNEST directory is cut off";
    }
    if (memcmp(header, TFLNEST_DIRECTORY_MAGIC, sizeof TFLNEST_DIRECTORY_MAGIC) != 0) {
        return "its TFLNEST metadata is no directory";
    }
    if (read_half(header + TFLNEST_DIRECTORY_AT_VERSION) != TFLNEST_DIRECTORY_VERSION) {
        return "it has another format version than this tflnest reads";
    }
    const uint32_t levels = read_half(header + TFLNEST_DIRECTORY_AT_LEVEL_COUNT);
    const uint32_t pages = read_half(header + TFLNEST_DIRECTORY_AT_PAGE_COUNT);
    const uint32_t segments = read_word(header + TFLNEST_DIRECTORY_AT_SEGMENT_COUNT);
    const uint32_t recipe = read_word(header + TFLNEST_DIRECTORY_AT_RECIPE_SIZE);
    if (read_half(header + TFLNEST_DIRECTORY_AT_HEADER_SIZE) != TFLNEST_DIRECTORY_HEADER_BYTES ||
        read_word(header + TFLNEST_DIRECTORY_AT_FLAGS) != 0 || levels < 1 || levels > TFLNEST_MAX_LEVELS ||
        pages != levels || segments > TFLNEST_MAX_SEGMENTS || recipe > TFLNEST_MAX_RECIPE_BYTES) {
        return "its TFLNEST directory makes no sense";
    }
    const uint32_t expected = TFLNEST_DIRECTORY_HEADER_BYTES + levels * TFLNEST_DIRECTORY_LEVEL_BYTES +
                              pages * TFLNEST_DIRECTORY_PAGE_BYTES + segments * TFLNEST_DIRECTORY_SEGMENT_BYTES +
                              recipe;
    if (size != expected || checksum(header, expected) != read_word(header + TFLNEST_DIRECTORY_AT_CRC32)) {
        return "its TFLNEST directory is damaged";
    }
    directory->count = levels;
    return read_levels(directory, header + TFLNEST_DIRECTORY_HEADER_BYTES);
}

/* -------------------------------------------------------------------------------------------------- pages */

/* A segment of a page. */
typedef struct {
    uint32_t offset; /* in the file */
    uint32_t size;
} segment;

static uint32_t count_levels(const uint8_t *header)
{
    return read_half(header + TFLNEST_DIRECTORY_AT_LEVEL_COUNT);
}

static segment segment_at(const uint8_t *header, uint32_t index)
{
    const uint32_t rows = TFLNEST_DIRECTORY_HEADER_BYTES +
                          count_levels(header) * (TFLNEST_DIRECTORY_LEVEL_BYTES + TFLNEST_DIRECTORY_PAGE_BYTES);
    const uint8_t *row = header + rows + index * TFLNEST_DIRECTORY_SEGMENT_BYTES;
    const segment found = {read_word(row + 4), read_word(row + 8)};
    return found;
}

/* Bytes of a segment in the image of its page. */
static uint64_t padded(uint32_t size)
{
    return ((uint64_t)size + 7) / 8 * 8;
}

tflnest_directory_page tflnest_directory_page_at(const void *bytes, uint32_t index)
{
    const uint8_t *header = bytes;
    const uint8_t *row = header + TFLNEST_DIRECTORY_HEADER_BYTES +
                         count_levels(header) * TFLNEST_DIRECTORY_LEVEL_BYTES + index * TFLNEST_DIRECTORY_PAGE_BYTES;
    const tflnest_directory_page page = {read_word(row + 4), read_word(row + 8), read_word(row + 12),
                                         read_word(row + 16)};
    return page;
}

int tflnest_directory_fits(const void *bytes, size_t file_size)
{
    const uint8_t *header = bytes;
    const uint32_t segments = read_word(header + TFLNEST_DIRECTORY_AT_SEGMENT_COUNT);
    uint32_t next = 0;
    for (uint32_t i = 0; i < count_levels(header); i++) {
        const tflnest_directory_page page = tflnest_directory_page_at(bytes, i);
        uint64_t size = 0;
        if (page.first != next || page.count > segments - next) {
            return 0;
        }
        next += page.count;
        for (uint32_t j = page.first; j < next; j++) {
            const segment part = segment_at(header, j);
            if (part.offset > file_size || part.size > file_size - part.offset) {
                return 0;
            }
            size += padded(part.size);
        }
        if (size != page.size) {
            return 0;
        }
    }
    return next == segments;
}

int tflnest_directory_find(const void *bytes, uint32_t offset, uint32_t *page, uint32_t *place)
{
    const uint8_t *header = bytes;
    for (*page = 0; *page < count_levels(header); ++*page) {
        const tflnest_directory_page row = tflnest_directory_page_at(bytes, *page);
        *place = 0;
        for (uint32_t i = 0; i < row.count; i++) {
            const segment part = segment_at(header, row.first + i);
            if (offset == part.offset) {
                return 1;
            }
            *place += (uint32_t)padded(part.size);
        }
    }
    return 0;
}

int tflnest_directory_offset(const void *bytes, uint32_t page, uint32_t place, uint32_t *offset)
{
    const tflnest_directory_page row = tflnest_directory_page_at(bytes, page);
    uint32_t next = 0;
    for (uint32_t i = 0; i < row.count && next <= place; i++) {
        const segment part = segment_at(bytes, row.first + i);
        if (next == place) {
            *offset = part.offset;
            return 1;
        }
        next += (uint32_t)padded(part.size);
    }
    return 0;
}
