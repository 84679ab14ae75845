#include "tflnest/tflnest_l2_normalization.h"

#include "tflnest_fixedpoint.h"
#include "tflnest_output.h"
#include "tflnest_ranges.h"

/* The output is in 128ths. */
#define OUTPUT_BITS 7

/* sqrt(2) / 2 in Q0.31. */
#define HALF_SQRT_2 1518500250

typedef struct {
    int32_t multiplier;
    int32_t shift;
} factor;

tflnest_status tflnest_l2_normalization_check(const tflnest_l2_normalization_params *params)
{
    return params->rows >= 1 && tflnest_is_between(params->depth, 1, TFLNEST_L2_NORMALIZATION_MAX_DEPTH) &&
                   tflnest_is_int8(params->zero_point)
               ? TFLNEST_OK
               : TFLNEST_ERROR_ARGUMENT;
}

/* 1 / sqrt(value) for values from 0, which counts as 1, to 2^31 - 1, by five steps of Newton's method in Q3.28. */
static factor inverse_square_root(int32_t value)
{
    factor result = {INT32_MAX, 0};
    int32_t shift = 11;
    if (value <= 1) {
        return result;
    }
    if (value >= 1 << 29) {
        value >>= 2;
        shift++;
    }
    const int32_t pairs = (tflnest_leading_zeros((uint32_t)value) - 1) / 2 - 1;
    shift -= pairs;
    value = (value << (2 * pairs)) >> 1;
    const int32_t half = (value + 1) >> 1;
    int32_t estimate = 1 << 28;
    for (int32_t step = 0; step < 5; step++) {
        const int32_t square = tflnest_doubling_high_multiply(estimate, estimate);
        const int32_t cube =
            tflnest_shift_left_saturating(tflnest_doubling_high_multiply(square, estimate), 6);
        const int32_t change = tflnest_doubling_high_multiply(3 << 27, estimate) -
                               tflnest_doubling_high_multiply(half, cube);
        estimate = tflnest_shift_left_saturating(change, 3);
    }
    estimate = tflnest_doubling_high_multiply(estimate, HALF_SQRT_2);
    result.multiplier = shift < 0 ? estimate * (1 << -shift) : estimate;
    result.shift = -tflnest_max(shift, 0);
    return result;
}

void tflnest_l2_normalization_s8(const tflnest_l2_normalization_params *params, const int8_t *input,
                                 int8_t *output)
{
    for (int32_t row = 0; row < params->rows; row++) {
        int32_t squares = 0;
        for (int32_t i = 0; i < params->depth; i++) {
            const int32_t centred = input[i] - params->zero_point;
            squares += centred * centred;
        }
        const factor inverse = inverse_square_root(squares);
        for (int32_t i = 0; i < params->depth; i++) {
            const int32_t scaled = tflnest_requantize(input[i] - params->zero_point, inverse.multiplier,
                                                      inverse.shift + OUTPUT_BITS);
            output[i] = tflnest_to_int8(scaled, 0, INT8_MIN, INT8_MAX);
        }
        input += params->depth;
        output += params->depth;
    }
}
