#include "tflnest_tile_portable.h"

#include "tflnest_tile.h"

#if TFLNEST_VARIANT == TFLNEST_VARIANT_NARROW || TFLNEST_VARIANT == TFLNEST_VARIANT_WIDE

#include <string.h>

#include "tflnest_copy_short.h"
#include "tflnest_decode.h"

uint32_t tflnest_tile_weight_bytes(uint32_t channels, uint32_t products)
{
    return channels * products * (uint32_t)sizeof(tflnest_operand);
}

uint32_t tflnest_block_bytes(uint32_t products)
{
    return (TFLNEST_BLOCK_PIXELS * products * (uint32_t)sizeof(tflnest_operand) + 7u) & ~7u;
}

int tflnest_block_needs_whole(uint32_t depth)
{
    (void)depth;
    return 0;
}

#if TFLNEST_VARIANT == TFLNEST_VARIANT_WIDE

/* Weights that are decoded before they are widened. */
#define CHUNK 64u

static void decode_row(const tflnest_tile *tile, const tflnest_filter *filter, uint32_t first, uint32_t channel)
{
    tflnest_operand *row = tile->weights + channel * tile->products;
    uint32_t start = (first + channel) * tile->products, count = tile->products;
    int8_t chunk[CHUNK];
    while (count > 0) {
        const uint32_t room = CHUNK - start % TFLNEST_GROUP, part = room < count ? room : count;
        tflnest_decode(filter, start, part, chunk);
        for (uint32_t i = 0; i < part; i++) {
            row[i] = chunk[i];
        }
        start += part;
        count -= part;
        row += part;
    }
}

void tflnest_block_load(const tflnest_tile *tile, tflnest_operand *block, uint32_t pixel, uint32_t position,
                        const int8_t *input, uint32_t count)
{
    tflnest_operand *operands = block + pixel * tile->products + position;
    const int32_t zero_point = tile->requantization->input_zero_point;
    if (input == NULL) {
        memset(operands, 0, count * sizeof(tflnest_operand));
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        operands[i] = (tflnest_operand)(input[i] - zero_point);
    }
}

#else

/* The zero point of the input goes into the bias: it takes the same off every sum. */
static void decode_row(const tflnest_tile *tile, const tflnest_filter *filter, uint32_t first, uint32_t channel)
{
    tflnest_operand *row = tile->weights + channel * tile->products;
    int32_t sum = 0;
    tflnest_decode(filter, (first + channel) * tile->products, tile->products, row);
    for (uint32_t i = 0; i < tile->products; i++) {
        sum += row[i];
    }
    tflnest_channel *parameters = &tile->parameters[channel];
    parameters->bias =
        tflnest_add_wrapping(parameters->bias, -tile->requantization->input_zero_point * sum);
}

void tflnest_block_load(const tflnest_tile *tile, tflnest_operand *block, uint32_t pixel, uint32_t position,
                        const int8_t *input, uint32_t count)
{
    tflnest_operand *operands = block + pixel * tile->products + position;
    if (input == NULL) {
        memset(operands, (int)tile->requantization->input_zero_point, count);
    } else {
        tflnest_copy_short(operands, input, count);
    }
}

#endif

void tflnest_tile_decode_rows(tflnest_tile *tile, const tflnest_filter *filter, uint32_t first)
{
    for (uint32_t i = 0; i < tile->channels; i++) {
        decode_row(tile, filter, first, i);
    }
}

static inline int8_t finish(const tflnest_tile *tile, uint32_t channel, int32_t sum)
{
    return tflnest_tile_finish(tile, channel, tflnest_add_wrapping(sum, tile->parameters[channel].bias));
}

/* One channel of one pixel. */
static void multiply_one(const tflnest_tile *tile, uint32_t channel, const tflnest_operand *x, int8_t *output)
{
    const tflnest_operand *w = tile->weights + channel * tile->products;
    int32_t sum = 0;
    for (uint32_t k = 0; k < tile->products; k++) {
        sum += (int32_t)w[k] * x[k];
    }
    output[channel] = finish(tile, channel, sum);
}

