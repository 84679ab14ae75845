/* Pages in flash sectors: erase, program, go on after the power went.
 *
 * These are the functions of a `tflnest_page_store` (tflnest_pager.h); its `context` is a `tflnest_sectors`, which
 * says how the board's flash is erased and programmed. Flash is erased to ones by the sector, programming only
 * clears bits, and reading it is reading memory.
 *
 * A page begins at the start of a sector, and no other page lies in its sectors; behind it there are
 * TFLNEST_SECTORS_MARK_BYTES more in them, which are programmed where it is given up. The sectors of a page are erased
 * when its transfer begins, before data is on its way, since most cores stand still meanwhile; a sector that is
 * erased already is left alone. What a page consists of is written once, in order. So after a loss of power all
 * sectors but the last one with content are complete: a transfer goes on there.
 *
 *     static const tflnest_sectors sectors = {PORT_FLASH_SECTOR_BYTES, port_flash_erase, port_flash_program};
 *     static const tflnest_page_store store = TFLNEST_SECTORS_STORE(&sectors);
 */
#ifndef TFLNEST_SECTORS_H
#define TFLNEST_SECTORS_H

#include "tflnest/tflnest_pager.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes behind every page. */
#define TFLNEST_SECTORS_MARK_BYTES 8u

/* The flash of a board. Both functions return 0 where they succeeded, and check what they did. */
typedef struct {
    uint32_t sector_bytes; /* a multiple of 8 */
    /* Set a whole sector to ones. */
    int (*erase)(const uint8_t *sector);
    /* Program 8 erased bytes, aligned to 8; `from` need not be aligned. */
    int (*program)(const uint8_t *to, const uint8_t *from);
} tflnest_sectors;

int tflnest_sectors_accepts(const void *context, const tflnest_page *page, uint32_t offset);
tflnest_status tflnest_sectors_erase(const void *context, const tflnest_page *page, uint32_t offset);
tflnest_status tflnest_sectors_program(const void *context, const tflnest_page *page, uint32_t offset,
                                       const uint8_t *bytes, uint32_t count);
uint32_t tflnest_sectors_find(const void *context, const tflnest_page *page);
tflnest_status tflnest_sectors_drop(const void *context, const tflnest_page *page);
int tflnest_sectors_is_dropped(const void *context, const tflnest_page *page);

/* The initializer of a `tflnest_page_store`. */
#define TFLNEST_SECTORS_STORE(sectors) \
    { \
        (sectors), tflnest_sectors_accepts, tflnest_sectors_erase, tflnest_sectors_program, tflnest_sectors_find, \
            tflnest_sectors_drop, tflnest_sectors_is_dropped \
    }

#ifdef __cplusplus
}
#endif

#endif
