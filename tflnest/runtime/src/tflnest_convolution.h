/* The convolution behind `tflnest_conv_s8`, for depthwise ones over a single channel, too. */
#ifndef TFLNEST_CONVOLUTION_H
#define TFLNEST_CONVOLUTION_H

#include "tflnest/tflnest_conv.h"

/* Convolve tile after tile; `params->tile_channels` is 1 or more.
 *
 * turned NULL for a filter of the shape that `tflnest_conv_s8` takes. For one of the shape (1, height, width, output
 *        channels) over a single input channel: room for the weights of a tile.
 */
void tflnest_convolution_run(const tflnest_conv_params *params, const tflnest_filter *filter, const int8_t *input,
                             int8_t *output, void *scratch, int8_t *turned);

#endif
