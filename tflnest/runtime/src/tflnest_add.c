#include "tflnest/tflnest_add.h"

#include "tflnest_arithmetic.h"
#include "tflnest_output.h"
#include "tflnest_ranges.h"
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

static void add_run(const void *parameters, const tflnest_broadcast *broadcast, const int8_t *first,
                    const int8_t *second, int8_t *output)
{
    const tflnest_add_params *params = (const tflnest_add_params *)parameters;
    for (int32_t i = 0; i < broadcast->run; i++) {
        const int32_t a = (*first - params->first_zero_point) * params->first_factor;
        const int32_t shifted = (*second - params->second_zero_point) * (1 << params->second_left);
        const int32_t b = tflnest_requantize(shifted, params->second_multiplier, -params->second_right);
        const int32_t sum = a + params->second_sign * b;
        const int32_t scaled = tflnest_requantize(sum, params->output_multiplier, -params->output_right);
        *output++ = tflnest_to_int8(scaled, params->output_zero_point, params->activation_min,
                                    params->activation_max);
        first += broadcast->first_step;
        second += broadcast->second_step;
    }
}

void tflnest_add_s8(const tflnest_add_params *params, const int8_t *first, const int8_t *second, int8_t *output)
{
    tflnest_broadcast_runs(&params->broadcast, add_run, params, first, second, output);
}
