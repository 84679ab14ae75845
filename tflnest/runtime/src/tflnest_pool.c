#include "tflnest/tflnest_pool.h"

#include "tflnest_arithmetic.h"
#include "tflnest_ranges.h"
#include "tflnest_simd.h"
#include "tflnest_sums.h"
#include "tflnest_geometry.h"

/* Computes one output pixel. */
typedef void (*pool_pixel)(const tflnest_pool_params *params, const tflnest_window *window, int8_t *output);

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
    tflnest_window window;
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

#if defined(TFLNEST_SIMD_MVE)
/* `mean` of four sums without the clamp. The quotient by the count is a product with its reciprocal, 2^31 / count
 * rounded up: numerators are below 2^16 and counts at most 2^8, so that the error stays below one. */
static inline int32x4_t means(int32x4_t sums, int32_t half, uint32x4_t reciprocal)
{
    const int32x4_t sign = vshrq_n_s32(sums, 31);
    const uint32x4_t numerators = vreinterpretq_u32_s32(vaddq_n_s32(vabsq_s32(sums), half));
    const uint32x4_t quotients = vmulhq_u32(vshlq_n_u32(numerators, 1), reciprocal);
    return vsubq_s32(veorq_s32(vreinterpretq_s32_u32(quotients), sign), sign);
}
#endif

/* As many outputs of a pixel as fill whole vectors; returns how many. */
static int32_t average_quick(const tflnest_pool_params *params, const tflnest_window *window, int8_t *output)
{
    const int32_t count = window->rows * window->columns;
    int32_t channel = 0;
    if (count > TFLNEST_MAX_SUMMED) {
        return 0;
    }
#if defined(TFLNEST_SIMD_MVE)
    const int32_t half = count / 2;
    const uint32_t divisor = (uint32_t)count;
    const uint32x4_t reciprocal = vdupq_n_u32(((UINT32_C(1) << 31) + divisor - 1u) / divisor);
    const int16x8_t low = vdupq_n_s16((int16_t)params->activation_min);
    const int16x8_t high = vdupq_n_s16((int16_t)params->activation_max);
    for (; channel + TFLNEST_LANES <= window->channels; channel += TFLNEST_LANES) {
        const int16x8_t sums = tflnest_sum_vector(window, channel);
        int16x8_t result = vmovnbq_s32(sums, means(vmovlbq_s16(sums), half, reciprocal));
        result = vmovntq_s32(result, means(vmovltq_s16(sums), half, reciprocal));
        vstrbq_s16(output + channel, vminq_s16(vmaxq_s16(result, low), high));
    }
#else
    for (; channel + TFLNEST_LANES <= window->channels; channel += TFLNEST_LANES) {
        int32_t sums[TFLNEST_LANES];
        tflnest_sum_lanes(window, channel, sums);
        for (int32_t i = 0; i < TFLNEST_LANES; i++) {
            output[channel + i] = mean(params, sums[i], count);
        }
    }
#endif
    return channel;
}

static void average_pixel(const tflnest_pool_params *params, const tflnest_window *window, int8_t *output)
{
    const int32_t channels = window->channels;
    const int32_t count = window->rows * window->columns;
    for (int32_t channel = average_quick(params, window, output); channel < channels; channel++) {
        const int8_t *row = window->pixels + channel;
        int32_t sum = 0;
        for (int32_t y = 0; y < window->rows; y++) {
            const int8_t *next = row;
            for (int32_t x = window->columns; x > 0; x--) {
                sum += *next;
                next += channels;
            }
            row += window->row_step;
        }
        output[channel] = mean(params, sum, count);
    }
}

/* As many outputs of a pixel as fill whole vectors; returns how many. */
static int32_t max_quick(const tflnest_pool_params *params, const tflnest_window *window, int8_t *output)
{
    int32_t channel = 0;
#if defined(TFLNEST_SIMD_DSP)
    const uint32_t low = tflnest_repeat_byte(params->activation_min);
    const uint32_t high = tflnest_repeat_byte(params->activation_max);
    for (; channel + 4 <= window->channels; channel += 4) {
        const int8_t *row = window->pixels + channel;
        uint32_t largest = low;
        for (int32_t y = 0; y < window->rows; y++) {
            const int8_t *next = row;
            for (int32_t x = window->columns; x > 0; x--) {
                largest = tflnest_max_bytes(largest, tflnest_load_word(next));
                next += window->channels;
            }
            row += window->row_step;
        }
        tflnest_store_word(output + channel, tflnest_min_bytes(largest, high));
    }
#elif defined(TFLNEST_SIMD_MVE)
    const int8x16_t high = vdupq_n_s8((int8_t)params->activation_max);
    for (; channel + 16 <= window->channels; channel += 16) {
        const int8_t *row = window->pixels + channel;
        int8x16_t largest = vdupq_n_s8((int8_t)params->activation_min);
        for (int32_t y = 0; y < window->rows; y++) {
            const int8_t *next = row;
            for (int32_t x = window->columns; x > 0; x--) {
                largest = vmaxq_s8(largest, vldrbq_s8(next));
                next += window->channels;
            }
            row += window->row_step;
        }
        vstrbq_s8(output + channel, vminq_s8(largest, high));
    }
#else
    (void)params, (void)window, (void)output;
#endif
    return channel;
}

static void max_pixel(const tflnest_pool_params *params, const tflnest_window *window, int8_t *output)
{
    const int32_t channels = window->channels;
    for (int32_t channel = max_quick(params, window, output); channel < channels; channel++) {
        const int8_t *row = window->pixels + channel;
        int32_t largest = params->activation_min;
        for (int32_t y = 0; y < window->rows; y++) {
            const int8_t *next = row;
            for (int32_t x = window->columns; x > 0; x--) {
                largest = tflnest_max(largest, *next);
                next += channels;
            }
            row += window->row_step;
        }
        output[channel] = (int8_t)tflnest_min(largest, params->activation_max);
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
