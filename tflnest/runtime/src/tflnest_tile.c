#include "tflnest_tile.h"

#include <string.h>

#include "tflnest_arithmetic.h"
#include "tflnest_decode.h"

/* Bounds within which `tflnest_requantize_right` is exact, whatever the weights are. */
#define QUICK_MAX_RIGHT 22
#define QUICK_MAX_ACCUMULATOR (INT32_C(1) << 30)
#define QUICK_MAX_PRODUCTS 16384
#define LARGEST_PRODUCT (255 * 128)

static uint32_t round_up(uint32_t bytes)
{
    return (bytes + 7u) & ~7u;
}

uint32_t tflnest_tile_bytes(uint32_t channels, uint32_t products)
{
    const uint32_t operands = channels * tflnest_operand_stride(products);
    return (uint32_t)sizeof(tflnest_channel) * channels + round_up(operands * (uint32_t)sizeof(tflnest_operand));
}

tflnest_tile tflnest_tile_place(void *scratch, uint32_t channels, uint32_t products,
                                const tflnest_requantization *requantization)
{
    tflnest_tile tile;
    tile.parameters = scratch;
    tile.weights = (void *)((uint8_t *)scratch + sizeof(tflnest_channel) * channels);
    tile.channels = channels;
    tile.products = products;
    tile.stride = tflnest_operand_stride(products);
    tile.quick = 0;
    tile.requantization = requantization;
    return tile;
}

/* Whether every sum of a channel is below 2^30, and its shift one of the quick ones; `products` is small. */
static int is_quick(const tflnest_channel *channel, uint32_t products)
{
    const int32_t room = QUICK_MAX_ACCUMULATOR - (int32_t)products * LARGEST_PRODUCT;
    const int fits = channel->bias < room && channel->bias > -room;
    return fits && channel->shift <= -1 && channel->shift >= -QUICK_MAX_RIGHT;
}

void tflnest_tile_set_channels(tflnest_tile *tile, const tflnest_filter *filter, uint32_t first, uint32_t channels)
{
    tile->channels = channels;
    tile->quick = tile->products <= QUICK_MAX_PRODUCTS;
    for (uint32_t i = 0; i < channels; i++) {
        tflnest_channel *channel = &tile->parameters[i];
        const uint32_t scale = filter->per_channel ? first + i : 0;
        channel->bias = filter->bias == NULL ? 0 : filter->bias[first + i];
        channel->multiplier = filter->multipliers[scale];
        channel->shift = filter->shifts[scale];
        tile->quick = tile->quick && is_quick(channel, tile->products);
    }
    for (uint32_t i = 0; tile->quick && i < channels; i++) {
        tflnest_channel *channel = &tile->parameters[i];
        channel->shift = -channel->shift;
        channel->rounding = (INT32_C(1) << (channel->shift - 1)) +
                            tile->requantization->output_zero_point * (INT32_C(1) << channel->shift);
    }
}

#if TFLNEST_OPERANDS_CENTRED

/* Weights that are decoded before they are widened. */
#define CHUNK 64u

static void decode_row(const tflnest_filter *filter, uint32_t first, uint32_t count, tflnest_operand *row)
{
    int8_t chunk[CHUNK];
    while (count > 0) {
        const uint32_t part = CHUNK - first % TFLNEST_GROUP < count ? CHUNK - first % TFLNEST_GROUP : count;
        tflnest_decode(filter, first, part, chunk);
        for (uint32_t i = 0; i < part; i++) {
            row[i] = chunk[i];
        }
        first += part;
        count -= part;
        row += part;
    }
}

void tflnest_operands_load(tflnest_operand *operands, const int8_t *input, uint32_t count, int32_t zero_point)
{
    for (uint32_t i = 0; i < count; i++) {
        operands[i] = (tflnest_operand)(input[i] - zero_point);
    }
}

void tflnest_operands_blank(tflnest_operand *operands, uint32_t count, int32_t zero_point)
{
    (void)zero_point;
    memset(operands, 0, count * sizeof(tflnest_operand));
}

#else

static void decode_row(const tflnest_filter *filter, uint32_t first, uint32_t count, tflnest_operand *row)
{
    tflnest_decode(filter, first, count, row);
}

void tflnest_operands_load(tflnest_operand *operands, const int8_t *input, uint32_t count, int32_t zero_point)
{
    (void)zero_point;
    memcpy(operands, input, count);
}

