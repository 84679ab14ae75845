/* Depthwise convolution by table with the DSP extension. */
#ifndef TFLNEST_DEPTHWISE_DSP_H
#define TFLNEST_DEPTHWISE_DSP_H

#include "tflnest_depthwise.h"

#if TFLNEST_VARIANT == TFLNEST_VARIANT_DSP

/* Taps that are computed for a window of `taps`: an odd number, at least 3; the weights of extra taps are 0. */
static inline uint32_t tflnest_depthwise_dsp_taps(uint32_t taps)
{
    return taps < 3 ? 3 : taps | 1u;
}

/* Whether a tile with its parameters set can be computed: groups of four channels in the quick form. */
int tflnest_depthwise_dsp_fits(const tflnest_tile *tile);

/* Decode the weights of such a tile. */
void tflnest_depthwise_dsp_decode(tflnest_depthwise *work, const tflnest_filter *filter, uint32_t first);

/* Compute windows with it. */
void tflnest_depthwise_dsp_run(const tflnest_depthwise *work, const tflnest_windows *windows);

#endif

#endif
