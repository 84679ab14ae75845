#include "tflnest/tflnest_depthwise_conv.h"

#include <string.h>

#include "tflnest_arithmetic.h"
#include "tflnest_convolution.h"
#include "tflnest_decode.h"
#include "tflnest_depthwise.h"
#include "tflnest_geometry.h"
#include "tflnest_tile.h"
#include "tflnest_unbuffered.h"

/* A depthwise convolution over one tile, by table. */
typedef struct {
    const tflnest_depthwise_conv_params *params;
    tflnest_depthwise by_table;
    uintptr_t *inside;          /* where each tap lies, from the first one */
    uintptr_t *addresses;       /* where each tap lies, for windows that reach over the border */
    int8_t *blank;              /* a pixel outside the image */
} depthwise;

static uint32_t tile_channels(const tflnest_depthwise_conv_params *params)
{
    const int32_t channels = params->output.channels;
    return (uint32_t)(params->tile_channels < channels ? params->tile_channels : channels);
}

static uint32_t tap_count(const tflnest_depthwise_conv_params *params)
{
    return (uint32_t)(params->filter.height * params->filter.width);
}

/* Whether every output channel reads the input channel of the same number, through a small window. */
static int uses_table(const tflnest_depthwise_conv_params *params)
{
    return params->input.channels == params->output.channels && tap_count(params) <= TFLNEST_TABLE_TAPS;
}

/* The same as an ordinary convolution with a group for each input channel: for what is not computed by table. */
static tflnest_conv_params as_conv(const tflnest_depthwise_conv_params *params)
{
    const tflnest_conv_params conv = {
        .input = params->input,
        .output = params->output,
        .filter = params->filter,
        .stride = params->stride,
        .dilation = params->dilation,
        .padding = params->padding,
        .groups = params->input.channels,
        .tile_channels = params->tile_channels,
        .requantization = params->requantization,
    };
    return conv;
}

/* Bytes that it takes so, without room for turned weights. */
static uint32_t grouped_bytes(const tflnest_depthwise_conv_params *params)
{
    const tflnest_conv_params conv = as_conv(params);
    return tflnest_conv_get_buffer_size(&conv);
}

tflnest_status tflnest_depthwise_conv_check(const tflnest_depthwise_conv_params *params, const tflnest_filter *filter)
{
    if (params == NULL) {
        return TFLNEST_ERROR_ARGUMENT;
    }
    const tflnest_sliding_window window = {params->filter, params->stride, params->dilation, params->padding};
    const int64_t taps = (int64_t)params->filter.height * params->filter.width;
    if (!tflnest_convolution_is_sound(&window, &params->input, &params->output, &params->requantization) ||
        params->tile_channels < 0 || params->output.channels % params->input.channels != 0 ||
        taps > TFLNEST_MAX_PRODUCTS || taps * params->output.channels > INT32_MAX) {
        return TFLNEST_ERROR_ARGUMENT;
    }
    return tflnest_filter_check(filter, (uint32_t)params->output.channels);
}

/* Bytes of the tables and of the blank pixel. */
static uint32_t table_bytes(const tflnest_depthwise_conv_params *params)
{
    const uint32_t entries = tflnest_depthwise_entries(tap_count(params));
    return 2 * entries * (uint32_t)sizeof(uintptr_t);
}

static uint32_t blank_bytes(const tflnest_depthwise_conv_params *params)
{
    return (tile_channels(params) + 7u) & ~7u;
}

/* Bytes for the weights of a tile without a table, a tile being no larger than a group. */
static uint32_t turned_bytes(const tflnest_depthwise_conv_params *params)
{
    const int32_t group = params->output.channels / params->input.channels;
    return ((uint32_t)tflnest_min(params->tile_channels, group) * tap_count(params) + 7u) & ~7u;
}

