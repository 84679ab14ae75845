/* FULLY_CONNECTED with MVE: weights are decoded as they are multiplied. */
#ifndef TFLNEST_FULLY_CONNECTED_MVE_H
#define TFLNEST_FULLY_CONNECTED_MVE_H

#include "tflnest/tflnest_fully_connected.h"
#include "tflnest_variant.h"

#if TFLNEST_VARIANT == TFLNEST_VARIANT_MVE

/* Bytes of scratch. */
uint32_t tflnest_fully_connected_mve_bytes(const tflnest_fully_connected_params *params);

/* One batch. */
void tflnest_fully_connected_mve_run(const tflnest_fully_connected_params *params, const tflnest_filter *filter,
                                     const int8_t *input, int8_t *output, void *scratch);

#endif

#endif