/* Products k operands behind both rows and both pixels. */
#define MULTIPLY_FOUR(k)                                   \
    do {                                                   \
        const int32_t first = w0[k], second = w1[k];       \
        const int32_t pixel0 = x0[k], pixel1 = x1[k];      \
        sum00 += first * pixel0;                           \
        sum01 += first * pixel1;                           \
        sum10 += second * pixel0;                          \
        sum11 += second * pixel1;                          \
    } while (0)

/* Sums of two channels and two pixels: channel 0 of both pixels, channel 1 of both.
 *
 * A function of its own, so that small cores keep everything in registers.
 */
__attribute__((noinline)) static void sum_four(const tflnest_operand *w0, const tflnest_operand *x0, uint32_t products,
                                               int32_t *sums)
{
    const tflnest_operand *w1 = w0 + products, *x1 = x0 + products;
    int32_t sum00 = 0, sum01 = 0, sum10 = 0, sum11 = 0;
#if TFLNEST_VARIANT == TFLNEST_VARIANT_NARROW
    const tflnest_operand *end = w0 + (products & ~3u);
    while (w0 != end) {
        MULTIPLY_FOUR(0);
        MULTIPLY_FOUR(1);
        MULTIPLY_FOUR(2);
        MULTIPLY_FOUR(3);
        w0 += 4;
        w1 += 4;
        x0 += 4;
        x1 += 4;
    }
    products &= 3u;
#endif
    for (uint32_t k = 0; k < products; k++) {
        MULTIPLY_FOUR(k);
    }
    sums[0] = sum00;
    sums[1] = sum01;
    sums[2] = sum10;
    sums[3] = sum11;
}

/* Outputs of one channel of two pixels. */
static inline void finish_two(const tflnest_tile *tile, uint32_t index, const int32_t *sums, int8_t *output0,
                              int8_t *output1)
{
    const tflnest_channel *channel = &tile->parameters[index];
    const int32_t acc0 = tflnest_add_wrapping(sums[0], channel->bias);
    const int32_t acc1 = tflnest_add_wrapping(sums[1], channel->bias);
    if (channel->shift == 0) {
        *output0 = tflnest_tile_finish_any(tile, channel, acc0);
        *output1 = tflnest_tile_finish_any(tile, channel, acc1);
        return;
    }
    const int32_t multiplier = channel->multiplier, rounding = channel->rounding, shift = channel->shift;
    const int32_t low = tile->requantization->activation_min, high = tile->requantization->activation_max;
    *output0 = (int8_t)tflnest_clamp(tflnest_requantize_right(acc0, multiplier, rounding, shift), low, high);
    *output1 = (int8_t)tflnest_clamp(tflnest_requantize_right(acc1, multiplier, rounding, shift), low, high);
}

/* Two neighbouring channels of two neighbouring pixels. */
static inline void multiply_four(const tflnest_tile *tile, uint32_t channel, const tflnest_operand *x, int8_t *output0,
                                 int8_t *output1)
{
    int32_t sums[4];
    sum_four(tile->weights + channel * tile->products, x, tile->products, sums);
    finish_two(tile, channel, sums, output0 + channel, output1 + channel);
    finish_two(tile, channel + 1, sums + 2, output0 + channel + 1, output1 + channel + 1);
}

void tflnest_tile_multiply(const tflnest_tile *tile, const tflnest_operand *block, uint32_t pixels, int8_t *output,
                           uint32_t output_stride)
{
    const uint32_t paired = tile->channels & ~1u;
    for (; pixels >= 2; pixels -= 2) {
        const tflnest_operand *next = block + tile->products;
        for (uint32_t c = 0; c < paired; c += 2) {
            multiply_four(tile, c, block, output, output + output_stride);
        }
        if (paired < tile->channels) {
            multiply_one(tile, paired, block, output);
            multiply_one(tile, paired, next, output + output_stride);
        }
        block = next + tile->products;
        output += 2 * output_stride;
    }
    for (uint32_t c = 0; pixels > 0 && c < tile->channels; c++) {
        multiply_one(tile, c, block, output);
    }
}

#endif
