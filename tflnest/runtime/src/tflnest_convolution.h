/* The convolution behind `tflnest_conv_s8`, for depthwise ones over a single channel, too. */
#ifndef TFLNEST_CONVOLUTION_H
#define TFLNEST_CONVOLUTION_H

#include "tflnest/tflnest_conv.h"

/* Convolve with tiles; `params->tile_channels` is 1 or more.
 *
 * turned NULL for a filter of the shape that `tflnest_conv_s8` takes; room for the weights of a tile for one of the
 *        shape (1, height, width, output channels) with a group for each input channel.
 */
void tflnest_convolution_run(const tflnest_conv_params *params, const tflnest_filter *filter, const int8_t *input,
                             int8_t *output, void *scratch, int8_t *turned);

#endif
