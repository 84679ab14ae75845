#include "tflnest_compact.h"

#include <string.h>

#define TILE_SHIFT 13u
#define BIAS_SHIFT 10u
#define BEHIND_SHIFT 6u
#define SCHEME_SHIFT 7u
#define SCHEME_BIT (1u << SCHEME_SHIFT)

static const uint8_t tiles[] = TFLNEST_COMPACT_TILES;

#define TILES (sizeof tiles / sizeof tiles[0])

/* Which of the tiles a number is; TILES where it is none. */
static uint32_t tile_index(int32_t channels)
{
    uint32_t index = 0;
    while (index < TILES && tiles[index] != channels) {
        index++;
    }
    return index;
}

static int fits(tflnest_extent extent)
{
    return extent.height >= 0 && extent.height <= UINT16_MAX && extent.width >= 0 && extent.width <= UINT16_MAX;
}

static int pack_window(tflnest_compact_window *to, tflnest_extent filter, tflnest_extent stride,
                       tflnest_extent dilation, tflnest_extent padding)
{
    to->filter_height = (uint16_t)filter.height;
    to->filter_width = (uint16_t)filter.width;
    to->stride_height = (uint16_t)stride.height;
    to->stride_width = (uint16_t)stride.width;
    to->dilation_height = (uint16_t)dilation.height;
    to->dilation_width = (uint16_t)dilation.width;
    to->padding_height = (uint16_t)padding.height;
    to->padding_width = (uint16_t)padding.width;
    return fits(filter) && fits(stride) && fits(dilation) && fits(padding);
}

int tflnest_compact_pack(tflnest_compact *compact, tflnest_compact_window *window, const tflnest_call *call)
{
    const tflnest_requantization *requantization = &call->params.fully_connected.requantization;
    int32_t tile = call->params.fully_connected.tile_channels;
    int good = 1;
    if (call->stock == TFLNEST_STOCK_CONV_2D) {
        const tflnest_conv_params *params = &call->params.conv;
        good = pack_window(window, params->filter, params->stride, params->dilation, params->padding);
        window->groups = (uint32_t)params->groups;
        requantization = &params->requantization;
        tile = params->tile_channels;
    } else if (call->stock == TFLNEST_STOCK_DEPTHWISE_CONV_2D) {
        const tflnest_depthwise_conv_params *params = &call->params.depthwise;
        good = pack_window(window, params->filter, params->stride, params->dilation, params->padding);
        window->groups = 0;
        requantization = &params->requantization;
        tile = params->tile_channels;
    }
    memset(compact, 0, sizeof *compact);
    compact->input_zero_point = (int8_t)requantization->input_zero_point;
    compact->output_zero_point = (int8_t)requantization->output_zero_point;
    compact->activation_min = (int8_t)requantization->activation_min;
    compact->activation_max = (int8_t)requantization->activation_max;
    compact->scratch = (uint16_t)(tile_index(tile) << TILE_SHIFT);
    return good && tile_index(tile) < TILES;
}

static tflnest_shape shape_of(const tflnest_dimensions *dimensions)
{
    const tflnest_shape shape = {dimensions->values[0], dimensions->values[1], dimensions->values[2],
                                 dimensions->values[3]};
    return shape;
}

static tflnest_extent extent_of(uint16_t height, uint16_t width)
{
    const tflnest_extent extent = {height, width};
    return extent;
}

static int32_t elements_of(const tflnest_dimensions *dimensions)
{
    int32_t elements = 1;
    for (uint32_t i = 0; i < dimensions->rank; i++) {
        elements *= dimensions->values[i];
    }
    return elements;
}

