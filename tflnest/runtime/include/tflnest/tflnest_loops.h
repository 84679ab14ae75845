/* Nested loops over strided memory, which several kernels share. */
#ifndef TFLNEST_LOOPS_H
#define TFLNEST_LOOPS_H

#include "tflnest/tflnest_types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Most loops that a kernel nests. */
#define TFLNEST_MAX_LOOPS 8

/* One loop. What "first" and "second" are, and in which unit steps count, is the kernel's to say. */
typedef struct {
    int32_t count;       /* turns, 1 or more */
    int32_t first_step;  /* from one turn to the next in the first tensor; may be 0 or negative */
    int32_t second_step; /* likewise in the second tensor */
} tflnest_loop;

/* Elements of two int8 inputs that go together, in the order of a contiguous output.
 *
 * A run of `run` outputs is computed for every turn of the loops, outermost first; within it, an input moves by
 * one element per output (step 1) or stays (step 0). Loops count in elements; first and second are the inputs.
 */
typedef struct {
    int32_t run;         /* 1 or more */
    int32_t first_step;  /* 0 or 1 */
    int32_t second_step; /* 0 or 1 */
    int32_t first_size;  /* elements of the first input, which no turn leaves */
    int32_t second_size; /* elements of the second input */
    int32_t output_size; /* elements of the output: those of all runs */
    int32_t loop_count;  /* 0 to TFLNEST_MAX_LOOPS */
    const tflnest_loop *loops;
} tflnest_broadcast;

/* Whether the loops are complete and stay within the inputs. */
tflnest_status tflnest_broadcast_check(const tflnest_broadcast *broadcast);

#ifdef __cplusplus
}
#endif

#endif
