/* A walk along nested loops over two tensors. */
#ifndef TFLNEST_WALK_H
#define TFLNEST_WALK_H

#include "tflnest/tflnest_loops.h"

/* Most elements or bytes of a tensor that loops walk over: sums of steps stay far from overflow. */
#define TFLNEST_MAX_EXTENT (INT32_C(1) << 30)

/* Where a walk is; all zeros at its start. */
typedef struct {
    int32_t first;
    int32_t second;
    int32_t turns[TFLNEST_MAX_LOOPS];
} tflnest_walk;

/* Go on to the next turn of the innermost loop; 0 after the last one, with the walk back at its start. */
int tflnest_walk_next(tflnest_walk *walk, const tflnest_loop *loops, int32_t loop_count);

/* Turns of all loops together; 0 where loops are missing, not 1 to 8, or too many turns. */
int32_t tflnest_loops_turns(const tflnest_loop *loops, int32_t loop_count);

/* Whether a run from an offset stays within a tensor at every turn.
 *
 * second  1: the second tensor of the loops, 0: the first
 * offset  of the run at the start of the walk
 * run     elements or bytes, 1 or more
 * size    of the tensor */
int tflnest_loops_stay_inside(const tflnest_loop *loops, int32_t loop_count, int second, int32_t offset,
                              int32_t run, int32_t size);

/* Computes one run of a binary operator. */
typedef void (*tflnest_run)(const void *params, const tflnest_broadcast *broadcast, const int8_t *first,
                            const int8_t *second, int8_t *output);

/* Compute all runs of a binary operator. */
void tflnest_broadcast_runs(const tflnest_broadcast *broadcast, tflnest_run run, const void *params,
                            const int8_t *first, const int8_t *second, int8_t *output);

#endif
