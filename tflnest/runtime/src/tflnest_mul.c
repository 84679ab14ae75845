#include "tflnest/tflnest_mul.h"

#include "tflnest_arithmetic.h"
#include "tflnest_output.h"
#include "tflnest_ranges.h"
#include "tflnest_simd.h"
#include "tflnest_walk.h"

tflnest_status tflnest_mul_check(const tflnest_mul_params *params)
{
    if (!tflnest_is_int8(params->first_zero_point) || !tflnest_is_int8(params->second_zero_point) ||
        !tflnest_is_int8(params->output_zero_point) || !tflnest_is_factor(params->multiplier, params->shift) ||
        !tflnest_is_int8_range(params->activation_min, params->activation_max)) {
        return TFLNEST_ERROR_ARGUMENT;
    }
    return tflnest_broadcast_check(&params->broadcast);
}

/* As many outputs of two contiguous inputs as fill whole vectors, where the factor is less than one half; returns
 * how many. */
static int32_t mul_quick(const tflnest_mul_params *params, int32_t count, const int8_t *first,
                         const int8_t *second, int8_t *output)
{
    int32_t done = 0;
#if defined(TFLNEST_SIMD_DSP)
    const int32_t right = -params->shift;
    const int32_t multiplier = params->multiplier;
    const int32_t rounding = (1 << (right - 1)) + params->output_zero_point * (1 << right);
    const uint32_t low = tflnest_repeat_byte(params->activation_min);
    const uint32_t high = tflnest_repeat_byte(params->activation_max);
    const uint32_t first_base = tflnest_repeat_half(-params->first_zero_point);
    const uint32_t second_base = tflnest_repeat_half(-params->second_zero_point);
    for (; done + 4 <= count; done += 4) {
        const uint32_t x = tflnest_load_word(first + done);
        const uint32_t y = tflnest_load_word(second + done);
        const uint32_t x_even = tflnest_add_even_bytes(first_base, x);
        const uint32_t y_even = tflnest_add_even_bytes(second_base, y);
        const uint32_t x_odd = tflnest_add_odd_bytes(first_base, x);
        const uint32_t y_odd = tflnest_add_odd_bytes(second_base, y);
        const int32_t a = tflnest_requantize_quick(tflnest_multiply_bottom(x_even, y_even), multiplier, rounding, right);
        const int32_t b = tflnest_requantize_quick(tflnest_multiply_bottom(x_odd, y_odd), multiplier, rounding, right);
        const int32_t c = tflnest_requantize_quick(tflnest_multiply_top(x_even, y_even), multiplier, rounding, right);
        const int32_t d = tflnest_requantize_quick(tflnest_multiply_top(x_odd, y_odd), multiplier, rounding, right);
        const uint32_t word = tflnest_pack_bytes(a, b, c, d);
        tflnest_store_word(output + done, tflnest_min_bytes(tflnest_max_bytes(word, low), high));
    }
#elif defined(TFLNEST_SIMD_MVE)
    const tflnest_mul_params p = *params;
    const int32x4_t low = vdupq_n_s32(p.activation_min);
    const int32x4_t high = vdupq_n_s32(p.activation_max);
    for (; done + 4 <= count; done += 4) {
        const int32x4_t x = vsubq_n_s32(vldrbq_s32(first + done), p.first_zero_point);
        const int32x4_t y = vsubq_n_s32(vldrbq_s32(second + done), p.second_zero_point);
        int32x4_t value = vqrdmulhq_n_s32(vmulq_s32(x, y), p.multiplier);
        value = vrshlq_n_s32(vaddq_s32(value, vshrq_n_s32(value, 31)), p.shift);
        value = vaddq_n_s32(value, p.output_zero_point);
        vstrbq_s32(output + done, vminq_s32(vmaxq_s32(value, low), high));
    }
#else
    (void)params, (void)count, (void)first, (void)second, (void)output;
#endif
    return done;
}

static void mul_run(const void *parameters, const tflnest_broadcast *broadcast, const int8_t *first,
                    const int8_t *second, int8_t *output)
{
    /* A copy: a store to the output might change what `params` points to. */
    const tflnest_mul_params p = *(const tflnest_mul_params *)parameters;
    const tflnest_broadcast walk = *broadcast;
    int32_t done = 0;
    if (walk.first_step == 1 && walk.second_step == 1 && tflnest_is_between(p.shift, -22, -1)) {
        done = mul_quick(&p, walk.run, first, second, output);
    }
    first += done * walk.first_step;
    second += done * walk.second_step;
    output += done;
    for (int32_t i = done; i < walk.run; i++) {
        const int32_t product = (*first - p.first_zero_point) * (*second - p.second_zero_point);
        const int32_t scaled = tflnest_requantize(product, p.multiplier, p.shift);
        *output++ = tflnest_to_int8(scaled, p.output_zero_point, p.activation_min, p.activation_max);
        first += walk.first_step;
        second += walk.second_step;
    }
}

void tflnest_mul_s8(const tflnest_mul_params *params, const int8_t *first, const int8_t *second, int8_t *output)
{
    tflnest_broadcast_runs(&params->broadcast, mul_run, params, first, second, output);
}

tflnest_status tflnest_prelu_check(const tflnest_prelu_params *params)
{
    if (!tflnest_is_int8(params->first_zero_point) || !tflnest_is_int8(params->second_zero_point) ||
        !tflnest_is_int8(params->output_zero_point) ||
        !tflnest_is_factor(params->identity_multiplier, params->identity_shift) ||
        !tflnest_is_factor(params->slope_multiplier, params->slope_shift)) {
        return TFLNEST_ERROR_ARGUMENT;
    }
    return tflnest_broadcast_check(&params->broadcast);
}

static void prelu_run(const void *parameters, const tflnest_broadcast *broadcast, const int8_t *first,
                      const int8_t *second, int8_t *output)
{
    /* A copy: a store to the output might change what `params` points to. */
    const tflnest_prelu_params p = *(const tflnest_prelu_params *)parameters;
    const tflnest_broadcast walk = *broadcast;
    for (int32_t i = 0; i < walk.run; i++) {
        int32_t value = *first - p.first_zero_point;
        if (value >= 0) {
            value = tflnest_requantize(value, p.identity_multiplier, p.identity_shift);
        } else {
            value *= *second - p.second_zero_point;
            value = tflnest_requantize(value, p.slope_multiplier, p.slope_shift);
        }
        *output++ = tflnest_to_int8(value, p.output_zero_point, INT8_MIN, INT8_MAX);
        first += walk.first_step;
        second += walk.second_step;
    }
}

void tflnest_prelu_s8(const tflnest_prelu_params *params, const int8_t *first, const int8_t *second,
                      int8_t *output)
{
    tflnest_broadcast_runs(&params->broadcast, prelu_run, params, first, second, output);
}
