/* A tile: the decoded weights of a few output channels, and how their sums become outputs. */
#ifndef TFLNEST_TILE_H
#define TFLNEST_TILE_H

#include "tflnest/tflnest_types.h"
#include "tflnest_variant.h"

/* Products per output of which the sum always fits 32 bits: 65536 * 255 * 128 < 2^31. */
#define TFLNEST_MAX_PRODUCTS 65536

/* How the sums of one output channel become outputs. */
typedef struct {
    int32_t bias;       /* with the zero point of the input in it, where the operands are not centred */
    int32_t multiplier; /* Q0.31 */
    int32_t rounding;   /* added before the right shift, zero point included; quick tiles only */
    int32_t shift;      /* to the right in quick tiles; positive = left in others */
} tflnest_channel;

/* Output channels that are computed together. */
typedef struct {
    tflnest_operand *weights;   /* `channels` rows of `stride` operands */
    tflnest_channel *parameters; /* one per channel */
    uint32_t channels;
    uint32_t products; /* per output */
    uint32_t stride;   /* `products`, filled up with zeros to a whole number of operand groups */
    int quick;         /* whether all channels fit `tflnest_requantize_right` */
    const tflnest_requantization *requantization;
} tflnest_tile;

/* Operands that a row of so many takes. */
static inline uint32_t tflnest_operand_stride(uint32_t products)
{
    return (products + TFLNEST_OPERAND_GROUP - 1) / TFLNEST_OPERAND_GROUP * TFLNEST_OPERAND_GROUP;
}

/* Bytes of the two arrays of a tile; a multiple of 8. */
uint32_t tflnest_tile_bytes(uint32_t channels, uint32_t products);

/* Lay out an empty tile in scratch memory, aligned to 8. */
tflnest_tile tflnest_tile_place(void *scratch, uint32_t channels, uint32_t products,
                                const tflnest_requantization *requantization);

/* Fill the parameters of channels first to first + channels - 1 of the filter, without any weights. */
void tflnest_tile_set_channels(tflnest_tile *tile, const tflnest_filter *filter, uint32_t first, uint32_t channels);

/* The same, and decode their rows of weights. */
void tflnest_tile_decode(tflnest_tile *tile, const tflnest_filter *filter, uint32_t first, uint32_t channels);

/* Multiply pixels by the tile.
 *
 * operands `pixels` rows of operands, `operand_stride` apart.
 * output   The first channel of the first pixel; pixels are `output_stride` apart.
 */
void tflnest_tile_multiply(const tflnest_tile *tile, const tflnest_operand *operands, uint32_t operand_stride,
                           uint32_t pixels, int8_t *output, uint32_t output_stride);

/* Operands of `count` activations. */
void tflnest_operands_load(tflnest_operand *operands, const int8_t *input, uint32_t count, int32_t zero_point);

/* Operands of `count` activations outside the image. */
void tflnest_operands_blank(tflnest_operand *operands, uint32_t count, int32_t zero_point);

#endif
