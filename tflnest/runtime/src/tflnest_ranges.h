/* What `_check` functions ask of parameters. */
#ifndef TFLNEST_RANGES_H
#define TFLNEST_RANGES_H

#include "tflnest/tflnest_types.h"

static inline int tflnest_is_between(int32_t value, int32_t low, int32_t high)
{
    return value >= low && value <= high;
}

static inline int tflnest_is_int8(int32_t value)
{
    return tflnest_is_between(value, INT8_MIN, INT8_MAX);
}

/* Whether a multiplier and a shift are what `tflnest_requantize` takes. */
static inline int tflnest_is_factor(int32_t multiplier, int32_t shift)
{
    return multiplier >= 0 && tflnest_is_between(shift, -31, 30);
}

/* Whether an activation range is an interval of int8 values. */
static inline int tflnest_is_int8_range(int32_t low, int32_t high)
{
    return tflnest_is_int8(low) && tflnest_is_int8(high) && low <= high;
}

#endif
