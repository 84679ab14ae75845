#include "tflnest/tflnest_transpose_conv.h"

#include "tflnest_output.h"
#include "tflnest_ranges.h"
#include "tflnest_geometry.h"

/* Taps of the filter that reach one output along an axis: every `stride`th from `tap` on. */
typedef struct {
    int32_t tap;   /* the first one */
    int32_t pixel; /* of the input that it takes; each further tap takes the pixel before */
} arrivals;

static int factors_are_sound(const tflnest_transpose_conv_params *params)
{
    const int32_t count = params->per_channel ? params->output.channels : 1;
    for (int32_t i = 0; i < count; i++) {
        if (!tflnest_is_factor(params->multipliers[i], params->shifts[i])) {
            return 0;
        }
    }
    return 1;
}

tflnest_status tflnest_transpose_conv_check(const tflnest_transpose_conv_params *params)
{
    const tflnest_extent *filter = &params->filter;
    if (!tflnest_shape_is_sound(&params->input) || !tflnest_shape_is_sound(&params->output) ||
        params->input.batches != params->output.batches || !tflnest_extent_is_sound(filter, 1) ||
        !tflnest_extent_is_sound(&params->stride, 1) || !tflnest_extent_is_sound(&params->padding, 0) ||
        !tflnest_requantization_is_sound(&params->requantization) ||
        !tflnest_is_between(params->per_channel, 0, 1) || params->weights == NULL ||
        params->multipliers == NULL || params->shifts == NULL) {
        return TFLNEST_ERROR_ARGUMENT;
    }
    const tflnest_shape taps = {params->output.channels, filter->height, filter->width, params->input.channels};
    if (!tflnest_shape_is_sound(&taps) || !factors_are_sound(params)) {
        return TFLNEST_ERROR_ARGUMENT;
    }
    return TFLNEST_OK;
}

static arrivals arriving(int32_t position, int32_t stride, int32_t size)
{
    arrivals result = {position % stride, position / stride};
    if (result.pixel >= size) {
        result.tap += (result.pixel - (size - 1)) * stride;
        result.pixel = size - 1;
    }
    return result;
}

/* The sum of one output: all taps that reach it, over all input channels. */
static int32_t gather(const tflnest_transpose_conv_params *params, const int8_t *input, const int8_t *weights,
                      arrivals rows, arrivals columns)
{
    const int32_t channels = params->input.channels;
    const int32_t zero_point = params->requantization.input_zero_point;
    int32_t sum = 0;
    for (; rows.tap < params->filter.height && rows.pixel >= 0; rows.tap += params->stride.height, rows.pixel--) {
        int32_t tap = columns.tap;
        int32_t pixel = columns.pixel;
        for (; tap < params->filter.width && pixel >= 0; tap += params->stride.width, pixel--) {
            const int8_t *x = input + (rows.pixel * params->input.width + pixel) * channels;
            const int8_t *w = weights + (rows.tap * params->filter.width + tap) * channels;
            for (int32_t c = 0; c < channels; c++) {
                sum = tflnest_add_wrapping(sum, (x[c] - zero_point) * w[c]);
            }
        }
    }
    return sum;
}

static void output_pixel(const tflnest_transpose_conv_params *params, const int8_t *input, int8_t *output,
                         arrivals rows, arrivals columns)
{
    const tflnest_requantization *range = &params->requantization;
    const int32_t step = params->filter.height * params->filter.width * params->input.channels;
    const int8_t *weights = params->weights;
    for (int32_t c = 0; c < params->output.channels; c++) {
        const int32_t factor = params->per_channel ? c : 0;
        int32_t sum = gather(params, input, weights, rows, columns);
        if (params->bias != NULL) {
            sum = tflnest_add_wrapping(sum, params->bias[c]);
        }
        sum = tflnest_requantize(sum, params->multipliers[factor], params->shifts[factor]);
        output[c] = tflnest_to_int8(sum, range->output_zero_point, range->activation_min, range->activation_max);
        weights += step;
    }
}

void tflnest_transpose_conv_s8(const tflnest_transpose_conv_params *params, const int8_t *input, int8_t *output)
{
    const tflnest_shape *in = &params->input;
    const tflnest_shape *out = &params->output;
    for (int32_t sample = 0; sample < in->batches; sample++) {
        for (int32_t y = 0; y < out->height; y++) {
            const arrivals rows = arriving(y + params->padding.height, params->stride.height, in->height);
            for (int32_t x = 0; x < out->width; x++) {
                const arrivals columns = arriving(x + params->padding.width, params->stride.width, in->width);
                output_pixel(params, input, output, rows, columns);
                output += out->channels;
            }
        }
        input += in->height * in->width * in->channels;
    }
}
