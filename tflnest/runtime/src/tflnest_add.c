#include "tflnest/tflnest_add.h"

#include "tflnest_arithmetic.h"
#include "tflnest_ranges.h"
#include "tflnest_simd.h"
#include "tflnest_variant.h"
#include "tflnest_walk.h"

tflnest_status tflnest_add_check(const tflnest_add_params *params)
{
    const int32_t factor = params->first_factor;
    if ((factor != 1 << 19 && factor != -(1 << 19)) || (params->second_sign != 1 && params->second_sign != -1) ||
        !tflnest_is_int8(params->first_zero_point) || !tflnest_is_int8(params->second_zero_point) ||
        !tflnest_is_between(params->second_left, 20, 21) || !tflnest_is_between(params->second_right, 1, 31) ||
        !tflnest_is_factor(params->second_multiplier, -params->second_right) ||
        (params->second_left == 21 && params->second_multiplier > 1 << 30) ||
        !tflnest_is_between(params->output_right, 0, 31) ||
        !tflnest_is_factor(params->output_multiplier, -params->output_right) ||
        !tflnest_is_int8(params->output_zero_point) ||
        !tflnest_is_int8_range(params->activation_min, params->activation_max)) {
        return TFLNEST_ERROR_ARGUMENT;
    }
    return tflnest_broadcast_check(&params->broadcast);
}

/* `count` outputs in plain C, for any parameters and steps. */
static inline void add_portable(const tflnest_add_params *params, int32_t count, const int8_t *first,
                                int32_t first_step, const int8_t *second, int32_t second_step, int8_t *output)
{
    /* Copies: a store to the output might change what `params` points to. */
    const tflnest_add_params p = *params;
    const int32_t half = 1 << (p.second_right - 1);
    const int32_t output_half = p.output_right > 0 ? 1 << (p.output_right - 1) : 0;
    const int32_t sign_mask = p.output_right > 0 ? -1 : 0;
    const int32_t low = p.activation_min - p.output_zero_point;
    const int32_t high = p.activation_max - p.output_zero_point;
    for (int32_t i = 0; i < count; i++) {
        const int32_t a = (first[i * first_step] - p.first_zero_point) * p.first_factor;
        int32_t b = (second[i * second_step] - p.second_zero_point) * (1 << p.second_left);
        b = tflnest_requantize_right(b, p.second_multiplier, half, p.second_right);
        const int32_t sum = tflnest_doubling_high_multiply(a + p.second_sign * b, p.output_multiplier);
        const int32_t scaled = (sum + (output_half + ((sum >> 31) & sign_mask))) >> p.output_right;
        output[i] = (int8_t)(tflnest_clamp(scaled, low, high) + p.output_zero_point);
    }
}

#if defined(TFLNEST_SIMD_DSP) || defined(TFLNEST_SIMD_MVE)
/* Whether the quick forms compute with these parameters. */
static int is_quick(const tflnest_add_params *params)
{
    return params->second_sign == 1 && params->output_right >= 1 && params->output_right <= 22;
}
#endif

#if defined(TFLNEST_SIMD_DSP)
/* The output for a pair of centred values. */
TFLNEST_INLINE int32_t output_one(const tflnest_add_params *p, int32_t rounding, int32_t x, int32_t y)
{
    const int32_t half = 1 << (p->second_right - 1);
    const int32_t a = (int32_t)((uint32_t)y << (p->second_left + 1));
    const int32_t b = (tflnest_high_multiply_add(a, p->second_multiplier, half) + (a >> 31)) >> p->second_right;
    return tflnest_requantize_quick(x * p->first_factor + b, p->output_multiplier, rounding, p->output_right);
}

