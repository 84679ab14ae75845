#include "tflnest/tflnest_quantize.h"

#include "tflnest_arithmetic.h"
#include "tflnest_ranges.h"

tflnest_status tflnest_quantize_check(const tflnest_quantize_params *params)
{
    return params->size >= 1 &&
                   (params->output_bytes == 1 || params->output_bytes == 2 || params->output_bytes == 4) &&
                   tflnest_is_factor(params->multiplier, params->shift)
               ? TFLNEST_OK
               : TFLNEST_ERROR_ARGUMENT;
}

static int32_t saturated(int64_t value, int32_t low, int32_t high)
{
    return value < low ? low : value > high ? high : (int32_t)value;
}

static void quantize_one(const tflnest_quantize_params *params, int32_t value, int32_t index, void *output)
{
    const int32_t centred = saturated((int64_t)value - params->input_zero_point, INT32_MIN, INT32_MAX);
    const int64_t scaled =
        (int64_t)tflnest_requantize(centred, params->multiplier, params->shift) + params->output_zero_point;
    if (params->output_bytes == 1) {
        ((int8_t *)output)[index] = (int8_t)saturated(scaled, INT8_MIN, INT8_MAX);
    } else if (params->output_bytes == 2) {
        ((int16_t *)output)[index] = (int16_t)saturated(scaled, INT16_MIN, INT16_MAX);
    } else {
        ((int32_t *)output)[index] = saturated(scaled, INT32_MIN, INT32_MAX);
    }
}

void tflnest_quantize_s16(const tflnest_quantize_params *params, const int16_t *input, void *output)
{
    for (int32_t i = 0; i < params->size; i++) {
        quantize_one(params, input[i], i, output);
    }
}

void tflnest_quantize_s32(const tflnest_quantize_params *params, const int32_t *input, void *output)
{
    for (int32_t i = 0; i < params->size; i++) {
        quantize_one(params, input[i], i, output);
    }
}
