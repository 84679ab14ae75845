/* A tile: the decoded weights of a few output channels, and how their sums become outputs. */
#ifndef TFLNEST_TILE_H
#define TFLNEST_TILE_H

#include "tflnest/tflnest_types.h"
#include "tflnest_arithmetic.h"
#include "tflnest_tile_dsp.h"
#include "tflnest_tile_mve.h"
#include "tflnest_tile_portable.h"
#include "tflnest_variant.h"

#if TFLNEST_VARIANT == TFLNEST_VARIANT_X86
#include "tflnest_tile_x86.h"
#endif

/* Products per output of which the sum always fits 32 bits: 65536 * 255 * 128 < 2^31. */
#define TFLNEST_MAX_PRODUCTS 65536

/* Pixels that are gathered before they are multiplied. */
#ifndef TFLNEST_BLOCK_PIXELS
#define TFLNEST_BLOCK_PIXELS 2u
#endif

/* How the sums of one output channel become outputs. */
typedef struct {
    int32_t bias;       /* with the zero point of the input in it, where operands still contain it */
    int32_t multiplier; /* Q0.31 */
    int32_t rounding;   /* added before the right shift, zero point of the output included */
    int32_t shift;      /* right shift of `tflnest_requantize_right`, 1 or more. Where that one does not hold:
                         * 0, and `rounding` is the shift of `tflnest_requantize` */
} tflnest_channel;

/* Output channels that are computed together. */
typedef struct {
    tflnest_operand *weights;
    tflnest_channel *parameters; /* one per channel; the last group is filled up */
    uint32_t channels;
    uint32_t products; /* per output */
    const tflnest_requantization *requantization;
} tflnest_tile;

/* Bytes of an empty tile; a multiple of 8. Without products it has room for the parameters only. */
uint32_t tflnest_tile_bytes(uint32_t channels, uint32_t products);

/* Lay out an empty tile in scratch memory, aligned to 8. */
void tflnest_tile_place(tflnest_tile *tile, void *scratch, uint32_t channels, uint32_t products,
                        const tflnest_requantization *requantization);

/* Fill the parameters at an index with those of one channel of the filter. */
void tflnest_tile_set_channel(tflnest_tile *tile, uint32_t index, const tflnest_filter *filter, uint32_t number);

/* Fill the parameters of channels first to first + channels - 1 of the filter, without any weights. */
void tflnest_tile_set_channels(tflnest_tile *tile, const tflnest_filter *filter, uint32_t first, uint32_t channels);

/* The same, and decode their rows of weights. */
void tflnest_tile_decode(tflnest_tile *tile, const tflnest_filter *filter, uint32_t first, uint32_t channels);

/* The output of an accumulator of a channel that `tflnest_requantize_right` does not fit. */
int8_t tflnest_tile_finish_any(const tflnest_tile *tile, const tflnest_channel *channel, int32_t acc);

/* The output of an accumulator. */
static inline int8_t tflnest_tile_finish(const tflnest_tile *tile, uint32_t index, int32_t acc)
{
    const tflnest_channel *channel = &tile->parameters[index];
    const tflnest_requantization *requantization = tile->requantization;
    if (channel->shift == 0) {
        return tflnest_tile_finish_any(tile, channel, acc);
    }
    const int32_t value = tflnest_requantize_right(acc, channel->multiplier, channel->rounding, channel->shift);
    return (int8_t)tflnest_clamp(value, requantization->activation_min, requantization->activation_max);
}

/* -------------------------------------------------------------------------------- what each variant defines */

/* Bytes of the weights of a tile. */
uint32_t tflnest_tile_weight_bytes(uint32_t channels, uint32_t products);

/* Decode rows of weights into a tile whose parameters are set, and add what follows from them to the biases. */
void tflnest_tile_decode_rows(tflnest_tile *tile, const tflnest_filter *filter, uint32_t first);

/* Bytes of a block of pixels; a multiple of 8. */
uint32_t tflnest_block_bytes(uint32_t products);

/* Whether pixels can only be loaded into a block as a whole, because pieces of `depth` activations are no
 * whole words. */
int tflnest_block_needs_whole(uint32_t depth);

/* Put activations into one pixel of a block.
 *
 * position Of the first one in the pixel.
 * input    NULL for activations outside the image.
 */
void tflnest_block_load(const tflnest_tile *tile, tflnest_operand *block, uint32_t pixel, uint32_t position,
                        const int8_t *input, uint32_t count);

/* Multiply the pixels of a block by a tile.
 *
 * output The first channel of the first pixel; pixels are `output_stride` apart.
 */
void tflnest_tile_multiply(const tflnest_tile *tile, const tflnest_operand *block, uint32_t pixels, int8_t *output,
                           uint32_t output_stride);

#endif
