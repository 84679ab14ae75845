/* Geometry that convolutions share. */
#ifndef TFLNEST_GEOMETRY_H
#define TFLNEST_GEOMETRY_H

#include "tflnest/tflnest_types.h"

/* Largest dimension: products of two of them fit 64 bits, and coordinates with padding 32 bits. */
#define TFLNEST_MAX_DIMENSION ((INT32_C(1) << 24) - 1)

/* Taps of a window along one axis that lie inside the image. */
typedef struct {
    int32_t first;
    int32_t end;
} tflnest_taps;

/* Taps first to end - 1 of `count` lie inside an image of `size`, where tap 0 lies at `origin`. */
static inline tflnest_taps tflnest_taps_inside(int32_t origin, int32_t count, int32_t dilation, int32_t size)
{
    tflnest_taps taps = {0, count};
    if (origin < 0) {
        taps.first = (-origin + dilation - 1) / dilation;
    }
    if (origin + (count - 1) * dilation >= size) {
        taps.end = origin >= size ? 0 : (size - origin + dilation - 1) / dilation;
    }
    if (taps.first > taps.end) {
        taps.first = taps.end;
    }
    return taps;
}

/* Whether all dimensions are in range, and the elements can be counted in 31 bits. */
int tflnest_shape_is_sound(const tflnest_shape *shape);

/* Whether an extent lies between `low` and TFLNEST_MAX_DIMENSION. */
int tflnest_extent_is_sound(const tflnest_extent *extent, int32_t low);

/* How a window moves over an image. */
typedef struct {
    tflnest_extent filter;
    tflnest_extent stride;
    tflnest_extent dilation;
    tflnest_extent padding;
} tflnest_sliding_window;

/* Whether zero points and activation range are in their ranges. */
int tflnest_requantization_is_sound(const tflnest_requantization *requantization);

/* Whether all that is in its range, with as many images going in as out, and the offset of every tap from the start of
 * an image, inside it or not, fits 31 bits. */
int tflnest_convolution_is_sound(const tflnest_sliding_window *window, const tflnest_shape *input,
                                 const tflnest_shape *output, const tflnest_requantization *requantization);

#endif
