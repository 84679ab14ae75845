/* Fixed-point arithmetic of TensorFlow Lite for Microcontrollers, double rounding. */
#ifndef TFLNEST_ARITHMETIC_H
#define TFLNEST_ARITHMETIC_H

#include "tflnest/tflnest_types.h"
#include "tflnest_variant.h"

static inline int32_t tflnest_max(int32_t a, int32_t b)
{
    return a > b ? a : b;
}

static inline int32_t tflnest_min(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static inline int32_t tflnest_clamp(int32_t value, int32_t low, int32_t high)
{
    return tflnest_min(tflnest_max(value, low), high);
}

/* Sum and product modulo 2^32, as registers compute them. */
static inline int32_t tflnest_add_wrapping(int32_t a, int32_t b)
{
    return (int32_t)((uint32_t)a + (uint32_t)b);
}

static inline int32_t tflnest_multiply_wrapping(int32_t a, int32_t b)
{
    return (int32_t)((uint32_t)a * (uint32_t)b);
}

/* High 32 bits of 2ab, rounded to nearest, ties up; b is not negative, so nothing saturates. */
static inline int32_t tflnest_doubling_high_multiply(int32_t a, int32_t b)
{
    return (int32_t)(((int64_t)a * b + (INT64_C(1) << 30)) >> 31);
}

/* acc * multiplier / 2^31 * 2^shift for any accumulator.
 *
 * multiplier 0 to 2^31 - 1
 * shift      -31 to 30; a left shift wraps at 32 bits, a right one rounds ties away from zero
 */
static inline int32_t tflnest_requantize(int32_t acc, int32_t multiplier, int32_t shift)
{
    const int32_t left = tflnest_max(shift, 0);
    const int32_t right = tflnest_max(-shift, 0);
    const int32_t high = tflnest_doubling_high_multiply((int32_t)((uint32_t)acc << left), multiplier);
    const uint32_t mask = (UINT32_C(1) << right) - 1u;
    return (high >> right) + (((uint32_t)high & mask) > (mask >> 1) + (uint32_t)(high < 0));
}

/* The same as `tflnest_doubling_high_multiply` for |a| < 2^30. */
static inline int32_t tflnest_doubling_high_multiply_small(int32_t a, int32_t b)
{
#if TFLNEST_VARIANT == TFLNEST_VARIANT_DSP
    int32_t high;
    __asm("smmulr %0, %1, %2" : "=r"(high) : "r"(a * 2), "r"(b));
    return high;
#else
    return tflnest_doubling_high_multiply(a, b);
#endif
}

/* The same as `tflnest_requantize` for shift = -right with 1 <= right <= 23 and |acc| < 2^29, plus the zero point.
 *
 * rounding 2^(right - 1) + (zero point << right): the zero point is added before the shift
 */
static inline int32_t tflnest_requantize_right(int32_t acc, int32_t multiplier, int32_t rounding, int32_t right)
{
    const int32_t high = tflnest_doubling_high_multiply_small(acc, multiplier);
    return (high + (rounding + (high >> 31))) >> right;
}

#endif
