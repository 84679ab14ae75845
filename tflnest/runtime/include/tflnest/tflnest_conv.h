/* CONV_2D, int8, weight-stationary: one tile of output channels is decoded and run over all pixels. */
#ifndef TFLNEST_CONV_H
#define TFLNEST_CONV_H

#include "tflnest/tflnest_types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What is fixed of a convolution. The filter has the shape (output channels, height, width, input channels /
 * groups). */
typedef struct {
    tflnest_shape input;
    tflnest_shape output;
    tflnest_extent filter;
    tflnest_extent stride;
    tflnest_extent dilation;
    tflnest_extent padding;
    int32_t groups; /* divides input and output channels; 1 for an ordinary convolution */
    int32_t tile_channels;
    tflnest_requantization requantization;
} tflnest_conv_params;

/* Check parameters and filter once, before `tflnest_conv_s8` is called with them. */
tflnest_status tflnest_conv_check(const tflnest_conv_params *params, const tflnest_filter *filter);

/* Bytes of scratch, for this core's variant of the kernel. */
uint32_t tflnest_conv_get_buffer_size(const tflnest_conv_params *params);

/* Convolve `input` to `output`, which must not overlap. */
void tflnest_conv_s8(const tflnest_conv_params *params, const tflnest_filter *filter, const int8_t *input,
                     int8_t *output, void *scratch);

/* The same without scratch, for `tile_channels` 0: weights are decoded to the stack, a few at a time. It is slow. */
void tflnest_conv_unbuffered_s8(const tflnest_conv_params *params, const tflnest_filter *filter, const int8_t *input,
                                int8_t *output);

#ifdef __cplusplus
}
#endif

#endif
