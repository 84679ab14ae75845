#include "tflnest_stock.h"

#include <stdlib.h>
#include <string.h>

#include "tflnest_decode.h"
#include "tflnest_scales.h"
#include "tflnest_session.h"

/* Alignment of expanded weights. */
#define ALIGNMENT 64u

static const int32_t builtin_codes[] = TFLNEST_BUILTIN_CODES;
static const int32_t channel_axes[] = TFLNEST_CHANNEL_AXES;

/* What a stock operator needs beside its weights. All of it is the runtime's to free, once it is in place. */
typedef struct {
    void *options;
    tfl_int_array *filter_shape;
    tfl_int_array *bias_shape;
    tfl_affine_quantization *filter_quantization;
    tfl_affine_quantization *bias_quantization;
} parts;

static tfl_int_array *new_int_array(uint32_t count)
{
    tfl_int_array *array = calloc(1, sizeof(tfl_int_array) + count * sizeof(int32_t));
    if (array != NULL) {
        array->size = (int32_t)count;
    }
    return array;
}

static void free_quantization(tfl_affine_quantization *quantization)
{
    if (quantization != NULL) {
        free(quantization->scale);
        free(quantization->zero_point);
        free(quantization);
    }
}

static void free_parts(parts *made)
{
    free(made->options);
    free(made->filter_shape);
    free(made->bias_shape);
    free_quantization(made->filter_quantization);
    free_quantization(made->bias_quantization);
}

/* Scales to be filled, with zero points of 0. */
static tfl_affine_quantization *new_quantization(uint32_t count, int32_t axis)
{
    tfl_affine_quantization *made = calloc(1, sizeof *made);
    if (made == NULL) {
        return NULL;
    }
    made->quantized_dimension = axis;
    made->zero_point = new_int_array(count);
    made->scale = calloc(1, sizeof(tfl_float_array) + count * sizeof(float));
    if (made->zero_point == NULL || made->scale == NULL) {
        free_quantization(made);
        return NULL;
    }
    made->scale->size = (int32_t)count;
    return made;
}

/* Whether lists of scales have the layout that we write: the one of an activation, which the runtime made, tells. */
static int knows_scales(const tfl_tensor *activation)
{
    const tfl_affine_quantization *quantization = activation->quantization_params;
    if (activation->quantization_type != TFL_QUANTIZATION_AFFINE || quantization == NULL ||
        quantization->scale == NULL) {
        return 0;
    }
    int32_t words[2];
    memcpy(words, quantization->scale, sizeof words);
    return words[0] == 1 && memcmp(&words[1], &activation->scale, sizeof(float)) == 0;
}

static void *new_options(const tflnest_options *options)
{
    const int32_t padding = options->padding == TFLNEST_PADDING_VALID ? TFL_PADDING_VALID : TFL_PADDING_SAME;
    if (options->stock == TFLNEST_STOCK_CONV_2D) {
        tfl_conv_options *made = calloc(1, sizeof *made);
        if (made != NULL) {
            made->padding = padding;
            made->stride_width = options->stride_w;
            made->stride_height = options->stride_h;
            made->activation = options->fused_activation_function;
            made->dilation_width_factor = options->dilation_w_factor;
            made->dilation_height_factor = options->dilation_h_factor;
            made->quantized_bias_type = TFL_TYPE_FLOAT32;
        }
        return made;
    }
    if (options->stock == TFLNEST_STOCK_DEPTHWISE_CONV_2D) {
        tfl_depthwise_conv_options *made = calloc(1, sizeof *made);
        if (made != NULL) {
            made->padding = padding;
            made->stride_width = options->stride_w;
            made->stride_height = options->stride_h;
            made->depth_multiplier = options->depth_multiplier;
            made->activation = options->fused_activation_function;
            made->dilation_width_factor = options->dilation_w_factor;
            made->dilation_height_factor = options->dilation_h_factor;
        }
        return made;
    }
    tfl_fully_connected_options *made = calloc(1, sizeof *made);
    if (made != NULL) {
        made->activation = options->fused_activation_function;
        made->keep_num_dims = (uint8_t)options->keep_num_dims;
        made->quantized_bias_type = TFL_TYPE_FLOAT32;
    }
    return made;
}

/* Scales of the filter and of the bias at the operator's level. */
static const char *fill_scales(parts *made, const tflnest_operator *operator, float input, float output)
{
    const tflnest_filter *level = &operator->filter.levels[operator->level];
    for (int32_t i = 0; i < made->filter_quantization->scale->size; i++) {
        const float scale = tflnest_recover_scale(input, output, level->multipliers[i], level->shifts[i]);
        if (!(scale > 0.0f)) {
            return "no filter scale gives one of its multipliers";
        }
        made->filter_quantization->scale->data[i] = scale;
        made->bias_quantization->scale->data[i] = input * scale;
    }
    return NULL;
}

