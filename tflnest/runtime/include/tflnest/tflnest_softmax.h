/* SOFTMAX over the last axis, int8 in, int8 or int16 out. */
#ifndef TFLNEST_SOFTMAX_H
#define TFLNEST_SOFTMAX_H

#include "tflnest/tflnest_types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Longest last axis: the sum of exponentials must fit 32 bits. */
#define TFLNEST_SOFTMAX_MAX_DEPTH 8191

/* What is fixed of a softmax. The difference to the largest value of a row takes 256 values, so that the
 * exponential is a table. */
typedef struct {
    int32_t rows;                /* 1 or more */
    int32_t depth;               /* 1 to TFLNEST_SOFTMAX_MAX_DEPTH */
    int32_t table_size;          /* 1 to 256: from there on, exponentials are 0 */
    const int32_t *exponentials; /* Q0.31 of the scaled differences 0, -1, -2, ...; the first is 2^31 - 1 */
} tflnest_softmax_params;

/* Check parameters once, before the functions below are called with them. */
tflnest_status tflnest_softmax_check(const tflnest_softmax_params *params);

/* Softmax with the output scale 1/256 and zero point -128.
 *
 * input   int8, shape (rows, depth).
 * output  int8, same shape; may be the input. */
void tflnest_softmax_s8(const tflnest_softmax_params *params, const int8_t *input, int8_t *output);

/* Softmax with the output scale 1/65536 and zero point -32768.
 *
 * input   int8, shape (rows, depth).
 * output  int16, same shape; must not overlap the input. */
void tflnest_softmax_s16(const tflnest_softmax_params *params, const int8_t *input, int16_t *output);

#ifdef __cplusplus
}
#endif

#endif
