/* FULLY_CONNECTED on cores without SIMD: weights are decoded some at a time, and multiplied by the input as it is. */
#ifndef TFLNEST_FULLY_CONNECTED_NARROW_H
#define TFLNEST_FULLY_CONNECTED_NARROW_H

#include "tflnest/tflnest_fully_connected.h"
#include "tflnest_variant.h"

#if TFLNEST_VARIANT == TFLNEST_VARIANT_NARROW

/* Bytes of scratch. */
uint32_t tflnest_fully_connected_narrow_bytes(const tflnest_fully_connected_params *params);

/* One batch. */
void tflnest_fully_connected_narrow_run(const tflnest_fully_connected_params *params, const tflnest_filter *filter,
                                        const int8_t *input, int8_t *output, void *scratch);

#endif

#endif