uint32_t tflnest_depthwise_conv_get_buffer_size(const tflnest_depthwise_conv_params *params)
{
    if (params->tile_channels == 0) {
        return 0;
    }
    if (!uses_table(params)) {
        return grouped_bytes(params) + turned_bytes(params);
    }
    return tflnest_tile_bytes(tile_channels(params), 0) + table_bytes(params) + blank_bytes(params) +
           tflnest_depthwise_room(tile_channels(params), tap_count(params));
}

static void fill_tables(depthwise *work)
{
    const tflnest_depthwise_conv_params *params = work->params;
    const uint32_t channels = (uint32_t)params->input.channels;
    const uint32_t down = (uint32_t)params->dilation.height * (uint32_t)params->input.width * channels;
    const uint32_t right = (uint32_t)params->dilation.width * channels;
    uint32_t i = 0;
    for (uint32_t y = 0; y < (uint32_t)params->filter.height; y++) {
        for (uint32_t x = 0; x < (uint32_t)params->filter.width; x++) {
            work->inside[i++] = y * down + x * right;
        }
    }
    for (; i < tflnest_depthwise_entries(tap_count(params)); i++) {
        work->inside[i] = 0;
    }
    memset(work->blank, (int)params->requantization.input_zero_point, tile_channels(params));
}

/* Fill the addresses of the taps of the window whose first tap lies at (top, left) of an image. */
__attribute__((noinline)) static void address_taps(const depthwise *work, const int8_t *image, int32_t top, int32_t left)
{
    const tflnest_depthwise_conv_params *params = work->params;
    const int32_t channels = params->input.channels;
    const uint32_t height = (uint32_t)params->input.height, width = (uint32_t)params->input.width;
    const uintptr_t blank = (uintptr_t)work->blank, step = (uintptr_t)(params->dilation.width * channels);
    uintptr_t *address = work->addresses, *end = address + tflnest_depthwise_entries(tap_count(params));
    int32_t row = top;
    for (int32_t y = 0; y < params->filter.height; y++) {
        uintptr_t tap = (uintptr_t)image + (uintptr_t)((row * params->input.width + left) * channels);
        int32_t column = (uint32_t)row < height ? left : -1;
        const int32_t right = (uint32_t)row < height ? params->dilation.width : 0;
        for (int32_t x = 0; x < params->filter.width; x++) {
            *address++ = (uint32_t)column < width ? tap : blank;
            tap += step;
            column += right;
        }
        row += params->dilation.height;
    }
    while (address < end) {
        *address++ = blank;
    }
}

/* Windows of a row that lie inside the image: first to end - 1. */
static tflnest_taps windows_inside(const tflnest_depthwise_conv_params *params)
{
    const int32_t span = (params->filter.width - 1) * params->dilation.width;
    const int32_t room = params->input.width - 1 - span + params->padding.width;
    tflnest_taps inside = {(params->padding.width + params->stride.width - 1) / params->stride.width, 0};
    inside.end = room < 0 ? 0 : tflnest_min(room / params->stride.width + 1, params->output.width);
    inside.first = tflnest_min(inside.first, inside.end);
    return inside;
}

/* One window that reaches over the border. */
static void run_border(const depthwise *work, const int8_t *image, int32_t top, int32_t x, int8_t *row)
{
    const tflnest_depthwise_conv_params *params = work->params;
    const tflnest_windows window = {work->addresses, 0, 0, 1, row + x * params->output.channels};
    address_taps(work, image, top, x * params->stride.width - params->padding.width);
    tflnest_depthwise_run(&work->by_table, &window);
}