static int32_t add_quick(const tflnest_add_params *params, int32_t count, const int8_t *first,
                         const int8_t *second, int8_t *output)
{
    const tflnest_add_params p = *params;
    const int32_t rounding = (1 << (p.output_right - 1)) + p.output_zero_point * (1 << p.output_right);
    const uint32_t low = tflnest_repeat_byte(p.activation_min);
    const uint32_t high = tflnest_repeat_byte(p.activation_max);
    const int32_t first_base = -p.first_zero_point;
    const int32_t second_base = -p.second_zero_point;
    int32_t done = 0;
    for (; done + 4 <= count; done += 4) {
        const uint32_t x = tflnest_load_word(first + done);
        const uint32_t y = tflnest_load_word(second + done);
        int32_t x0, x1, x2, x3, y0, y1, y2, y3;
        TFLNEST_ADD_BYTE(x0, first_base, x, 0);
        TFLNEST_ADD_BYTE(x1, first_base, x, 1);
        TFLNEST_ADD_BYTE(x2, first_base, x, 2);
        TFLNEST_ADD_BYTE(x3, first_base, x, 3);
        TFLNEST_ADD_BYTE(y0, second_base, y, 0);
        TFLNEST_ADD_BYTE(y1, second_base, y, 1);
        TFLNEST_ADD_BYTE(y2, second_base, y, 2);
        TFLNEST_ADD_BYTE(y3, second_base, y, 3);
        const uint32_t word = tflnest_pack_bytes(
            output_one(&p, rounding, x0, y0), output_one(&p, rounding, x1, y1),
            output_one(&p, rounding, x2, y2), output_one(&p, rounding, x3, y3));
        tflnest_store_word(output + done, tflnest_min_bytes(tflnest_max_bytes(word, low), high));
    }
    return done;
}
#elif defined(TFLNEST_SIMD_MVE)
static int32_t add_quick(const tflnest_add_params *params, int32_t count, const int8_t *first,
                         const int8_t *second, int8_t *output)
{
    const tflnest_add_params p = *params;
    const int32x4_t second_factor = vdupq_n_s32(1 << p.second_left);
    const int32_t second_addend = -p.second_zero_point * (1 << p.second_left);
    const int32_t first_addend = -p.first_zero_point * p.first_factor;
    const int32x4_t low = vdupq_n_s32(p.activation_min);
    const int32x4_t high = vdupq_n_s32(p.activation_max);
    int32_t done = 0;
    for (; done + 4 <= count; done += 4) {
        int32x4_t b = vmlasq_n_s32(vldrbq_s32(second + done), second_factor, second_addend);
        b = vqrdmulhq_n_s32(b, p.second_multiplier);
        b = vrshlq_n_s32(vaddq_s32(b, vshrq_n_s32(b, 31)), -p.second_right);
        int32x4_t sum = vmlaq_n_s32(vaddq_n_s32(b, first_addend), vldrbq_s32(first + done), p.first_factor);
        sum = vqrdmulhq_n_s32(sum, p.output_multiplier);
        sum = vrshlq_n_s32(vaddq_s32(sum, vshrq_n_s32(sum, 31)), -p.output_right);
        sum = vaddq_n_s32(sum, p.output_zero_point);
        vstrbq_s32(output + done, vminq_s32(vmaxq_s32(sum, low), high));
    }
    return done;
}
#endif

static void add_run(const void *parameters, const tflnest_broadcast *broadcast, const int8_t *first,
                    const int8_t *second, int8_t *output)
{
    const tflnest_add_params *params = (const tflnest_add_params *)parameters;
    int32_t done = 0;
#if TFLNEST_VARIANT == TFLNEST_VARIANT_WIDE
    if (broadcast->first_step == 1 && broadcast->second_step == 1) {
        add_portable(params, broadcast->run, first, 1, second, 1, output); /* compilers make SIMD of it */
        return;
    }
#endif
#if defined(TFLNEST_SIMD_DSP) || defined(TFLNEST_SIMD_MVE)
    if (broadcast->first_step == 1 && broadcast->second_step == 1 && is_quick(params)) {
        done = add_quick(params, broadcast->run, first, second, output);
    }
#endif
    add_portable(params, broadcast->run - done, first + done * broadcast->first_step, broadcast->first_step,
                 second + done * broadcast->second_step, broadcast->second_step, output + done);
}

void tflnest_add_s8(const tflnest_add_params *params, const int8_t *first, const int8_t *second, int8_t *output)
{
    tflnest_broadcast_runs(&params->broadcast, add_run, params, first, second, output);
}
