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

#endif
