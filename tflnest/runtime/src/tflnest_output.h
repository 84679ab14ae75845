/* The last step of quantized operators. */
#ifndef TFLNEST_OUTPUT_H
#define TFLNEST_OUTPUT_H

#include "tflnest_arithmetic.h"

/* A scaled value plus the zero point, clamped. The bounds are moved instead of the value, which may be any. */
static inline int8_t tflnest_to_int8(int32_t scaled, int32_t zero_point, int32_t low, int32_t high)
{
    return (int8_t)(tflnest_clamp(scaled, low - zero_point, high - zero_point) + zero_point);
}

#endif
