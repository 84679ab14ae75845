#include "tflnest/tflnest_depthwise_conv.h"

#include <string.h>

#include "tflnest_arithmetic.h"
#include "tflnest_decode.h"
#include "tflnest_geometry.h"
#include "tflnest_tile.h"

/* Windows of up to so many taps are computed by table, see `run_table`. */
#define MAX_TABLE_TAPS 25

/* A depthwise convolution over one tile. */
typedef struct {
    const tflnest_depthwise_conv_params *params;
    tflnest_tile tile;      /* parameters of the channels; its rows of weights are not used */
    const int8_t *weights;  /* of the tile's first channel */
    uint32_t pitch;         /* from the weights of one tap to those of the next */
    uint32_t taps;
    uintptr_t *inside;      /* where each tap lies, from the first one */
    uintptr_t *addresses;   /* where each tap lies, for windows that reach over the border */
    int8_t *blank;          /* a pixel outside the image */
    int8_t *decoded;        /* room for the weights of a tile */
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
    return params->input.channels == params->output.channels && tap_count(params) <= MAX_TABLE_TAPS;
}

static int window_is_sound(const tflnest_depthwise_conv_params *params)
{
    const int64_t bottom = (int64_t)params->output.height * params->stride.height +
                           (int64_t)params->filter.height * params->dilation.height;
    const int64_t right =
        (int64_t)params->output.width * params->stride.width + (int64_t)params->filter.width * params->dilation.width;
    return bottom <= INT32_MAX / 2 && right <= INT32_MAX / 2;
}

tflnest_status tflnest_depthwise_conv_check(const tflnest_depthwise_conv_params *params, const tflnest_filter *filter)
{
    if (params == NULL || !tflnest_shape_is_sound(&params->input) || !tflnest_shape_is_sound(&params->output) ||
        !tflnest_extent_is_sound(&params->filter, 1) || !tflnest_extent_is_sound(&params->stride, 1) ||
        !tflnest_extent_is_sound(&params->dilation, 1) || !tflnest_extent_is_sound(&params->padding, 0) ||
        !tflnest_requantization_is_sound(&params->requantization) || !window_is_sound(params)) {
        return TFLNEST_ERROR_ARGUMENT;
    }
    const int64_t taps = (int64_t)params->filter.height * params->filter.width;
    if (params->input.batches != params->output.batches || params->tile_channels < 1 ||
        params->output.channels % params->input.channels != 0 || taps > TFLNEST_MAX_PRODUCTS ||
        taps * params->output.channels > INT32_MAX) {
        return TFLNEST_ERROR_ARGUMENT;
    }
    return tflnest_filter_check(filter, (uint32_t)params->output.channels);
}

/* Bytes of a tile's parameters, of its tables, of the blank pixel and of its weights, in this order. */
static uint32_t table_bytes(const tflnest_depthwise_conv_params *params)
{
    return uses_table(params) ? 2 * tap_count(params) * (uint32_t)sizeof(uintptr_t) : 0;
}

static uint32_t blank_bytes(const tflnest_depthwise_conv_params *params)
{
    return uses_table(params) ? (tile_channels(params) + 7u) / 8u * 8u : 0;
}

uint32_t tflnest_depthwise_conv_get_buffer_size(const tflnest_depthwise_conv_params *params)
{
    const uint32_t weights = (tap_count(params) * tile_channels(params) + 7u) / 8u * 8u;
    return tflnest_tile_bytes(tile_channels(params), 0) + table_bytes(params) + blank_bytes(params) + weights;
}

/* Decode the weights of a tile, or leave them where they are. */
static void decode(depthwise *work, const tflnest_filter *filter, uint32_t first, uint32_t channels)
{
    const uint32_t all = (uint32_t)work->params->output.channels;
    tflnest_tile_set_channels(&work->tile, filter, first, channels);
    if (filter->values != NULL) {
        work->weights = filter->values + first;
        work->pitch = all;
        return;
    }
    for (uint32_t i = 0; i < work->taps; i++) {
        tflnest_decode(filter, i * all + first, channels, work->decoded + i * channels);
    }
    work->weights = work->decoded;
    work->pitch = channels;
}

