/* QUANTIZE of int16 and int32 values. */
#ifndef TFLNEST_QUANTIZE_H
#define TFLNEST_QUANTIZE_H

#include "tflnest/tflnest_types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What is fixed of the change from one quantization to another. */
typedef struct {
    int32_t size;              /* elements, 1 or more */
    int32_t output_bytes;      /* of one element: 1, 2 or 4 */
    int32_t input_zero_point;
    int32_t multiplier;        /* Q0.31, 0 to 2^31 - 1 */
    int32_t shift;             /* -31 to 30, positive = left; a left shift wraps at 32 bits */
    int32_t output_zero_point;
} tflnest_quantize_params;

/* Check parameters once, before the functions below are called with them. */
tflnest_status tflnest_quantize_check(const tflnest_quantize_params *params);

/* Requantize, and clamp to the output's type.
 *
 * input   int16.
 * output  int8, int16 or int32, aligned to its type; must not overlap the input. */
void tflnest_quantize_s16(const tflnest_quantize_params *params, const int16_t *input, void *output);

/* The same for an int32 input. */
void tflnest_quantize_s32(const tflnest_quantize_params *params, const int32_t *input, void *output);

#ifdef __cplusplus
}
#endif

#endif
