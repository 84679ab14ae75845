/* FULLY_CONNECTED with the DSP extension: weights are decoded as they are multiplied. */
#ifndef TFLNEST_FULLY_CONNECTED_DSP_H
#define TFLNEST_FULLY_CONNECTED_DSP_H

#include "tflnest/tflnest_fully_connected.h"
#include "tflnest_variant.h"

#if TFLNEST_VARIANT == TFLNEST_VARIANT_DSP

/* Bytes of scratch. */
uint32_t tflnest_fully_connected_dsp_bytes(const tflnest_fully_connected_params *params);

/* One batch. */
void tflnest_fully_connected_dsp_run(const tflnest_fully_connected_params *params, const tflnest_filter *filter,
                                     const int8_t *input, int8_t *output, void *scratch);

#endif

#endif