void tflnest_compact_unpack(const tflnest_compact *compact, const tflnest_compact_window *window, uint32_t stock,
                            const tflnest_dimensions *input, const tflnest_dimensions *output, tflnest_call *call)
{
    const tflnest_requantization requantization = {compact->input_zero_point, compact->output_zero_point,
                                                   compact->activation_min, compact->activation_max};
    const int32_t tile = tiles[compact->scratch >> TILE_SHIFT];
    call->stock = stock;
    if (stock == TFLNEST_STOCK_FULLY_CONNECTED) {
        tflnest_fully_connected_params *params = &call->params.fully_connected;
        params->outputs = output->values[output->rank - 1];
        params->batches = elements_of(output) / params->outputs;
        params->inputs = elements_of(input) / params->batches;
        params->tile_channels = tile;
        params->requantization = requantization;
        return;
    }
    const tflnest_extent filter = extent_of(window->filter_height, window->filter_width);
    const tflnest_extent stride = extent_of(window->stride_height, window->stride_width);
    const tflnest_extent dilation = extent_of(window->dilation_height, window->dilation_width);
    const tflnest_extent padding = extent_of(window->padding_height, window->padding_width);
    if (stock == TFLNEST_STOCK_CONV_2D) {
        const tflnest_conv_params params = {shape_of(input), shape_of(output),        filter, stride,        dilation,
                                            padding,         (int32_t)window->groups, tile,   requantization};
        call->params.conv = params;
    } else {
        const tflnest_depthwise_conv_params params = {shape_of(input), shape_of(output), filter,        stride,
                                                      dilation,        padding,          tile, requantization};
        call->params.depthwise = params;
    }
}

/* Inputs in front of those that bring something beside planes. */
static uint32_t first_of(uint32_t levels, uint32_t inputs)
{
    return inputs > 1 + levels ? 1 + levels : 1;
}

void tflnest_compact_run(tflnest_compact *compact, const tflnest_options *options, uint32_t position)
{
    const uint32_t first = first_of(options->levels.count, tflnest_nested_inputs(options));
    const tflnest_place bias = tflnest_nested_bias_place(options, position);
    const tflnest_place set = tflnest_nested_set_place(options, position);
    const uint32_t behind = (uint32_t)set.has_bias << BEHIND_SHIFT;
    compact->running = (uint8_t)((compact->running & SCHEME_BIT) | behind | (set.input - first) << 3 | position);
    compact->scratch = (uint16_t)((compact->scratch & ~(7u << BIAS_SHIFT)) | (bias.input - first) << BIAS_SHIFT);
}

void tflnest_compact_set_chain(tflnest_compact *compact, const tflnest_chain *chain)
{
    compact->levels = 0;
    for (uint32_t i = 0; i < chain->count; i++) {
        compact->levels = (uint8_t)(compact->levels | 1u << (chain->bits[i] - 1u));
    }
    compact->running = (uint8_t)(chain->scheme << SCHEME_SHIFT);
}

tflnest_chain tflnest_compact_chain(const tflnest_compact *compact)
{
    tflnest_chain chain = {{0}, 0, (uint8_t)(compact->running >> SCHEME_SHIFT)};
    for (uint32_t bits = 1; bits <= TFLNEST_MASTER_BITS; bits++) {
        if ((compact->levels >> (bits - 1) & 1u) != 0) {
            chain.bits[chain.count++] = (uint8_t)bits;
        }
    }
    return chain;
}

uint32_t tflnest_compact_position(const tflnest_compact *compact)
{
    return compact->running & 7u;
}

static tflnest_place place_of(uint32_t number, uint32_t has_bias, uint32_t levels, uint32_t inputs)
{
    const tflnest_place place = {(uint8_t)(first_of(levels, inputs) + number), (uint8_t)number, (uint8_t)has_bias};
    return place;
}

tflnest_place tflnest_compact_bias_place(const tflnest_compact *compact, uint32_t levels, uint32_t inputs)
{
    return place_of((uint32_t)(compact->scratch >> BIAS_SHIFT) & 7u, 1, levels, inputs);
}

tflnest_place tflnest_compact_set_place(const tflnest_compact *compact, uint32_t levels, uint32_t inputs)
{
    const uint32_t running = compact->running;
    return place_of(running >> 3 & 7u, running >> BEHIND_SHIFT & 1u, levels, inputs);
}

uint32_t tflnest_compact_weights(const tflnest_call *call)
{
    if (call->stock == TFLNEST_STOCK_FULLY_CONNECTED) {
        return (uint32_t)(call->params.fully_connected.inputs * call->params.fully_connected.outputs);
    }
    if (call->stock == TFLNEST_STOCK_CONV_2D) {
        const tflnest_conv_params *params = &call->params.conv;
        return (uint32_t)(params->filter.height * params->filter.width * (params->input.channels / params->groups) *
                          params->output.channels);
    }
    const tflnest_depthwise_conv_params *params = &call->params.depthwise;
    return (uint32_t)(params->filter.height * params->filter.width * params->output.channels);
}
