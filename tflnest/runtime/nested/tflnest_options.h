/* The option map of a nested operator (FORMAT.md, section 6.3). */
#ifndef TFLNEST_OPTIONS_H
#define TFLNEST_OPTIONS_H

#include <stdint.h>

#include "tflnest_format.h"

/* A list of integers. */
typedef struct {
    int32_t values[TFLNEST_MAX_OPTION_ITEMS];
    uint32_t count;
} tflnest_list;

/* What a nested operator is, checked. */
typedef struct {
    uint32_t stock; /* TFLNEST_STOCK_... */
    tflnest_list filter_shape;
    tflnest_list levels;
    tflnest_list model_levels;   /* position of an own level for each level of the model */
    tflnest_list activation_bits; /* bits at which each own level reads its activation */
    tflnest_list bias;            /* which bias each own level uses: one of a level below, or the next */
    tflnest_list requantization;  /* the same for multipliers and shifts */
    int32_t version;
    int32_t scheme; /* TFLNEST_SCHEME_... */
    int32_t separate; /* 1: what levels bring beside their planes lies in tensors of its own */
    int32_t padding; /* TFLNEST_PADDING_... */
    int32_t stride_w;
    int32_t stride_h;
    int32_t dilation_w_factor;
    int32_t dilation_h_factor;
    int32_t depth_multiplier; /* 0: not given */
    int32_t keep_num_dims;
    int32_t fused_activation_function; /* TFLNEST_ACTIVATION_... */
    /* What follows from them. */
    uint32_t channels; /* of the output */
    uint32_t weights;  /* of the filter */
} tflnest_options;

/* Read and check the options of an operator.
 *
 * options     Filled.
 * custom_code Of the operator, for example "TFLNEST_CONV_2D".
 * bytes       A flexbuffer; may hold anything.
 *
 * Returns NULL, or what is wrong in words.
 */
const char *tflnest_options_read(tflnest_options *options, const char *custom_code, const void *bytes, uint32_t size);

#endif