/* One row of windows of an image, from the tile's first channel on. */
static void run_row(const depthwise *work, tflnest_taps inside, const int8_t *image, int32_t top, int8_t *row)
{
    const tflnest_depthwise_conv_params *params = work->params;
    const int32_t bottom = top + (params->filter.height - 1) * params->dilation.height;
    if (top < 0 || bottom >= params->input.height) {
        inside.first = inside.end = 0;
    }
    for (int32_t x = 0; x < inside.first; x++) {
        run_border(work, image, top, x, row);
    }
    if (inside.end > inside.first) {
        const int32_t left = inside.first * params->stride.width - params->padding.width;
        tflnest_windows windows;
        windows.table = work->inside;
        windows.base = (uintptr_t)(image + (top * params->input.width + left) * params->input.channels);
        windows.step = (uintptr_t)(params->stride.width * params->input.channels);
        windows.count = (uint32_t)(inside.end - inside.first);
        windows.output = row + inside.first * params->output.channels;
        tflnest_depthwise_run(&work->by_table, &windows);
    }
    for (int32_t x = inside.end; x < params->output.width; x++) {
        run_border(work, image, top, x, row);
    }
}
__attribute__((noinline)) static void run_tile(const depthwise *work, const int8_t *input, uint32_t first,
                                               int8_t *output)
{
    const tflnest_depthwise_conv_params *params = work->params;
    const int32_t image = params->input.height * params->input.width * params->input.channels;
    const int32_t row = params->output.width * params->output.channels;
    const tflnest_taps inside = windows_inside(params);
    for (int32_t n = 0; n < params->output.batches; n++) {
        for (int32_t y = 0; y < params->output.height; y++) {
            const int32_t top = y * params->stride.height - params->padding.height;
            int8_t *to = output + (n * params->output.height + y) * row + first;
            run_row(work, inside, input + n * image + first, top, to);
        }
    }
}

/* All tiles, one after another. It and the next one stay functions, so that the stack holds one of them. */
__attribute__((noinline)) static void run_tiles(const tflnest_depthwise_conv_params *params,
                                                const tflnest_filter *filter, const int8_t *input, int8_t *output,
                                                void *scratch)
{
    const uint32_t size = tile_channels(params), channels = (uint32_t)params->output.channels;
    uint8_t *free = scratch;
    depthwise work = {.params = params};
    tflnest_tile_place(&work.by_table.tile, scratch, size, tap_count(params), &params->requantization);
    work.by_table.taps = tap_count(params);
    work.by_table.channels = channels;
    free += tflnest_tile_bytes(size, 0);
    work.inside = (void *)free;
    work.addresses = work.inside + tflnest_depthwise_entries(work.by_table.taps);
    free += table_bytes(params);
    work.blank = (void *)free;
    free += blank_bytes(params);
    work.by_table.room = free;
    fill_tables(&work);
    for (uint32_t first = 0, count; first < channels; first += count) {
        const uint32_t left = channels - first;
        count = tflnest_depthwise_tile(left < size ? left : size);
        tflnest_depthwise_decode(&work.by_table, filter, first, count);
        run_tile(&work, input, first, output);
    }
}

__attribute__((noinline)) static void run_grouped(const tflnest_depthwise_conv_params *params,
                                                  const tflnest_filter *filter, const int8_t *input, int8_t *output,
                                                  void *scratch)
{
    const tflnest_conv_params conv = as_conv(params);
    int8_t *turned = (int8_t *)scratch + tflnest_conv_get_buffer_size(&conv);
    tflnest_convolution_run(&conv, filter, input, output, scratch, turned);
}

void tflnest_depthwise_conv_s8(const tflnest_depthwise_conv_params *params, const tflnest_filter *filter,
                               const int8_t *input, int8_t *output, void *scratch)
{
    if (uses_table(params)) {
        run_tiles(params, filter, input, output, scratch);
    } else {
        run_grouped(params, filter, input, output, scratch);
    }
}

void tflnest_depthwise_conv_unbuffered_s8(const tflnest_depthwise_conv_params *params, const tflnest_filter *filter,
                                          const int8_t *input, int8_t *output)
{
    const tflnest_unbuffered work = {
        .input = &params->input,
        .output = &params->output,
        .filter = &params->filter,
        .stride = &params->stride,
        .dilation = &params->dilation,
        .padding = &params->padding,
        .requantization = &params->requantization,
        .depth = 1,
        .tap_step = (uint32_t)params->output.channels,
        .channel_step = 1,
        .sharing = (uint32_t)(params->output.channels / params->input.channels),
    };
    tflnest_unbuffered_run(&work, filter, input, output);
}
