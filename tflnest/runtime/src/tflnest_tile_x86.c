/* Tiles with AVX2, or with AVX-512 and its dot products of bytes: for engines on desktops.
 *
 * A lane of 32 bits holds some neighbouring products of one channel: two int16 for VPMADDWD, four bytes for
 * VPDPBUSD. A panel is two vectors of channels wide; its weights are stored in the order in which they are
 * multiplied, step by step, after what its sums need to become outputs. Some pixels go through a panel together:
 * their sums stay in registers.
 */
#include "tflnest_tile_x86.h"

#include "tflnest_tile.h"

#if TFLNEST_VARIANT == TFLNEST_VARIANT_X86

#include <string.h>

#include "tflnest_decode.h"
#include "tflnest_vector_x86.h"

#if TFLNEST_X86_VNNI
#define DEPTH 4u     /* products in a lane */
#define TOGETHER 12u /* pixels that go through a panel together */
#else
#define DEPTH 2u
#define TOGETHER 6u
#endif

#define PANEL (2u * LANES)
#define CACHE_LINE 64u

/* Weights that are decoded at a time. */
#define CHUNK 256u

/* What a panel begins with. */
typedef struct {
    lane_parameters lanes[2];
} panel_head;

static uint32_t steps_of(uint32_t products)
{
    return (products + DEPTH - 1) / DEPTH;
}

static uint32_t panels_of(uint32_t channels)
{
    return (channels + PANEL - 1) / PANEL;
}

static uint32_t panel_bytes(uint32_t products)
{
    return (uint32_t)sizeof(panel_head) + steps_of(products) * PANEL * 4;
}

uint32_t tflnest_tile_weight_bytes(uint32_t channels, uint32_t products)
{
    return products == 0 ? 0 : panels_of(channels) * panel_bytes(products) + CACHE_LINE;
}

uint32_t tflnest_block_bytes(uint32_t products)
{
    return (TFLNEST_BLOCK_PIXELS * steps_of(products) * 4 + 7u) & ~7u;
}

int tflnest_block_needs_whole(uint32_t depth)
{
    (void)depth;
    return 0;
}

static uint8_t *panel_at(const tflnest_tile *tile, uint32_t panel)
{
    const uintptr_t start = ((uintptr_t)tile->weights + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    return (uint8_t *)start + panel * panel_bytes(tile->products);
}

/* ----------------------------------------------------------------------------------------------- weights */

/* Spread weights of one channel, which begin at a product that begins a lane. */
static void spread(const int8_t *weights, uint32_t count, uint8_t *lanes)
{
    for (uint32_t i = 0; i < count / DEPTH; i++) {
#if TFLNEST_X86_VNNI
        memcpy(lanes, weights + DEPTH * i, 4);
#else
        const int16_t lane[DEPTH] = {weights[DEPTH * i], weights[DEPTH * i + 1]};
        memcpy(lanes, lane, 4);
#endif
        lanes += PANEL * 4;
    }
    if (count % DEPTH != 0) {
        tflnest_operand lane[DEPTH] = {0};
        for (uint32_t i = 0; i < count % DEPTH; i++) {
            lane[i] = (tflnest_operand)weights[count / DEPTH * DEPTH + i];
        }
        memcpy(lanes, lane, 4);
    }
}

static int32_t sum_of(const int8_t *weights, uint32_t count)
{
    int32_t sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        sum += weights[i];
    }
    return sum;
}

/* Decode a channel into its lane of a panel; returns the sum of its weights. */
static int32_t decode_channel(const tflnest_filter *filter, uint32_t start, uint32_t products, uint8_t *lanes)
{
    int8_t chunk[CHUNK];
    int32_t sum = 0;
    for (uint32_t done = 0; done < products; done += CHUNK) {
        const uint32_t count = products - done < CHUNK ? products - done : CHUNK;
        tflnest_decode(filter, start + done, count, chunk);
        spread(chunk, count, lanes + done / DEPTH * PANEL * 4);
        sum += sum_of(chunk, count);
    }
    return sum;
}

static void clear_channel(uint32_t products, uint8_t *lanes)
{
    for (uint32_t i = 0; i < steps_of(products); i++) {
        memset(lanes + i * PANEL * 4, 0, 4);
    }
}

