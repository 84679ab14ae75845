/* Convolutions of all kinds without scratch: slow, for where memory is short. */
#ifndef TFLNEST_UNBUFFERED_H
#define TFLNEST_UNBUFFERED_H

#include "tflnest/tflnest_types.h"

/* What is fixed. An ordinary, a depthwise and a fully connected operator differ in where their weights lie. */
typedef struct {
    const tflnest_shape *input;
    const tflnest_shape *output;
    const tflnest_extent *filter;
    const tflnest_extent *stride;
    const tflnest_extent *dilation;
    const tflnest_extent *padding;
    const tflnest_requantization *requantization;
    uint32_t depth;        /* input channels that an output channel reads; their weights lie side by side */
    uint32_t tap_step;     /* weights from one tap of a channel to its next one */
    uint32_t channel_step; /* weights from one output channel to the next */
    uint32_t sharing;      /* output channels that read the same input channels */
} tflnest_unbuffered;

/* Convolve. Weights are decoded to the stack, a few at a time and for some pixels together. */
void tflnest_unbuffered_run(const tflnest_unbuffered *work, const tflnest_filter *filter, const int8_t *input,
                            int8_t *output);

#endif
