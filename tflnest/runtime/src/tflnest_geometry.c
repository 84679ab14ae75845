#include "tflnest_geometry.h"

static int is_dimension(int32_t value)
{
    return value >= 1 && value <= TFLNEST_MAX_DIMENSION;
}

int tflnest_shape_is_sound(const tflnest_shape *shape)
{
    if (!is_dimension(shape->batches) || !is_dimension(shape->height) || !is_dimension(shape->width) ||
        !is_dimension(shape->channels)) {
        return 0;
    }
    int64_t elements = (int64_t)shape->batches * shape->height;
    if (elements > INT32_MAX) {
        return 0;
    }
    elements *= shape->width;
    return elements <= INT32_MAX && elements * shape->channels <= INT32_MAX;
}

int tflnest_extent_is_sound(const tflnest_extent *extent, int32_t low)
{
    return extent->height >= low && extent->height <= TFLNEST_MAX_DIMENSION && extent->width >= low &&
           extent->width <= TFLNEST_MAX_DIMENSION;
}

static int is_int8(int32_t value)
{
    return value >= INT8_MIN && value <= INT8_MAX;
}

int tflnest_requantization_is_sound(const tflnest_requantization *requantization)
{
    return is_int8(requantization->input_zero_point) && is_int8(requantization->output_zero_point) &&
           is_int8(requantization->activation_min) && is_int8(requantization->activation_max) &&
           requantization->activation_min <= requantization->activation_max;
}