static void decode_panel(tflnest_tile *tile, const tflnest_filter *filter, uint32_t first, uint32_t panel)
{
    uint8_t *start = panel_at(tile, panel);
    const uint32_t begin = panel * PANEL;
    for (uint32_t i = 0; i < PANEL; i++) {
        uint8_t *lanes = start + sizeof(panel_head) + 4 * i;
        const uint32_t c = begin + i;
        if (c >= tile->channels) {
            clear_channel(tile->products, lanes);
            continue;
        }
        const int32_t sum = decode_channel(filter, (first + c) * tile->products, tile->products, lanes);
        if (TFLNEST_X86_VNNI) {
            tflnest_channel *channel = &tile->parameters[c];
            const int32_t excess = 128 + tile->requantization->input_zero_point;
            channel->bias = tflnest_add_wrapping(channel->bias, -excess * sum);
        }
    }
    panel_head *head = (panel_head *)(void *)start;
    for (uint32_t i = 0; i < 2; i++) {
        const uint32_t at = begin + i * LANES;
        const uint32_t left = at < tile->channels ? tile->channels - at : 0;
        set_lanes(&head->lanes[i], &tile->parameters[left > 0 ? at : 0], left < LANES ? left : LANES);
    }
}

void tflnest_tile_decode_rows(tflnest_tile *tile, const tflnest_filter *filter, uint32_t first)
{
    for (uint32_t panel = 0; panel < panels_of(tile->channels); panel++) {
        decode_panel(tile, filter, first, panel);
    }
}

/* ------------------------------------------------------------------------------------------------ pixels */

void tflnest_block_load(const tflnest_tile *tile, tflnest_operand *block, uint32_t pixel, uint32_t position,
                        const int8_t *input, uint32_t count)
{
    tflnest_operand *operands = block + pixel * steps_of(tile->products) * DEPTH + position;
    const int32_t zero_point = tile->requantization->input_zero_point;
#if TFLNEST_X86_VNNI
    if (input == NULL) {
        memset(operands, (int)zero_point + 128, count);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        operands[i] = (tflnest_operand)((uint8_t)input[i] ^ 0x80u);
    }
#else
    if (input == NULL) {
        memset(operands, 0, count * sizeof(tflnest_operand));
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        operands[i] = (tflnest_operand)(input[i] - zero_point);
    }
#endif
}

/* ---------------------------------------------------------------------------------------------- multiply */

/* Some pixels through one panel; `count` is a constant wherever this is inlined. */
static inline __attribute__((always_inline)) void multiply_together(const tflnest_tile *tile, uint32_t first,
                                                                    const tflnest_operand *pixels,
                                                                    const uint32_t count, int8_t *output,
                                                                    uint32_t output_stride)
{
    const panel_head *head = (const panel_head *)(const void *)panel_at(tile, first / PANEL);
    const uint32_t steps = steps_of(tile->products);
    const int8_t *weights = (const int8_t *)(head + 1);
    vector sums[TOGETHER][2];
    for (uint32_t i = 0; i < count; i++) {
        sums[i][0] = sums[i][1] = zero();
    }
    for (uint32_t step = 0; step < steps; step++) {
        const vector low = load(weights), high = load(weights + 4 * LANES);
        weights += 4 * PANEL;
#pragma GCC unroll 12
        for (uint32_t i = 0; i < count; i++) {
            int32_t lane;
            memcpy(&lane, pixels + (i * steps + step) * DEPTH, sizeof lane);
            sums[i][0] = add_products(sums[i][0], low, all(lane));
            sums[i][1] = add_products(sums[i][1], high, all(lane));
        }
    }
    const int has_two = head->lanes[1].channels > 0;
    for (uint32_t i = 0; i < count; i++) {
        finish_lanes(tile, &head->lanes[0], first, sums[i][0], output);
        if (has_two) {
            finish_lanes(tile, &head->lanes[1], first + LANES, sums[i][1], output + LANES);
        }
        output += i + 1 < count ? output_stride : 0;
    }
}

static void multiply_panel(const tflnest_tile *tile, uint32_t first, const tflnest_operand *block, uint32_t pixels,
                           int8_t *output, uint32_t output_stride)
{
    const uint32_t pitch = steps_of(tile->products) * DEPTH;
    uint32_t done = 0;
    for (; pixels - done >= TOGETHER; done += TOGETHER) {
        multiply_together(tile, first, block + done * pitch, TOGETHER, output + done * output_stride, output_stride);
    }
    for (; pixels - done >= 4; done += 4) {
        multiply_together(tile, first, block + done * pitch, 4, output + done * output_stride, output_stride);
    }
    for (; done < pixels; done++) {
        multiply_together(tile, first, block + done * pitch, 1, output + done * output_stride, output_stride);
    }
}

void tflnest_tile_multiply(const tflnest_tile *tile, const tflnest_operand *block, uint32_t pixels, int8_t *output,
                           uint32_t output_stride)
{
    for (uint32_t first = 0; first < tile->channels; first += PANEL) {
        multiply_panel(tile, first, block, pixels, output + first, output_stride);
    }
}

#endif
