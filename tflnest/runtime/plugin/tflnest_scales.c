#include "tflnest_scales.h"

#include <float.h>
#include <string.h>

/* Whether a filter scale gives this multiplier and shift (FORMAT.md, section 7.2). */
static int gives(float input, float filter, float output, int32_t multiplier, int32_t shift)
{
    const double factor = (double)input * (double)filter / (double)output;
    uint64_t bits;
    memcpy(&bits, &factor, sizeof bits);
    /* The factor is neither zero nor subnormal: floats are too large for that. */
    int32_t exponent = (int32_t)(bits >> 52) - 1022;
    const uint64_t mantissa = (bits & ((UINT64_C(1) << 52) - 1)) | UINT64_C(1) << 52;
    uint64_t rounded = (mantissa + (UINT64_C(1) << 21)) >> 22;
    if (rounded == UINT64_C(1) << 31) {
        rounded >>= 1;
        exponent++;
    }
    if (exponent < -31) {
        rounded = 0;
        exponent = 0;
    }
    return (int64_t)rounded == multiplier && exponent == shift;
}

/* The float whose bits are `step` higher. */
static float neighbour(float value, int32_t step)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits += (uint32_t)step;
    memcpy(&value, &bits, sizeof bits);
    return value;
}

float tflnest_recover_scale(float input, float output, int32_t multiplier, int32_t shift)
{
    const double real = (double)multiplier / (double)(UINT64_C(1) << (31 - shift));
    const double wanted = real * (double)output / (double)input;
    if (!(wanted < (double)FLT_MAX)) {
        return 0.0f;
    }
    const float nearest = (float)wanted;
    const float candidates[] = {nearest, nearest > 0.0f ? neighbour(nearest, -1) : nearest, neighbour(nearest, 1)};
    for (int i = 0; i < 3; i++) {
        if (candidates[i] > 0.0f && candidates[i] <= FLT_MAX &&
            gives(input, candidates[i], output, multiplier, shift)) {
            return candidates[i];
        }
    }
    return 0.0f;
}
