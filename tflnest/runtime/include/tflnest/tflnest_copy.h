/* Data movement, any type: RESHAPE, SQUEEZE, EXPAND_DIMS, TRANSPOSE, PAD, CONCATENATION, PACK, SPLIT, UNPACK,
 * SLICE, STRIDED_SLICE and narrowing CAST are copies of runs of bytes along nested loops. */
#ifndef TFLNEST_COPY_H
#define TFLNEST_COPY_H

#include "tflnest/tflnest_loops.h"
#include "tflnest/tflnest_types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What is fixed of a copy: `run` bytes for every turn of the loops, outermost first. Loops count in bytes; first
 * is the input, second the output. */
typedef struct {
    int32_t run;           /* bytes, 1 or more */
    int32_t input_size;    /* bytes of the input, which no run leaves */
    int32_t output_size;   /* bytes of the output */
    int32_t input_offset;  /* where the first run starts in the input, 0 or more */
    int32_t output_offset; /* where it goes in the output, 0 or more */
    int32_t fill_size;     /* bytes at the start of the output that are set to `fill` before, 0 or more */
    int32_t fill;          /* 0 to 255 */
    int32_t loop_count;    /* 0 to TFLNEST_MAX_LOOPS */
    const tflnest_loop *loops;
} tflnest_copy_params;

/* Check parameters once, before `tflnest_copy_bytes` is called with them. */
tflnest_status tflnest_copy_check(const tflnest_copy_params *params);

/* Fill and copy.
 *
 * input   any type.
 * output  must not overlap the input. */
void tflnest_copy_bytes(const tflnest_copy_params *params, const uint8_t *input, uint8_t *output);

#ifdef __cplusplus
}
#endif

#endif
