#include "tflnest/tflnest_resize.h"

#include <string.h>

#include "tflnest_arithmetic.h"
#include "tflnest_ranges.h"
#include "tflnest_geometry.h"

/* Fraction bits of positions. */
#define FRACTION_BITS 10
#define ONE (1 << FRACTION_BITS)

/* Two neighbours along an axis and the weight of the second, in 1,024ths. */
typedef struct {
    int32_t first;
    int32_t second;
    int32_t weight;
} neighbours;

static int axis_is_sound(int32_t output, int32_t scale, int32_t offset)
{
    return scale >= 0 && tflnest_is_between(offset, -(INT32_MAX / 2), INT32_MAX / 2) &&
           (int64_t)(output - 1) * scale < INT32_MAX / 2 - ONE;
}

static int shapes_go_together(const tflnest_shape *input, const tflnest_shape *output)
{
    return tflnest_shape_is_sound(input) && tflnest_shape_is_sound(output) &&
           input->batches == output->batches && input->channels == output->channels;
}

tflnest_status tflnest_resize_bilinear_check(const tflnest_resize_bilinear_params *params)
{
    const tflnest_shape *out = &params->output;
    return shapes_go_together(&params->input, out) &&
                   axis_is_sound(out->height, params->scale.height, params->offset.height) &&
                   axis_is_sound(out->width, params->scale.width, params->offset.width)
               ? TFLNEST_OK
               : TFLNEST_ERROR_ARGUMENT;
}

static neighbours around(int32_t position, int32_t size)
{
    neighbours result;
    result.first = tflnest_clamp(position >> FRACTION_BITS, 0, size - 1);
    result.second = tflnest_clamp((position + ONE - 1) >> FRACTION_BITS, 0, size - 1);
    /* Beyond an edge both are the same pixel, whatever the weight. */
    result.weight = result.first == result.second ? 0 : position - result.first * ONE;
    return result;
}

/* A quotient by 2^20, ties away from zero. */
static int8_t rounded(int32_t total)
{
    const int32_t half = 1 << (2 * FRACTION_BITS - 1);
    return (int8_t)((total + half - (total < 0)) >> (2 * FRACTION_BITS));
}

void tflnest_resize_bilinear_s8(const tflnest_resize_bilinear_params *params, const int8_t *input,
                                int8_t *output)
{
    const tflnest_shape *in = &params->input;
    const tflnest_shape *out = &params->output;
    const int32_t row_step = in->width * in->channels;
    for (int32_t sample = 0; sample < in->batches; sample++) {
        for (int32_t y = 0; y < out->height; y++) {
            const neighbours rows = around(y * params->scale.height + params->offset.height, in->height);
            const int8_t *top = input + rows.first * row_step;
            const int8_t *bottom = input + rows.second * row_step;
            for (int32_t x = 0; x < out->width; x++) {
                const neighbours columns = around(x * params->scale.width + params->offset.width, in->width);
                const int32_t left = columns.first * in->channels;
                const int32_t right = columns.second * in->channels;
                for (int32_t c = 0; c < in->channels; c++) {
                    const int32_t at_left = top[left + c] * (ONE - rows.weight) + bottom[left + c] * rows.weight;
                    const int32_t at_right =
                        top[right + c] * (ONE - rows.weight) + bottom[right + c] * rows.weight;
                    *output++ = rounded(at_left * (ONE - columns.weight) + at_right * columns.weight);
                }
            }
        }
        input += in->height * row_step;
    }
}

static int are_indices(const int32_t *indices, int32_t count, int32_t size)
{
    for (int32_t i = 0; i < count; i++) {
        if (!tflnest_is_between(indices[i], 0, size - 1)) {
            return 0;
        }
    }
    return 1;
}

tflnest_status tflnest_resize_nearest_check(const tflnest_resize_nearest_params *params)
{
    return shapes_go_together(&params->input, &params->output) && params->rows != NULL &&
                   params->columns != NULL &&
                   are_indices(params->rows, params->output.height, params->input.height) &&
                   are_indices(params->columns, params->output.width, params->input.width)
               ? TFLNEST_OK
               : TFLNEST_ERROR_ARGUMENT;
}

void tflnest_resize_nearest_bytes(const tflnest_resize_nearest_params *params, const uint8_t *input,
                                  uint8_t *output)
{
    const tflnest_shape *in = &params->input;
    const tflnest_shape *out = &params->output;
    const size_t pixel = (size_t)in->channels;
    const size_t row_step = (size_t)in->width * pixel;
    for (int32_t sample = 0; sample < in->batches; sample++) {
        for (int32_t y = 0; y < out->height; y++) {
            const uint8_t *row = input + (size_t)params->rows[y] * row_step;
            for (int32_t x = 0; x < out->width; x++) {
                memcpy(output, row + (size_t)params->columns[x] * pixel, pixel);
                output += pixel;
            }
        }
        input += (size_t)in->height * row_step;
    }
}
