#include "tflnest_nested_call.h"

#include <string.h>

#include "tflnest_geometry.h"

/* A window along one axis. */
typedef struct {
    int32_t size;
    int32_t stride;
    int32_t dilation;
} axis;

/* Windows of an axis over so many pixels, and the padding before them; 0 where none fits. */
static int32_t count_windows(int32_t padding, axis window, int32_t pixels, int32_t *before)
{
    const int64_t span = (int64_t)(window.size - 1) * window.dilation + 1;
    *before = 0;
    if (pixels < 1 || pixels > TFLNEST_MAX_DIMENSION || window.stride > TFLNEST_MAX_DIMENSION ||
        window.dilation > TFLNEST_MAX_DIMENSION || span > INT32_MAX / 2) {
        return 0;
    }
    if (padding == TFLNEST_PADDING_VALID) {
        return span > pixels ? 0 : (int32_t)((pixels - span) / window.stride) + 1;
    }
    const int32_t count = (int32_t)(((int64_t)pixels + window.stride - 1) / window.stride);
    const int64_t outside = (int64_t)(count - 1) * window.stride + span - pixels;
    *before = outside > 0 ? (int32_t)(outside / 2) : 0;
    return count;
}

/* The quantized value of a bound of an activation, to nearest, ties away from zero; far ones saturate. */
static int32_t quantize_bound(float bound, tflnest_quantization to)
{
    const double steps = (double)(bound / to.scale);
    if (steps > 1024.0) {
        return 1024;
    }
    return (steps < -1024.0 ? -1024 : (int32_t)(steps < 0.0 ? steps - 0.5 : steps + 0.5)) + to.zero_point;
}

static const char *set_requantization(tflnest_requantization *result, int32_t activation, tflnest_quantization from,
                                      tflnest_quantization to)
{
    result->input_zero_point = from.zero_point;
    result->output_zero_point = to.zero_point;
    result->activation_min = INT8_MIN;
    result->activation_max = INT8_MAX;
    int32_t low = INT8_MIN, high = INT8_MAX;
    if (activation == TFLNEST_ACTIVATION_RELU || activation == TFLNEST_ACTIVATION_RELU6) {
        low = quantize_bound(0.0f, to);
        high = activation == TFLNEST_ACTIVATION_RELU6 ? quantize_bound(6.0f, to) : high;
    } else if (activation == TFLNEST_ACTIVATION_RELU_N1_TO_1) {
        low = quantize_bound(-1.0f, to);
        high = quantize_bound(1.0f, to);
    } else if (activation != TFLNEST_ACTIVATION_NONE) {
        return "its fused activation is not supported";
    }
    result->activation_min = low > INT8_MIN ? low : INT8_MIN;
    result->activation_max = high < INT8_MAX ? high : INT8_MAX;
    return result->activation_min <= result->activation_max ? NULL : "the range of its activation is empty";
}

/* Channels of a tile that a processor with caches decodes at a time. */
static int32_t tile_channels(int64_t products)
{
    const int64_t steps = TFLNEST_TILE_BYTES / products / TFLNEST_TILE_STEP;
    return (int32_t)((steps > 1 ? steps : 1) * TFLNEST_TILE_STEP);
}

/* What CONV_2D and DEPTHWISE_CONV_2D have in common. */
typedef struct {
    tflnest_shape input;
    tflnest_shape output;
    tflnest_extent filter;
    tflnest_extent stride;
    tflnest_extent dilation;
    tflnest_extent padding;
} windows;

