#include "tflnest_geometry.h"

#include "tflnest_ranges.h"

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

/* The farthest position of a tap along one axis, from the padding on; more than 31 bits where it is too far. */
static int64_t reach(int32_t positions, int32_t stride, int32_t taps, int32_t dilation, int32_t padding)
{
    return (int64_t)positions * stride + (int64_t)taps * dilation + padding;
}

static int window_is_sound(const tflnest_sliding_window *window, const tflnest_shape *input,
                           const tflnest_shape *output)
{
    if (!tflnest_extent_is_sound(&window->filter, 1) || !tflnest_extent_is_sound(&window->stride, 1) ||
        !tflnest_extent_is_sound(&window->dilation, 1) || !tflnest_extent_is_sound(&window->padding, 0)) {
        return 0;
    }
    const int64_t rows = reach(output->height, window->stride.height, window->filter.height,
                               window->dilation.height, window->padding.height);
    const int64_t columns = reach(output->width, window->stride.width, window->filter.width,
                                  window->dilation.width, window->padding.width);
    if (rows > INT32_MAX || columns > INT32_MAX) {
        return 0;
    }
    return rows * input->width * input->channels + columns * input->channels <= INT32_MAX;
}

int tflnest_requantization_is_sound(const tflnest_requantization *requantization)
{
    return tflnest_is_int8(requantization->input_zero_point) && tflnest_is_int8(requantization->output_zero_point) &&
           tflnest_is_int8_range(requantization->activation_min, requantization->activation_max);
}

int tflnest_convolution_is_sound(const tflnest_sliding_window *window, const tflnest_shape *input,
                                 const tflnest_shape *output, const tflnest_requantization *requantization)
{
    return tflnest_shape_is_sound(input) && tflnest_shape_is_sound(output) && input->batches == output->batches &&
           tflnest_requantization_is_sound(requantization) && window_is_sound(window, input, output);
}
