/* RESIZE_BILINEAR and RESIZE_NEAREST_NEIGHBOR. */
#ifndef TFLNEST_RESIZE_H
#define TFLNEST_RESIZE_H

#include "tflnest/tflnest_types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What is fixed of a bilinear resize. Output pixel i lies at i * scale + offset of the input, in 1,024ths of a
 * pixel. */
typedef struct {
    tflnest_shape input;
    tflnest_shape output;  /* batches and channels as in the input */
    tflnest_extent scale;  /* 0 or more; (output - 1) * scale + |offset| < 2^31 along both axes */
    tflnest_extent offset;
} tflnest_resize_bilinear_params;

/* Check parameters once, before `tflnest_resize_bilinear_s8` is called with them. */
tflnest_status tflnest_resize_bilinear_check(const tflnest_resize_bilinear_params *params);

/* Interpolate; ties are rounded away from zero.
 *
 * input   int8, shape params->input.
 * output  int8, shape params->output; must not overlap the input. */
void tflnest_resize_bilinear_s8(const tflnest_resize_bilinear_params *params, const int8_t *input,
                                int8_t *output);

/* What is fixed of a resize that repeats pixels. */
typedef struct {
    tflnest_shape input;    /* channels: bytes of one pixel */
    tflnest_shape output;   /* batches and channels as in the input */
    const int32_t *rows;    /* row of the input for each of the output, output.height values */
    const int32_t *columns; /* column of the input for each of the output, output.width values */
} tflnest_resize_nearest_params;

/* Check parameters once, before `tflnest_resize_nearest_bytes` is called with them. */
tflnest_status tflnest_resize_nearest_check(const tflnest_resize_nearest_params *params);

/* Repeat pixels.
 *
 * input   any type, shape params->input.
 * output  same type, shape params->output; must not overlap the input. */
void tflnest_resize_nearest_bytes(const tflnest_resize_nearest_params *params, const uint8_t *input,
                                  uint8_t *output);

#ifdef __cplusplus
}
#endif

#endif
