#include "tflnest/tflnest_mul.h"

#include "tflnest_arithmetic.h"
#include "tflnest_output.h"
#include "tflnest_ranges.h"
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

static void mul_run(const void *parameters, const tflnest_broadcast *broadcast, const int8_t *first,
                    const int8_t *second, int8_t *output)
{
    /* A copy: a store to the output might change what `params` points to. */
    const tflnest_mul_params p = *(const tflnest_mul_params *)parameters;
    const tflnest_broadcast walk = *broadcast;
    for (int32_t i = 0; i < walk.run; i++) {
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