/* --------------------------------------------------------------------------------------------- by table
 *
 * The addresses of all taps stand in a table, and what lies outside the image is read from a blank pixel. So
 * every window is computed by one loop without conditions, and the zero point of the input goes into the bias.
 */

static void correct_biases(depthwise *work)
{
    for (uint32_t c = 0; c < work->tile.channels; c++) {
        int32_t sum = 0;
        for (uint32_t i = 0; i < work->taps; i++) {
            sum += work->weights[i * work->pitch + c];
        }
        tflnest_channel *channel = &work->tile.parameters[c];
        channel->bias =
            tflnest_add_wrapping(channel->bias, -work->params->requantization.input_zero_point * sum);
    }
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
    memset(work->blank, (int)params->requantization.input_zero_point, tile_channels(params));
}

/* Fill the addresses of the taps of the window whose first tap lies at (top, left) of an image. */
static void address_taps(const depthwise *work, const int8_t *image, int32_t top, int32_t left)
{
    const tflnest_depthwise_conv_params *params = work->params;
    const int32_t channels = params->input.channels, width = params->input.width;
    uint32_t i = 0;
    for (int32_t y = 0; y < params->filter.height; y++) {
        const int32_t row = top + y * params->dilation.height;
        for (int32_t x = 0; x < params->filter.width; x++) {
            const int32_t column = left + x * params->dilation.width;
            const int is_inside = row >= 0 && row < params->input.height && column >= 0 && column < width;
            const int8_t *tap = is_inside ? image + (row * width + column) * channels : work->blank;
            work->addresses[i++] = (uintptr_t)tap;
        }
    }
}

/* Channels of one window.
 *
 * base  Added to the addresses in the table.
 */
static void run_channels(const depthwise *work, const uintptr_t *table, uintptr_t base, int8_t *output)
{
    const uint32_t channels = work->tile.channels, pitch = work->pitch, taps = work->taps;
    uint32_t c = 0;
    for (; c + 4 <= channels; c += 4) {
        const tflnest_channel *parameters = &work->tile.parameters[c];
        const int8_t *w = work->weights + c;
        int32_t sum0 = 0, sum1 = 0, sum2 = 0, sum3 = 0;
        for (uint32_t i = 0; i < taps; i++) {
            const int8_t *x = (const int8_t *)(table[i] + base + c);
            sum0 += x[0] * w[0];
            sum1 += x[1] * w[1];
            sum2 += x[2] * w[2];
            sum3 += x[3] * w[3];
            w += pitch;
        }
        output[c] = tflnest_tile_finish(&work->tile, c, tflnest_add_wrapping(sum0, parameters[0].bias));
        output[c + 1] = tflnest_tile_finish(&work->tile, c + 1, tflnest_add_wrapping(sum1, parameters[1].bias));
        output[c + 2] = tflnest_tile_finish(&work->tile, c + 2, tflnest_add_wrapping(sum2, parameters[2].bias));
        output[c + 3] = tflnest_tile_finish(&work->tile, c + 3, tflnest_add_wrapping(sum3, parameters[3].bias));
    }
    for (; c < channels; c++) {
        int32_t sum = 0;
        for (uint32_t i = 0; i < taps; i++) {
            sum += *(const int8_t *)(table[i] + base + c) * work->weights[i * pitch + c];
        }
        output[c] = tflnest_tile_finish(&work->tile, c, tflnest_add_wrapping(sum, work->tile.parameters[c].bias));
    }
}

static int reaches_out(int32_t first, int32_t taps, int32_t dilation, int32_t size)
{
    return first < 0 || first + (taps - 1) * dilation >= size;
}

/* One row of windows of an image, from the tile's first channel on. */
static void run_table_row(const depthwise *work, const int8_t *image, int32_t y, int8_t *output)
{
    const tflnest_depthwise_conv_params *params = work->params;
    const tflnest_extent *filter = &params->filter, *dilation = &params->dilation;
    const int32_t top = y * params->stride.height - params->padding.height;
    const int is_border = reaches_out(top, filter->height, dilation->height, params->input.height);
    const int8_t *first = image;
    for (int32_t x = 0; x < params->output.width; x++) {
        const int32_t left = x * params->stride.width - params->padding.width;
        if (is_border || reaches_out(left, filter->width, dilation->width, params->input.width)) {
            address_taps(work, image, top, left);
            run_channels(work, work->addresses, 0, output);
        } else {
            first = image + (top * params->input.width + left) * params->input.channels;
            run_channels(work, work->inside, (uintptr_t)first, output);
        }
        output += params->output.channels;
    }
}

