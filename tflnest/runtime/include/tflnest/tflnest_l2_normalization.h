/* L2_NORMALIZATION over the last axis, int8. */
#ifndef TFLNEST_L2_NORMALIZATION_H
#define TFLNEST_L2_NORMALIZATION_H

#include "tflnest/tflnest_types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Longest last axis: the sum of squares must fit 31 bits. */
#define TFLNEST_L2_NORMALIZATION_MAX_DEPTH 32768

/* What is fixed of a normalization. */
typedef struct {
    int32_t rows;       /* 1 or more */
    int32_t depth;      /* 1 to TFLNEST_L2_NORMALIZATION_MAX_DEPTH */
    int32_t zero_point; /* of the input, -128 to 127 */
} tflnest_l2_normalization_params;

/* Check parameters once, before `tflnest_l2_normalization_s8` is called with them. */
tflnest_status tflnest_l2_normalization_check(const tflnest_l2_normalization_params *params);

/* Normalize, with the output scale 1/128 and zero point 0.
 *
 * input   int8, shape (rows, depth).
 * output  int8, same shape; may be the input. */
void tflnest_l2_normalization_s8(const tflnest_l2_normalization_params *params, const int8_t *input,
                                 int8_t *output);

#ifdef __cplusplus
}
#endif

#endif
