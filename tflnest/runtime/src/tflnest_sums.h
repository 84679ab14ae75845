/* Sums of neighbouring channels over a window of pixels. */
#ifndef TFLNEST_SUMS_H
#define TFLNEST_SUMS_H

#include "tflnest_simd.h"

/* The part of a window that lies on the input. */
typedef struct {
    const int8_t *pixels; /* its first one */
    int32_t rows;
    int32_t columns;
    int32_t row_step; /* elements from one row to the next */
    int32_t channels; /* elements from one column to the next */
} tflnest_window;

/* Most pixels of a window: the sums are kept in int16. */
#define TFLNEST_MAX_SUMMED 256

/* Channels that are summed up together. */
#if defined(TFLNEST_SIMD_MVE)
#define TFLNEST_LANES 8
#else
#define TFLNEST_LANES 4
#endif

/* Where the sum of channel `first + i` lies in the result of `tflnest_sum_lanes`. */
static inline int32_t tflnest_lane(int32_t i)
{
#if defined(TFLNEST_SIMD_MVE)
    return (i & 1) * 4 + i / 2;
#else
    return i;
#endif
}

#if defined(TFLNEST_SIMD_MVE)
/* Sums of TFLNEST_LANES channels of a window of at most TFLNEST_MAX_SUMMED pixels. */
static inline int16x8_t tflnest_sum_vector(const tflnest_window *window, int32_t first)
{
    const int8_t *row = window->pixels + first;
    int16x8_t sum = vdupq_n_s16(0);
    for (int32_t y = 0; y < window->rows; y++) {
        const int8_t *next = row;
        for (int32_t x = window->columns; x > 0; x--) {
            sum = vaddq_s16(sum, vldrbq_s16(next));
            next += window->channels;
        }
        row += window->row_step;
    }
    return sum;
}
#endif

/* Sum up TFLNEST_LANES channels of a window of at most TFLNEST_MAX_SUMMED pixels. */
static inline void tflnest_sum_lanes(const tflnest_window *window, int32_t first, int32_t *sums)
{
#if defined(TFLNEST_SIMD_MVE)
    const int16x8_t sum = tflnest_sum_vector(window, first);
    vst1q_s32(sums, vmovlbq_s16(sum));
    vst1q_s32(sums + 4, vmovltq_s16(sum));
#elif defined(TFLNEST_SIMD_DSP)
    const int8_t *row = window->pixels + first;
    uint32_t even = 0;
    uint32_t odd = 0;
    for (int32_t y = 0; y < window->rows; y++) {
        const int8_t *next = row;
        for (int32_t x = window->columns; x > 0; x--) {
            const uint32_t word = tflnest_load_word(next);
            even = tflnest_add_even_bytes(even, word);
            odd = tflnest_add_odd_bytes(odd, word);
            next += window->channels;
        }
        row += window->row_step;
    }
    sums[0] = (int16_t)even;
    sums[1] = (int16_t)odd;
    sums[2] = (int32_t)even >> 16;
    sums[3] = (int32_t)odd >> 16;
#else
    const int8_t *row = window->pixels + first;
    int32_t a = 0, b = 0, c = 0, d = 0;
    for (int32_t y = 0; y < window->rows; y++) {
        const int8_t *next = row;
        for (int32_t x = window->columns; x > 0; x--) {
            a += next[0];
            b += next[1];
            c += next[2];
            d += next[3];
            next += window->channels;
        }
        row += window->row_step;
    }
    sums[0] = a;
    sums[1] = b;
    sums[2] = c;
    sums[3] = d;
#endif
}

#endif