/* ---------------------------------------------------------------------------------------------- by window */

/* One output. */
static int32_t sum_window(const depthwise *work, uint32_t channel, const int8_t *image, int32_t top, int32_t left)
{
    const tflnest_depthwise_conv_params *params = work->params;
    const tflnest_extent *filter = &params->filter, *dilation = &params->dilation;
    const tflnest_taps rows = tflnest_taps_inside(top, filter->height, dilation->height, params->input.height);
    const tflnest_taps columns = tflnest_taps_inside(left, filter->width, dilation->width, params->input.width);
    const int32_t step = dilation->width * params->input.channels;
    const int32_t zero_point = params->requantization.input_zero_point;
    int32_t sum = 0;
    for (int32_t y = rows.first; y < rows.end; y++) {
        const int32_t row = top + y * dilation->height, column = left + columns.first * dilation->width;
        const int8_t *w = work->weights + (uint32_t)(y * filter->width + columns.first) * work->pitch + channel;
        int32_t x = (row * params->input.width + column) * params->input.channels;
        for (int32_t i = columns.first; i < columns.end; i++) {
            sum += (image[x] - zero_point) * *w;
            x += step;
            w += i + 1 < columns.end ? work->pitch : 0;
        }
    }
    return sum;
}

/* One row of windows of an image, for the tile's channels. */
static void run_window_row(const depthwise *work, const int8_t *image, uint32_t first, int32_t y, int8_t *output)
{
    const tflnest_depthwise_conv_params *params = work->params;
    const uint32_t multiplier = (uint32_t)(params->output.channels / params->input.channels);
    const int32_t top = y * params->stride.height - params->padding.height;
    for (int32_t x = 0; x < params->output.width; x++) {
        const int32_t left = x * params->stride.width - params->padding.width;
        for (uint32_t c = 0; c < work->tile.channels; c++) {
            const int32_t sum = sum_window(work, c, image + (first + c) / multiplier, top, left);
            output[c] = tflnest_tile_finish(&work->tile, c, tflnest_add_wrapping(sum, work->tile.parameters[c].bias));
        }
        output += params->output.channels;
    }
}

static void run_tile(const depthwise *work, const int8_t *input, uint32_t first, int8_t *output)
{
    const tflnest_depthwise_conv_params *params = work->params;
    const int32_t image = params->input.height * params->input.width * params->input.channels;
    const int32_t row = params->output.width * params->output.channels;
    const int by_table = uses_table(params);
    output += first;
    for (int32_t n = 0; n < params->output.batches; n++) {
        for (int32_t y = 0; y < params->output.height; y++) {
            if (by_table) {
                run_table_row(work, input + n * image + first, y, output);
            } else {
                run_window_row(work, input + n * image, first, y, output);
            }
            output += row;
        }
    }
}

void tflnest_depthwise_conv_s8(const tflnest_depthwise_conv_params *params, const tflnest_filter *filter,
                               const int8_t *input, int8_t *output, void *scratch)
{
    const uint32_t size = tile_channels(params), channels = (uint32_t)params->output.channels;
    const int by_table = uses_table(params);
    uint8_t *free = scratch;
    depthwise work = {.params = params, .taps = tap_count(params)};
    work.tile = tflnest_tile_place(scratch, size, work.taps, &params->requantization);
    free += tflnest_tile_bytes(size, 0);
    work.inside = (void *)free;
    work.addresses = work.inside + work.taps;
    free += table_bytes(params);
    work.blank = (void *)free;
    free += blank_bytes(params);
    work.decoded = (void *)free;
    if (by_table) {
        fill_tables(&work);
    }
    for (uint32_t first = 0; first < channels; first += size) {
        decode(&work, filter, first, channels - first < size ? channels - first : size);
        if (by_table) {
            correct_biases(&work);
        }
        run_tile(&work, input, first, output);
    }
}
