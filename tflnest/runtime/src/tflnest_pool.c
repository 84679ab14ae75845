#include "tflnest/tflnest_pool.h"

#include "tflnest_arithmetic.h"
#include "tflnest_ranges.h"
#include "tflnest_geometry.h"

/* The part of a window that lies on the input. */
typedef struct {
    const int8_t *pixels; /* its first one */
    int32_t rows;
    int32_t columns;
    int32_t row_step; /* elements from one row to the next */
    int32_t channels; /* elements from one column to the next */
} pool_window;

/* Computes one output pixel. */
typedef void (*pool_pixel)(const tflnest_pool_params *params, const pool_window *window, int8_t *output);

static int axis_is_sane(int32_t input, int32_t output, int32_t filter, int32_t stride, int32_t padding)
{
    return filter >= 1 && stride >= 1 && tflnest_is_between(padding, 0, filter - 1) &&
           (int64_t)(output - 1) * stride - padding < input;
}

static tflnest_status check(const tflnest_pool_params *params)
{
    const tflnest_shape *in = &params->input;
    const tflnest_shape *out = &params->output;
    if (!tflnest_shape_is_sound(in) || !tflnest_shape_is_sound(out) || in->batches != out->batches ||
        in->channels != out->channels ||
        !axis_is_sane(in->height, out->height, params->filter.height, params->stride.height,
                      params->padding.height) ||
        !axis_is_sane(in->width, out->width, params->filter.width, params->stride.width, params->padding.width) ||
        !tflnest_is_int8_range(params->activation_min, params->activation_max)) {
        return TFLNEST_ERROR_ARGUMENT;
    }
    return TFLNEST_OK;
}

tflnest_status tflnest_average_pool_check(const tflnest_pool_params *params)
{
    return check(params);
}

tflnest_status tflnest_max_pool_check(const tflnest_pool_params *params)
{
    return check(params);
}

static void pool(const tflnest_pool_params *params, pool_pixel pixel, const int8_t *input, int8_t *output)
{
    const tflnest_shape *in = &params->input;
    const tflnest_shape *out = &params->output;
    pool_window window;
    window.channels = in->channels;
    window.row_step = in->width * in->channels;
    for (int32_t sample = 0; sample < in->batches; sample++) {
        int32_t top = -params->padding.height;
        for (int32_t y = 0; y < out->height; y++) {
            const int32_t first_row = tflnest_max(top, 0);
            int32_t left = -params->padding.width;
            window.rows = tflnest_min(top + params->filter.height, in->height) - first_row;
            for (int32_t x = 0; x < out->width; x++) {
                const int32_t first_column = tflnest_max(left, 0);
                window.columns = tflnest_min(left + params->filter.width, in->width) - first_column;
                window.pixels = input + first_row * window.row_step + first_column * in->channels;
                pixel(params, &window, output);
                output += in->channels;
                left += params->stride.width;
            }
            top += params->stride.height;
        }
        input += in->height * window.row_step;
    }
}

static int8_t mean(const tflnest_pool_params *params, int32_t sum, int32_t count)
{
    const int32_t half = count / 2;
    const int32_t rounded = (sum > 0 ? sum + half : sum - half) / count;
    return (int8_t)tflnest_clamp(rounded, params->activation_min, params->activation_max);
}

static void average_pixel(const tflnest_pool_params *params, const pool_window *window, int8_t *output)
{
    const int32_t channels = window->channels;
    const int32_t count = window->rows * window->columns;
    int32_t channel = 0;
    for (; channel + 4 <= channels; channel += 4) {
        const int8_t *row = window->pixels + channel;
        int32_t sums[4] = {0, 0, 0, 0};
        for (int32_t y = 0; y < window->rows; y++) {
            const int8_t *next = row;
            for (int32_t x = 0; x < window->columns; x++) {
                sums[0] += next[0];
                sums[1] += next[1];
                sums[2] += next[2];
                sums[3] += next[3];
                next += channels;
            }
            row += window->row_step;
        }
        for (int32_t i = 0; i < 4; i++) {
            output[channel + i] = mean(params, sums[i], count);
        }
    }
    for (; channel < channels; channel++) {
        int32_t sum = 0;
        for (int32_t y = 0; y < window->rows; y++) {
            const int8_t *next = window->pixels + y * window->row_step + channel;
            for (int32_t x = 0; x < window->columns; x++) {
                sum += *next;
                next += channels;
            }
        }
        output[channel] = mean(params, sum, count);
    }
}

static void max_pixel(const tflnest_pool_params *params, const pool_window *window, int8_t *output)
{
    const int32_t channels = window->channels;
    for (int32_t channel = 0; channel < channels; channel++) {
        int32_t largest = INT8_MIN;
        for (int32_t y = 0; y < window->rows; y++) {
            const int8_t *next = window->pixels + y * window->row_step + channel;
            for (int32_t x = 0; x < window->columns; x++) {
                largest = tflnest_max(largest, *next);
                next += channels;
            }
        }
        output[channel] = (int8_t)tflnest_clamp(largest, params->activation_min, params->activation_max);
    }
}

void tflnest_average_pool_s8(const tflnest_pool_params *params, const int8_t *input, int8_t *output)
{
    pool(params, average_pixel, input, output);
}

void tflnest_max_pool_s8(const tflnest_pool_params *params, const int8_t *input, int8_t *output)
{
    pool(params, max_pixel, input, output);
}
