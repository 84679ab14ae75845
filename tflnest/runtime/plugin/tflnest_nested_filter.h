/* The filter of a nested operator at all its levels, read from planes where they lie. */
#ifndef TFLNEST_NESTED_FILTER_H
#define TFLNEST_NESTED_FILTER_H

#include "tflnest/tflnest_types.h"
#include "tflnest_options.h"

#define TFLNEST_MAX_FIELDS 8u

/* A constant input of an operator. */
typedef struct {
    uint32_t type;    /* TFLNEST_TYPE_... */
    size_t bytes;
    const void *data; /* NULL: the file does not have it */
} tflnest_constant;

/* One plane. */
typedef struct {
    const uint8_t *codes; /* NULL: absent */
    uint32_t bytes;
} tflnest_plane;

/* All levels; it points into itself, and must stay where it was bound. */
typedef struct {
    tflnest_filter levels[TFLNEST_MAX_LEVELS];
    tflnest_field fields[TFLNEST_MAX_FIELDS]; /* a level uses the first ones */
    tflnest_plane planes[TFLNEST_MAX_LEVELS];
    int32_t offsets[TFLNEST_MAX_LEVELS]; /* of each level; the offset of its filter modulo 256 */
    uint32_t count;                      /* of levels */
    uint32_t available;                  /* of them, all that they need is there */
    uint32_t weights;
} tflnest_nested_filter;

/* Number of inputs of a nested operator, its activation included. */
uint32_t tflnest_nested_inputs(const tflnest_options *options);

/* Make the filters of all levels that are there.
 *
 * constants The inputs of the operator behind its activation.
 *
 * Returns NULL, or what is wrong in words.
 */
const char *tflnest_nested_filter_bind(tflnest_nested_filter *filter, const tflnest_options *options,
                                       const tflnest_constant *constants);

/* Whether all weights of an available level are int8; with disjoint fields nothing has to be read for it. */
int tflnest_nested_filter_fits(const tflnest_nested_filter *filter, uint32_t level);

#endif
