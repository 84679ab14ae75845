/* The levels in the page directory of a nested file (FORMAT.md, section 8). */
#ifndef TFLNEST_DIRECTORY_H
#define TFLNEST_DIRECTORY_H

#include <stddef.h>
#include <stdint.h>

#include "tflnest_format.h"

/* Levels of a model, lowest first. */
typedef struct {
    uint8_t levels[TFLNEST_MAX_LEVELS];
    uint32_t count;
} tflnest_directory;

/* Read the directory; its bytes may be anything.
 *
 * Returns NULL, or what is wrong in words.
 */
const char *tflnest_directory_read(tflnest_directory *directory, const void *bytes, size_t size);

/* A page of a directory. */
typedef struct {
    uint32_t size;  /* of its image */
    uint32_t crc32; /* of its image */
    uint32_t first; /* segment */
    uint32_t count; /* of segments */
} tflnest_directory_page;

/* Page `index` of a directory that was read. */
tflnest_directory_page tflnest_directory_page_at(const void *bytes, uint32_t index);

/* Whether pages and segments of a directory that was read fit each other and a file of so many bytes. */
int tflnest_directory_fits(const void *bytes, size_t file_size);

/* Find what lies at an offset of the file.
 *
 * bytes A directory that fits.
 * page  Filled: the page that has it.
 * place Filled: where it lies in the image of the page.
 *
 * Returns 0 where no page has it.
 */
int tflnest_directory_find(const void *bytes, uint32_t offset, uint32_t *page, uint32_t *place);

/* The offset in the file of the segment that lies at a place of a page's image; 0 where none begins there. */
int tflnest_directory_offset(const void *bytes, uint32_t page, uint32_t place, uint32_t *offset);

#endif
