/* Functions of one byte by table: LOGISTIC, TANH, RELU, RELU6, LEAKY_RELU, HARD_SWISH, QUANTIZE and CAST between
 * types of 8 bits, and every binary operator whose other input is one constant. */
#ifndef TFLNEST_LOOKUP_H
#define TFLNEST_LOOKUP_H

#include "tflnest/tflnest_types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The function and how many values it is applied to. */
typedef struct {
    int32_t size;         /* elements, 1 or more */
    const int8_t *table; /* 256 results, indexed by the byte of the input: 0 to 127, then -128 to -1 */
} tflnest_lookup_params;

/* Check parameters once, before `tflnest_lookup_s8` is called with them. */
tflnest_status tflnest_lookup_check(const tflnest_lookup_params *params);

/* Apply the table.
 *
 * input   int8 or uint8, params->size elements.
 * output  as many bytes; may be the input. */
void tflnest_lookup_s8(const tflnest_lookup_params *params, const int8_t *input, int8_t *output);

/* A function of one byte whose results are wider: QUANTIZE and CAST to INT16 and INT32. */
typedef struct {
    int32_t size;         /* elements, 1 or more */
    const int32_t *table; /* 256 results, indexed like tflnest_lookup_params.table */
} tflnest_lookup_wide_params;

/* Check parameters once, before the functions below are called with them. */
tflnest_status tflnest_lookup_wide_check(const tflnest_lookup_wide_params *params);

/* Apply the table.
 *
 * input   int8 or uint8, params->size elements.
 * output  int32, as many; must not overlap the input. */
void tflnest_lookup_wide_s32(const tflnest_lookup_wide_params *params, const int8_t *input, int32_t *output);

/* The same with results of 16 bits: params->table holds them as int32.
 *
 * output  int16, params->size elements; must not overlap the input. */
void tflnest_lookup_wide_s16(const tflnest_lookup_wide_params *params, const int8_t *input, int16_t *output);

#ifdef __cplusplus
}
#endif

#endif
