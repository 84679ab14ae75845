#include "tflnest/tflnest_lookup.h"

tflnest_status tflnest_lookup_check(const tflnest_lookup_params *params)
{
    return params->size >= 1 && params->table != NULL ? TFLNEST_OK : TFLNEST_ERROR_ARGUMENT;
}

void tflnest_lookup_s8(const tflnest_lookup_params *params, const int8_t *input, int8_t *output)
{
    const uint8_t *from = (const uint8_t *)input;
    const int8_t *table = params->table;
    const int32_t size = params->size;
    int32_t done = 0;
    for (; done + 4 <= size; done += 4) {
        const uint8_t a = from[done];
        const uint8_t b = from[done + 1];
        const uint8_t c = from[done + 2];
        const uint8_t d = from[done + 3];
        output[done] = table[a];
        output[done + 1] = table[b];
        output[done + 2] = table[c];
        output[done + 3] = table[d];
    }
    for (; done < size; done++) {
        output[done] = table[from[done]];
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