void tflnest_operands_blank(tflnest_operand *operands, uint32_t count, int32_t zero_point)
{
    memset(operands, (int)zero_point, count);
}

#endif

/* Take the zero point of the input off all products of a row at once. */
static void correct_bias(tflnest_channel *channel, const tflnest_operand *row, uint32_t count, int32_t zero_point)
{
    int32_t sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        sum += row[i];
    }
    channel->bias = tflnest_add_wrapping(channel->bias, -zero_point * sum);
}

void tflnest_tile_decode(tflnest_tile *tile, const tflnest_filter *filter, uint32_t first, uint32_t channels)
{
    tflnest_tile_set_channels(tile, filter, first, channels);
    for (uint32_t i = 0; i < channels; i++) {
        tflnest_operand *row = tile->weights + i * tile->stride;
        decode_row(filter, (first + i) * tile->products, tile->products, row);
        memset(row + tile->products, 0, (tile->stride - tile->products) * sizeof(tflnest_operand));
        if (!TFLNEST_OPERANDS_CENTRED) {
            correct_bias(&tile->parameters[i], row, tile->products, tile->requantization->input_zero_point);
        }
    }
}

/* The output of a sum of products. */
static inline int8_t finish(const tflnest_tile *tile, uint32_t channel, int32_t sum)
{
    const tflnest_channel *parameters = &tile->parameters[channel];
    const tflnest_requantization *requantization = tile->requantization;
    const int32_t acc = tflnest_add_wrapping(sum, parameters->bias);
    const int32_t value =
        tile->quick ? tflnest_requantize_right(acc, parameters->multiplier, parameters->rounding, parameters->shift)
                    : tflnest_add_wrapping(tflnest_requantize(acc, parameters->multiplier, parameters->shift),
                                           requantization->output_zero_point);
    return (int8_t)tflnest_clamp(value, requantization->activation_min, requantization->activation_max);
}

/* One channel of one pixel. */
static void multiply_one(const tflnest_tile *tile, uint32_t channel, const tflnest_operand *x, int8_t *output)
{
    const tflnest_operand *w = tile->weights + channel * tile->stride;
    int32_t sum = 0;
    for (uint32_t k = 0; k < tile->products; k++) {
        sum += (int32_t)w[k] * x[k];
    }
    output[channel] = finish(tile, channel, sum);
}

/* Two neighbouring channels of two pixels. */
static void multiply_block(const tflnest_tile *tile, uint32_t channel, const tflnest_operand *x0,
                           const tflnest_operand *x1, int8_t *output0, int8_t *output1)
{
    const tflnest_operand *w0 = tile->weights + channel * tile->stride;
    const tflnest_operand *w1 = w0 + tile->stride;
    int32_t sum00 = 0, sum01 = 0, sum10 = 0, sum11 = 0;
    for (uint32_t k = 0; k < tile->products; k++) {
        sum00 += (int32_t)w0[k] * x0[k];
        sum01 += (int32_t)w0[k] * x1[k];
        sum10 += (int32_t)w1[k] * x0[k];
        sum11 += (int32_t)w1[k] * x1[k];
    }
    output0[channel] = finish(tile, channel, sum00);
    output1[channel] = finish(tile, channel, sum01);
    output0[channel + 1] = finish(tile, channel + 1, sum10);
    output1[channel + 1] = finish(tile, channel + 1, sum11);
}

void tflnest_tile_multiply(const tflnest_tile *tile, const tflnest_operand *operands, uint32_t operand_stride,
                           uint32_t pixels, int8_t *output, uint32_t output_stride)
{
    const uint32_t paired = tile->channels & ~1u;
    for (; pixels >= 2; pixels -= 2) {
        const tflnest_operand *next = operands + operand_stride;
        for (uint32_t c = 0; c < paired; c += 2) {
            multiply_block(tile, c, operands, next, output, output + output_stride);
        }
        if (paired < tile->channels) {
            multiply_one(tile, paired, operands, output);
            multiply_one(tile, paired, next, output + output_stride);
        }
        operands = next + operand_stride;
        output += 2 * output_stride;
    }
    for (uint32_t c = 0; pixels > 0 && c < tile->channels; c++) {
        multiply_one(tile, c, operands, output);
    }
}
