/* MEAN, SUM and ARG_MAX, int8. */
#ifndef TFLNEST_REDUCE_H
#define TFLNEST_REDUCE_H

#include "tflnest/tflnest_loops.h"
#include "tflnest/tflnest_types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What is fixed of a sum over some axes.
 *
 * For every turn of the kept loops, `run` neighbouring outputs are computed from as many neighbouring inputs at
 * every turn of the reduced loops. Loops count in elements of the input, which is first; second_step is 0. */
typedef struct {
    int32_t run;                       /* 1 or more */
    int32_t input_size;                /* elements of the input, which no turn leaves */
    int32_t output_size;               /* elements of the output: those of all runs */
    int32_t kept_count;                /* 0 to TFLNEST_MAX_LOOPS */
    int32_t reduced_count;             /* 0 to TFLNEST_MAX_LOOPS */
    const tflnest_loop *kept_loops;    /* outermost first */
    const tflnest_loop *reduced_loops; /* in any order */
    int32_t offset;            /* added to every sum, modulo 2^32: minus the zero point times the count */
    int32_t multiplier;        /* Q0.31, 0 to 2^31 - 1 */
    int32_t shift;             /* -31 to 30, positive = left; a left shift wraps at 32 bits */
    int32_t output_zero_point; /* -128 to 127 */
} tflnest_sum_params;

/* Check parameters once, before `tflnest_sum_s8` is called with them. */
tflnest_status tflnest_sum_check(const tflnest_sum_params *params);

/* Sum and requantize; a mean is a sum with a smaller multiplier.
 *
 * input   int8; at most 2^24 elements per sum.
 * output  int8; must not overlap the input. */
void tflnest_sum_s8(const tflnest_sum_params *params, const int8_t *input, int8_t *output);

/* What is fixed of an ARG_MAX: the input has the shape (outer, axis, inner). */
typedef struct {
    int32_t outer;        /* 1 or more */
    int32_t axis;         /* 1 or more */
    int32_t inner;        /* 1 or more */
    int32_t output_words; /* 32-bit words of one output: 1 for INT32, 2 for INT64 */
} tflnest_arg_max_params;

/* Check parameters once, before `tflnest_arg_max_s8` is called with them. */
tflnest_status tflnest_arg_max_check(const tflnest_arg_max_params *params);

/* The index of the largest value along the axis, the first one among equals.
 *
 * input   int8, shape (outer, axis, inner).
 * output  int32 or little-endian int64, shape (outer, inner); must not overlap the input. */
void tflnest_arg_max_s8(const tflnest_arg_max_params *params, const int8_t *input, int32_t *output);

#ifdef __cplusplus
}
#endif

#endif
