/* FULLY_CONNECTED, int8: rows of weights are decoded as they are used. */
#ifndef TFLNEST_FULLY_CONNECTED_H
#define TFLNEST_FULLY_CONNECTED_H

#include "tflnest/tflnest_types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What is fixed of a fully connected operator. The filter has the shape (outputs, inputs). */
typedef struct {
    int32_t batches; /* rows of input and output */
    int32_t inputs;
    int32_t outputs;
    int32_t tile_channels; /* where rows are not decoded on the fly */
    tflnest_requantization requantization;
} tflnest_fully_connected_params;

/* Check parameters and filter once, before `tflnest_fully_connected_s8` is called with them. */
tflnest_status tflnest_fully_connected_check(const tflnest_fully_connected_params *params,
                                             const tflnest_filter *filter);

/* Bytes of scratch that `tflnest_fully_connected_s8` needs, for this core's variant of the kernel. */
uint32_t tflnest_fully_connected_get_buffer_size(const tflnest_fully_connected_params *params);

/* Multiply.
 *
 * input   int8, shape (batches, inputs).
 * output  int8, shape (batches, outputs); must not overlap the input.
 * scratch `tflnest_fully_connected_get_buffer_size` bytes, aligned to 8. */
void tflnest_fully_connected_s8(const tflnest_fully_connected_params *params, const tflnest_filter *filter,
                                const int8_t *input, int8_t *output, void *scratch);

/* The same without scratch, for `tile_channels` 0: weights are decoded to the stack, a few at a time. It is slow. */
void tflnest_fully_connected_unbuffered_s8(const tflnest_fully_connected_params *params, const tflnest_filter *filter,
                                           const int8_t *input, int8_t *output);

#ifdef __cplusplus
}
#endif

#endif