static const char *place_windows(windows *to, const tflnest_options *options, const tflnest_dimensions *input,
                                 tflnest_dimensions *output)
{
    if (input->rank != 4) {
        return "its input has not four dimensions";
    }
    const int32_t *shape = options->filter_shape.values, *image = input->values;
    const tflnest_shape from = {image[0], image[1], image[2], image[3]};
    const tflnest_extent filter = {shape[1], shape[2]}, stride = {options->stride_h, options->stride_w};
    const tflnest_extent dilation = {options->dilation_h_factor, options->dilation_w_factor};
    const axis vertical = {filter.height, stride.height, dilation.height};
    const axis horizontal = {filter.width, stride.width, dilation.width};
    to->input = from;
    to->filter = filter;
    to->stride = stride;
    to->dilation = dilation;
    to->output.batches = from.batches;
    to->output.height = count_windows(options->padding, vertical, from.height, &to->padding.height);
    to->output.width = count_windows(options->padding, horizontal, from.width, &to->padding.width);
    to->output.channels = (int32_t)options->channels;
    if (to->output.height < 1 || to->output.width < 1) {
        return "its window does not fit its input";
    }
    if (!tflnest_shape_is_sound(&to->input) || !tflnest_shape_is_sound(&to->output)) {
        return "its input or output is too large, or empty";
    }
    const int32_t dimensions[] = {to->output.batches, to->output.height, to->output.width, to->output.channels};
    memcpy(output->values, dimensions, sizeof dimensions);
    output->rank = 4;
    return NULL;
}

static const char *make_conv(tflnest_conv_params *params, const tflnest_options *options,
                             const tflnest_dimensions *input, tflnest_dimensions *output)
{
    windows placed = {0};
    const char *problem = place_windows(&placed, options, input, output);
    if (problem != NULL) {
        return problem;
    }
    const int32_t depth = options->filter_shape.values[3];
    params->input = placed.input;
    params->output = placed.output;
    params->filter = placed.filter;
    params->stride = placed.stride;
    params->dilation = placed.dilation;
    params->padding = placed.padding;
    params->groups = placed.input.channels / depth;
    params->tile_channels = tile_channels((int64_t)placed.filter.height * placed.filter.width * depth);
    if (params->groups < 1 || placed.input.channels % depth != 0 || placed.output.channels % params->groups != 0) {
        return "channels of its input and of its filter make no whole groups";
    }
    return NULL;
}

static const char *make_depthwise(tflnest_depthwise_conv_params *params, const tflnest_options *options,
                                  const tflnest_dimensions *input, tflnest_dimensions *output)
{
    windows placed = {0};
    const char *problem = place_windows(&placed, options, input, output);
    if (problem != NULL) {
        return problem;
    }
    params->input = placed.input;
    params->output = placed.output;
    params->filter = placed.filter;
    params->stride = placed.stride;
    params->dilation = placed.dilation;
    params->padding = placed.padding;
    params->tile_channels = tile_channels((int64_t)placed.filter.height * placed.filter.width);
    const int32_t multiplier = placed.output.channels / placed.input.channels;
    if (multiplier * placed.input.channels != placed.output.channels || multiplier < 1 ||
        (options->depth_multiplier != 0 && options->depth_multiplier != multiplier)) {
        return "its depth multiplier, input channels and output channels contradict each other";
    }
    return NULL;
}

static const char *make_fully_connected(tflnest_fully_connected_params *params, const tflnest_options *options,
                                        const tflnest_dimensions *input, tflnest_dimensions *output)
{
    int64_t elements = 1;
    for (uint32_t i = 0; i < input->rank; i++) {
        elements *= input->values[i];
        if (elements < 1 || elements > INT32_MAX) {
            return "its input is too large, or empty";
        }
    }
    const int32_t inputs = options->filter_shape.values[1];
    if (input->rank < 1 || elements % inputs != 0) {
        return "its input has no whole number of rows";
    }
    params->inputs = inputs;
    params->outputs = (int32_t)options->channels;
    params->batches = (int32_t)(elements / inputs);
    params->tile_channels = tile_channels(inputs);
    if (options->keep_num_dims) {
        if (input->values[input->rank - 1] != inputs) {
            return "the last dimension of its input is not that of its filter";
        }
        *output = *input;
    } else {
        output->rank = 2;
        output->values[0] = params->batches;
    }
    output->values[output->rank - 1] = params->outputs;
    return NULL;
}

/* Whether a scale is positive and finite, and a zero point int8. */
static int is_quantization(tflnest_quantization quantization)
{
    return quantization.scale > 0.0f && quantization.scale <= 3.4028234e38f && quantization.zero_point >= INT8_MIN &&
           quantization.zero_point <= INT8_MAX;
}