static const char *make_parts(parts *made, const tflnest_operator *operator, const tfl_context *context)
{
    const tflnest_options *options = &operator->options;
    const uint32_t scales = operator->filter.levels[operator->level].per_channel ? options->channels : 1;
    made->options = new_options(options);
    made->filter_shape = new_int_array(options->filter_shape.count);
    made->bias_shape = new_int_array(1);
    made->filter_quantization = new_quantization(scales, channel_axes[options->stock]);
    made->bias_quantization = new_quantization(scales, 0);
    if (made->options == NULL || made->filter_shape == NULL || made->bias_shape == NULL ||
        made->filter_quantization == NULL || made->bias_quantization == NULL) {
        return "there is no memory left";
    }
    memcpy(made->filter_shape->data, options->filter_shape.values, options->filter_shape.count * sizeof(int32_t));
    made->bias_shape->data[0] = (int32_t)options->channels;
    return fill_scales(made, operator, context->tensors[operator->input].scale,
                       context->tensors[operator->output].scale);
}

static const char *expand(tflnest_operator *operator)
{
    const uint32_t weights = operator->filter.weights;
    operator->memory = malloc((size_t)weights + ALIGNMENT);
    if (operator->memory == NULL) {
        return "there is no memory left for its weights";
    }
    int8_t *values = (int8_t *)(((uintptr_t)operator->memory + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
    tflnest_decode(&operator->filter.levels[operator->level], 0, weights, values);
    operator->expanded = operator->filter.levels[operator->level];
    operator->expanded.values = values;
    operator->expanded.fields = NULL;
    operator->expanded.field_count = 0;
    operator->expanded.offset = 0;
    operator->expanded.disjoint = 0;
    return NULL;
}

/* A constant that the runtime does not own. */
static void set_constant(tfl_tensor *tensor, int32_t type, const char *name, const void *data, size_t bytes,
                         tfl_int_array *shape, tfl_affine_quantization *quantization)
{
    const int is_whole = quantization->scale->size == 1;
    tensor->type = type;
    tensor->name = name;
    tensor->data = (void *)(uintptr_t)data;
    tensor->bytes = bytes;
    tensor->dims = shape;
    tensor->allocation_type = TFL_ALLOCATION_READ_ONLY;
    tensor->scale = is_whole ? quantization->scale->data[0] : 0.0f;
    tensor->quantization_type = TFL_QUANTIZATION_AFFINE;
    tensor->quantization_params = quantization;
}

static void release(tfl_context *context, void *operator)
{
    (void)context;
    if (operator != NULL) {
        tflnest_session_remove(operator);
    }
}

/* From here on the node computes from the expanded weights, whatever its name. */
static void take_over(tflnest_operator *operator, tfl_node *node, tfl_registration *registration)
{
    node->user_data = operator;
    registration->init = NULL;
    registration->free = release;
    registration->prepare = tflnest_operator_prepare;
    registration->invoke = tflnest_operator_invoke;
    registration->profiling_string = NULL;
    registration->version = operator->options.version;
}

const char *tflnest_stock_convert(tflnest_operator *operator, tfl_context *context, tfl_node *node,
                                  tfl_registration *registration)
{
    const char *problem = expand(operator);
    if (problem != NULL) {
        return problem;
    }
    if (!knows_scales(&context->tensors[operator->input])) {
        node->inputs->size = 1; /* some of the others may be absent */
        take_over(operator, node, registration);
        return NULL;
    }
    parts made = {NULL, NULL, NULL, NULL, NULL};
    int first = 0;
    problem = make_parts(&made, operator, context);
    if (problem == NULL && context->add_tensors(context, 2, &first) != TFL_OK) {
        problem = "the interpreter takes no more tensors";
    }
    if (problem != NULL) {
        free_parts(&made);
        return problem;
    }
    set_constant(&context->tensors[first], TFLNEST_TYPE_INT8, operator->name, operator->expanded.values,
                 operator->filter.weights, made.filter_shape, made.filter_quantization);
    set_constant(&context->tensors[first + 1], TFLNEST_TYPE_INT32, operator->name, operator->expanded.bias,
                 4 * (size_t)operator->options.channels, made.bias_shape, made.bias_quantization);
    free(node->builtin_data);
    node->builtin_data = made.options;
    node->inputs->size = 3;
    node->inputs->data[1] = first;
    node->inputs->data[2] = first + 1;
    take_over(operator, node, registration);
    registration->builtin_code = builtin_codes[operator->options.stock];
    registration->custom_name = NULL;
    return NULL;
}
