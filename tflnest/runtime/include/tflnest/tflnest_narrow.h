/* Activations at fewer bits: a shift with rounding and back, on the same scale and with the same zero point
 * (FORMAT.md, section 6.7). No value is dequantized: each takes an addition with saturation and a mask. */
#ifndef TFLNEST_NARROW_H
#define TFLNEST_NARROW_H

#include "tflnest/tflnest_types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* How many values are read at how many bits. */
typedef struct {
    int32_t size; /* elements, 1 or more */
    int32_t bits; /* 1 to 8; at 8 the values are copied */
} tflnest_narrow_params;

/* Check parameters once, before `tflnest_narrow_s8` is called with them. */
tflnest_status tflnest_narrow_check(const tflnest_narrow_params *params);

/* Read values at fewer bits: multiples of 2^(8 - bits) above -128, the nearest one that there is, upwards on a tie.
 *
 * input   int8, params->size elements.
 * output  as many; may be the input, and must not overlap it otherwise. */
void tflnest_narrow_s8(const tflnest_narrow_params *params, const int8_t *input, int8_t *output);

#ifdef __cplusplus
}
#endif

#endif
