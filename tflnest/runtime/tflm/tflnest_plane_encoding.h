/* All levels of a filter, or of its biases, as a constant that TFLM_DECODE expands (FORMAT.md, section 16). */
#ifndef TFLNEST_PLANE_ENCODING_H
#define TFLNEST_PLANE_ENCODING_H

#include "tflnest_nested_filter.h"

/* What the ancillary tensor says. */
typedef struct {
    tflnest_chain chain;
    uint8_t model_levels[TFLNEST_MAX_LEVELS]; /* position of an own level for each level of the model */
    uint8_t model_level_count;
    const uint8_t *rows; /* where parts lie in page images */
} tflnest_plane_encoding;

/* Where a part lies among the page images. */
typedef struct {
    uint32_t page;
    uint32_t offset; /* in its image */
} tflnest_part_place;

/* What an encoded tensor consists of: planes, or biases, one per own level. */
typedef struct {
    uint32_t elements; /* weights, or channels */
    int is_bias;
} tflnest_parts;

/* Read an ancillary tensor; its bytes may be anything.
 *
 * Returns NULL, or what is wrong in words.
 */
const char *tflnest_plane_encoding_read(tflnest_plane_encoding *encoding, const void *bytes, size_t size);

/* Where the part of an own level lies among the page images. */
tflnest_part_place tflnest_plane_encoding_place(const tflnest_plane_encoding *encoding, const tflnest_parts *parts,
                                                uint32_t level);

/* Bytes of the part of an own level. */
uint32_t tflnest_plane_encoding_bytes(const tflnest_plane_encoding *encoding, const tflnest_parts *parts,
                                      uint32_t level);

/* Number of parts that an encoded tensor of so many bytes has, the first ones; 0 where they are other ones. */
uint32_t tflnest_plane_encoding_count(const tflnest_plane_encoding *encoding, const tflnest_parts *parts, size_t bytes);

/* Write the weights of an own level.
 *
 * planes Of that level and the ones below, aligned to 4.
 */
void tflnest_plane_encoding_decode(const tflnest_plane_encoding *encoding, uint32_t level, uint32_t weights,
                                   const uint8_t *const *planes, int8_t *output);

#endif
