/* Depthwise convolution by table with MVE. */
#ifndef TFLNEST_DEPTHWISE_MVE_H
#define TFLNEST_DEPTHWISE_MVE_H

#include "tflnest_depthwise.h"

#if TFLNEST_VARIANT == TFLNEST_VARIANT_MVE

/* Channels that are computed together. */
#define TFLNEST_DEPTHWISE_MVE_CHANNELS 8u

/* Taps that are computed for a window of `taps`: a multiple of 3; the weights of extra taps are 0. */
static inline uint32_t tflnest_depthwise_mve_taps(uint32_t taps)
{
    return (taps + 2u) / 3u * 3u;
}

/* Decode the weights of a tile of whole groups of channels, with its parameters set. */
void tflnest_depthwise_mve_decode(tflnest_depthwise *work, const tflnest_filter *filter, uint32_t first);

/* Compute windows with it. */
void tflnest_depthwise_mve_run(const tflnest_depthwise *work, const tflnest_windows *windows);

#endif

#endif
