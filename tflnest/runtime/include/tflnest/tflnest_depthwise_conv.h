/* DEPTHWISE_CONV_2D, int8: one tile of channels is decoded and run over all pixels. */
#ifndef TFLNEST_DEPTHWISE_CONV_H
#define TFLNEST_DEPTHWISE_CONV_H

#include "tflnest/tflnest_types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What is fixed of a depthwise convolution. The filter has the shape (1, height, width, output channels) and
 * output channel c reads input channel c / (output channels / input channels). */
typedef struct {
    tflnest_shape input;
    tflnest_shape output;
    tflnest_extent filter;
    tflnest_extent stride;   /* 1 or more */
    tflnest_extent dilation; /* 1 or more */
    tflnest_extent padding;  /* rows above and columns left of the input, 0 or more */
    int32_t tile_channels;   /* output channels that are decoded at a time, 1 or more; 4, 8 and 16 are fast */
    tflnest_requantization requantization;
} tflnest_depthwise_conv_params;

/* Check parameters and filter once, before `tflnest_depthwise_conv_s8` is called with them.
 *
 * Returns TFLNEST_ERROR_ARGUMENT for anything that the kernel does not compute. */
tflnest_status tflnest_depthwise_conv_check(const tflnest_depthwise_conv_params *params, const tflnest_filter *filter);

/* Bytes of scratch that `tflnest_depthwise_conv_s8` needs, for this core's variant of the kernel. */
uint32_t tflnest_depthwise_conv_get_buffer_size(const tflnest_depthwise_conv_params *params);

/* Convolve.
 *
 * input   int8, shape params->input.
 * output  int8, shape params->output; must not overlap the input.
 * scratch `tflnest_depthwise_conv_get_buffer_size` bytes, aligned to 8. */
void tflnest_depthwise_conv_s8(const tflnest_depthwise_conv_params *params, const tflnest_filter *filter, const int8_t *input,
                     int8_t *output, void *scratch);

#ifdef __cplusplus
}
#endif

#endif