const char *tflnest_call_make(tflnest_call *call, const tflnest_options *options, const tflnest_dimensions *input,
                              tflnest_quantization from, tflnest_quantization to, tflnest_dimensions *output)
{
    tflnest_requantization *requantization = &call->params.fully_connected.requantization;
    const char *problem;
    if (!is_quantization(from) || !is_quantization(to)) {
        return "its activations are not quantized with one positive scale and an int8 zero point";
    }
    memset(call, 0, sizeof *call);
    call->stock = options->stock;
    if (call->stock == TFLNEST_STOCK_CONV_2D) {
        requantization = &call->params.conv.requantization;
        problem = make_conv(&call->params.conv, options, input, output);
    } else if (call->stock == TFLNEST_STOCK_DEPTHWISE_CONV_2D) {
        requantization = &call->params.depthwise.requantization;
        problem = make_depthwise(&call->params.depthwise, options, input, output);
    } else {
        problem = make_fully_connected(&call->params.fully_connected, options, input, output);
    }
    return problem != NULL ? problem
                           : set_requantization(requantization, options->fused_activation_function, from, to);
}

void tflnest_call_set_tile(tflnest_call *call, int32_t channels)
{
    switch (call->stock) {
    case TFLNEST_STOCK_CONV_2D: call->params.conv.tile_channels = channels; break;
    case TFLNEST_STOCK_DEPTHWISE_CONV_2D: call->params.depthwise.tile_channels = channels; break;
    default: call->params.fully_connected.tile_channels = channels; break;
    }
}

int tflnest_call_is_sound(const tflnest_call *call, const tflnest_filter *filter)
{
    switch (call->stock) {
    case TFLNEST_STOCK_CONV_2D: return tflnest_conv_check(&call->params.conv, filter) == TFLNEST_OK;
    case TFLNEST_STOCK_DEPTHWISE_CONV_2D:
        return tflnest_depthwise_conv_check(&call->params.depthwise, filter) == TFLNEST_OK;
    default: return tflnest_fully_connected_check(&call->params.fully_connected, filter) == TFLNEST_OK;
    }
}

uint32_t tflnest_call_scratch(const tflnest_call *call)
{
    switch (call->stock) {
    case TFLNEST_STOCK_CONV_2D: return tflnest_conv_get_buffer_size(&call->params.conv);
    case TFLNEST_STOCK_DEPTHWISE_CONV_2D: return tflnest_depthwise_conv_get_buffer_size(&call->params.depthwise);
    default: return tflnest_fully_connected_get_buffer_size(&call->params.fully_connected);
    }
}

static void run_conv(const tflnest_conv_params *params, const tflnest_filter *filter, const int8_t *input,
                     int8_t *output, void *scratch)
{
    if (params->tile_channels == 0) {
        tflnest_conv_unbuffered_s8(params, filter, input, output);
    } else {
        tflnest_conv_s8(params, filter, input, output, scratch);
    }
}

static void run_depthwise(const tflnest_depthwise_conv_params *params, const tflnest_filter *filter,
                          const int8_t *input, int8_t *output, void *scratch)
{
    if (params->tile_channels == 0) {
        tflnest_depthwise_conv_unbuffered_s8(params, filter, input, output);
    } else {
        tflnest_depthwise_conv_s8(params, filter, input, output, scratch);
    }
}

static void run_fully_connected(const tflnest_fully_connected_params *params, const tflnest_filter *filter,
                                const int8_t *input, int8_t *output, void *scratch)
{
    if (params->tile_channels == 0) {
        tflnest_fully_connected_unbuffered_s8(params, filter, input, output);
    } else {
        tflnest_fully_connected_s8(params, filter, input, output, scratch);
    }
}

void tflnest_call_run(const tflnest_call *call, const tflnest_filter *filter, const int8_t *input, int8_t *output,
                      void *scratch)
{
    switch (call->stock) {
    case TFLNEST_STOCK_CONV_2D: run_conv(&call->params.conv, filter, input, output, scratch); break;
    case TFLNEST_STOCK_DEPTHWISE_CONV_2D:
        run_depthwise(&call->params.depthwise, filter, input, output, scratch);
        break;
    default: run_fully_connected(&call->params.fully_connected, filter, input, output, scratch); break;
    }
}
