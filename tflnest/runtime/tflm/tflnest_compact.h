/* What a nested operator keeps in the arena: everything else is in the file, or in the tensors of TFLM. */
#ifndef TFLNEST_COMPACT_H
#define TFLNEST_COMPACT_H

#include "tflnest_nested_call.h"
#include "tflnest_nested_filter.h"

/* Most scratch buffers of an interpreter. */
#define TFLNEST_COMPACT_MAX_SCRATCH 1022

/* Of the index in `scratch`. */
#define TFLNEST_COMPACT_INDEX_MASK 0x3FF

/* Of every operator. */
typedef struct {
    int8_t input_zero_point;
    int8_t output_zero_point;
    int8_t activation_min;
    int8_t activation_max;
    uint8_t levels;   /* bit b - 1: an own level of b bits */
    uint8_t running;  /* position of the own level in bits 0 to 2, which of the inputs that bring something has its
                         multipliers in 3 to 5, whether a bias is in front of them in bit 6; the scheme in bit 7 */
    uint16_t scratch; /* index plus 1, or 0 for none, in bits 0 to 9; which of the inputs that bring something has the
                         bias of the own level in 10 to 12; which of the tiles in 13 to 15 */
} tflnest_compact;

/* Of those that slide a window. */
typedef struct {
    uint16_t filter_height, filter_width;
    uint16_t stride_height, stride_width;
    uint16_t dilation_height, dilation_width;
    uint16_t padding_height, padding_width;
    uint32_t groups;
} tflnest_compact_window;

/* Tiles of output channels, fastest first; 0 takes no scratch. */
#define TFLNEST_COMPACT_TILES {16, 8, 4, 2, 0}

/* Keep what a call is, with a tile of TFLNEST_COMPACT_TILES, without scratch; 0 where its numbers are too large.
 *
 * window Filled, where the call has one.
 */
int tflnest_compact_pack(tflnest_compact *compact, tflnest_compact_window *window, const tflnest_call *call);

/* The call again, for the shapes that it was made for. */
void tflnest_compact_unpack(const tflnest_compact *compact, const tflnest_compact_window *window, uint32_t stock,
                            const tflnest_dimensions *input, const tflnest_dimensions *output, tflnest_call *call);

/* Choose the own level that runs. */
void tflnest_compact_run(tflnest_compact *compact, const tflnest_options *options, uint32_t position);

/* Keep the chain, and run its lowest level. */
void tflnest_compact_set_chain(tflnest_compact *compact, const tflnest_chain *chain);

/* The chain again. */
tflnest_chain tflnest_compact_chain(const tflnest_compact *compact);

/* Position of the own level that runs. */
uint32_t tflnest_compact_position(const tflnest_compact *compact);

/* Where the bias of that level lies, and its multipliers, in an operator of so many inputs; `level` is of use where
 * planes lie in front of them. */
tflnest_place tflnest_compact_bias_place(const tflnest_compact *compact, uint32_t levels, uint32_t inputs);
tflnest_place tflnest_compact_set_place(const tflnest_compact *compact, uint32_t levels, uint32_t inputs);

/* Weights of the filter of a call. */
uint32_t tflnest_compact_weights(const tflnest_call *call);

#endif
