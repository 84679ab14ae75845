/* AVERAGE_POOL_2D and MAX_POOL_2D, int8. */
#ifndef TFLNEST_POOL_H
#define TFLNEST_POOL_H

#include "tflnest/tflnest_types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What is fixed of a pooling operator. Every window holds at least one pixel of the input. */
typedef struct {
    tflnest_shape input;
    tflnest_shape output;  /* batches and channels as in the input */
    tflnest_extent filter; /* 1 or more */
    tflnest_extent stride; /* 1 or more */
    tflnest_extent padding; /* rows above and columns left of the input, 0 or more, less than the filter */
    int32_t activation_min; /* -128 to activation_max */
    int32_t activation_max; /* activation_min to 127 */
} tflnest_pool_params;

/* Check parameters once, before `tflnest_average_pool_s8` is called with them. */
tflnest_status tflnest_average_pool_check(const tflnest_pool_params *params);

/* The mean of each window, ties away from zero; padding does not count.
 *
 * input   int8, shape params->input.
 * output  int8, shape params->output; must not overlap the input. */
void tflnest_average_pool_s8(const tflnest_pool_params *params, const int8_t *input, int8_t *output);

/* Check parameters once, before `tflnest_max_pool_s8` is called with them. */
tflnest_status tflnest_max_pool_check(const tflnest_pool_params *params);

/* The largest value of each window; otherwise like `tflnest_average_pool_s8`. */
void tflnest_max_pool_s8(const tflnest_pool_params *params, const int8_t *input, int8_t *output);

#ifdef __cplusplus
}
#endif

#endif
