#include "tflnest/tflnest_lookup.h"

tflnest_status tflnest_lookup_check(const tflnest_lookup_params *params)
{
    return params->size >= 1 && params->table != NULL ? TFLNEST_OK : TFLNEST_ERROR_ARGUMENT;
}

void tflnest_lookup_s8(const tflnest_lookup_params *params, const int8_t *input, int8_t *output)
{
    const uint8_t *from = (const uint8_t *)input;
    const int8_t *table = params->table;
    for (int32_t i = 0; i < params->size; i++) {
        output[i] = table[from[i]];
    }
}

tflnest_status tflnest_lookup_wide_check(const tflnest_lookup_wide_params *params)
{
    return params->size >= 1 && params->table != NULL ? TFLNEST_OK : TFLNEST_ERROR_ARGUMENT;
}

void tflnest_lookup_wide_s32(const tflnest_lookup_wide_params *params, const int8_t *input, int32_t *output)
{
    const uint8_t *from = (const uint8_t *)input;
    for (int32_t i = 0; i < params->size; i++) {
        output[i] = params->table[from[i]];
    }
}

void tflnest_lookup_wide_s16(const tflnest_lookup_wide_params *params, const int8_t *input, int16_t *output)
{
    const uint8_t *from = (const uint8_t *)input;
    for (int32_t i = 0; i < params->size; i++) {
        output[i] = (int16_t)params->table[from[i]];
    }
}
