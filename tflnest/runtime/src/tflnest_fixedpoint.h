/* Reciprocals in fixed point, as gemmlowp and TensorFlow Lite for Microcontrollers compute them. */
#ifndef TFLNEST_FIXEDPOINT_H
#define TFLNEST_FIXEDPOINT_H

#include "tflnest_arithmetic.h"

/* Leading zero bits of a value that is not 0. */
static inline int32_t tflnest_leading_zeros(uint32_t value)
{
#if defined(__GNUC__)
    return (int32_t)__builtin_clzl((unsigned long)value) - (int32_t)(8u * sizeof(unsigned long) - 32u);
#else
    int32_t zeros = 0;
    while ((value & UINT32_C(0x80000000)) == 0u) {
        value <<= 1;
        zeros++;
    }
    return zeros;
#endif
}

/* x * 2^bits, limited to 32 bits; bits is 0 to 31. */
static inline int32_t tflnest_shift_left_saturating(int32_t x, int32_t bits)
{
    const int64_t shifted = (int64_t)x * (INT64_C(1) << bits);
    return shifted > INT32_MAX ? INT32_MAX : shifted < INT32_MIN ? INT32_MIN : (int32_t)shifted;
}

/* 1 / (1 + x) for x in [0, 1), both Q0.31, by three steps of Newton's method in Q2.29. */
static inline int32_t tflnest_one_over_one_plus(int32_t x)
{
    const int32_t half_denominator = (int32_t)(((uint32_t)x + UINT32_C(0x80000000)) >> 1);
    /* 48/17 - 32/17 * half the denominator */
    int32_t estimate = 1515870810 + tflnest_doubling_high_multiply(-1010580540, half_denominator);
    for (int32_t step = 0; step < 3; step++) {
        const int32_t error = (1 << 29) - tflnest_doubling_high_multiply(half_denominator, estimate);
        estimate += tflnest_doubling_high_multiply(error, estimate) * 4;
    }
    return tflnest_shift_left_saturating(estimate, 1);
}

#endif
