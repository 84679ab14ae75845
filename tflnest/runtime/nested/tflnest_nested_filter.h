/* The filter of a nested operator at all its levels, read from planes where they lie. */
#ifndef TFLNEST_NESTED_FILTER_H
#define TFLNEST_NESTED_FILTER_H

#include "tflnest/tflnest_types.h"
#include "tflnest_options.h"

#define TFLNEST_MAX_FIELDS 8u

/* The own levels of an operator: how its weights are cut into planes. */
typedef struct {
    uint8_t bits[TFLNEST_MAX_LEVELS]; /* increasing, 1 to 8 */
    uint8_t count;                    /* of levels, and of planes */
    uint8_t scheme;                   /* TFLNEST_SCHEME_... */
} tflnest_chain;

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

/* Where an operator's inputs hold what an own level brings beside its plane. */
typedef struct {
    uint8_t input;    /* of the operator's inputs, its activation included */
    uint8_t level;    /* own level that brings it; without `separate` its plane lies in front */
    uint8_t has_bias; /* a bias comes first */
} tflnest_place;

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

/* The chain of sound options. */
tflnest_chain tflnest_chain_of(const tflnest_options *options);

/* Bytes of a plane of so many weights. */
uint32_t tflnest_chain_plane_bytes(const tflnest_chain *chain, uint32_t level, uint32_t weights);

/* Append the fields of a plane to `count` that are there.
 *
 * fields TFLNEST_MAX_FIELDS of them.
 * codes  The plane of `level`.
 *
 * Returns how many there are then; more than TFLNEST_MAX_FIELDS where there is no room.
 */
uint32_t tflnest_chain_add_fields(const tflnest_chain *chain, uint32_t level, uint32_t weights, const uint8_t *codes,
                                  tflnest_field *fields, uint32_t count);

/* What all weights of a level have in common beside their fields. */
int32_t tflnest_chain_offset(const tflnest_chain *chain, uint32_t level);

/* Let a filter have the weights of some fields and an offset. */
void tflnest_filter_set_fields(tflnest_filter *filter, const tflnest_field *fields, uint32_t count, int32_t offset);

/* Let a filter have multipliers, and behind them as many shifts: 5 bytes for each. */
void tflnest_filter_set_scales(tflnest_filter *filter, const uint8_t *scales, size_t bytes);

/* Number of inputs of a nested operator, its activation included. */
uint32_t tflnest_nested_inputs(const tflnest_options *options);

/* Where the bias of an own level lies, and where its multipliers and shifts. */
tflnest_place tflnest_nested_bias_place(const tflnest_options *options, uint32_t level);
tflnest_place tflnest_nested_set_place(const tflnest_options *options, uint32_t level);

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
