/* The kernel call that a nested operator is, for the shape of its input. */
#ifndef TFLNEST_NESTED_CALL_H
#define TFLNEST_NESTED_CALL_H

#include "tflnest/tflnest_conv.h"
#include "tflnest/tflnest_depthwise_conv.h"
#include "tflnest/tflnest_fully_connected.h"
#include "tflnest_options.h"

#define TFLNEST_MAX_RANK 8u

/* Shape of a tensor. */
typedef struct {
    int32_t values[TFLNEST_MAX_RANK];
    uint32_t rank;
} tflnest_dimensions;

/* Quantization of an activation. */
typedef struct {
    float scale;
    int32_t zero_point;
} tflnest_quantization;

/* Parameters of the kernel of an operator. */
typedef struct {
    uint32_t stock;
    union {
        tflnest_conv_params conv;
        tflnest_depthwise_conv_params depthwise;
        tflnest_fully_connected_params fully_connected;
    } params;
} tflnest_call;

/* Make the parameters, and the shape of the output.
 *
 * Returns NULL, or what is wrong in words.
 */
const char *tflnest_call_make(tflnest_call *call, const tflnest_options *options, const tflnest_dimensions *input,
                              tflnest_quantization from, tflnest_quantization to, tflnest_dimensions *output);

/* Let the kernel decode so many output channels at a time; 0 takes no scratch. */
void tflnest_call_set_tile(tflnest_call *call, int32_t channels);

/* Whether the kernel computes with these parameters and this filter. */
int tflnest_call_is_sound(const tflnest_call *call, const tflnest_filter *filter);

/* Bytes of scratch. */
uint32_t tflnest_call_scratch(const tflnest_call *call);

/* Compute. */
void tflnest_call_run(const tflnest_call *call, const tflnest_filter *filter, const int8_t *input, int8_t *output,
                      void *scratch);

#endif
