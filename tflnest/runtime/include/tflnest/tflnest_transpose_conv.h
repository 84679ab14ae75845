/* TRANSPOSE_CONV, int8. */
#ifndef TFLNEST_TRANSPOSE_CONV_H
#define TFLNEST_TRANSPOSE_CONV_H

#include "tflnest/tflnest_types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What is fixed of a transposed convolution: pixel i of the input, tap t of the filter go to pixel
 * i * stride + t - padding of the output. Sums are kept in a register, so that no scratch is needed. */
typedef struct {
    tflnest_shape input;
    tflnest_shape output;
    tflnest_extent filter;
    tflnest_extent stride;  /* 1 or more */
    tflnest_extent padding; /* 0 or more */
    tflnest_requantization requantization;
    int32_t per_channel;        /* 1: one multiplier and shift per output channel; 0: one for all */
    const int8_t *weights;      /* shape (output channels, height, width, input channels) */
    const int32_t *bias;        /* one per output channel, or NULL */
    const int32_t *multipliers; /* Q0.31, 0 to 2^31 - 1 */
    const int8_t *shifts;       /* -31 to 30, positive = left */
} tflnest_transpose_conv_params;

/* Check parameters once, before `tflnest_transpose_conv_s8` is called with them. */
tflnest_status tflnest_transpose_conv_check(const tflnest_transpose_conv_params *params);

/* Convolve.
 *
 * input   int8, shape params->input.
 * output  int8, shape params->output; must not overlap the input. */
void tflnest_transpose_conv_s8(const tflnest_transpose_conv_params *params, const int8_t *input, int8_t *output);

#ifdef __cplusplus
}
#endif

#endif
