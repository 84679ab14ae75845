#include "tflnest/tflnest_conv.h"

#include <string.h>

#include "tflnest_convolution.h"
#include "tflnest_copy_short.h"
#include "tflnest_decode.h"
#include "tflnest_geometry.h"
#include "tflnest_tile.h"
#include "tflnest_unbuffered.h"

/* A convolution over one tile: pixels are gathered into a block, and multiplied when it is full. */
typedef struct {
    const tflnest_conv_params *params;
    tflnest_tile tile;
    tflnest_operand *block;
    int8_t *whole; /* where a pixel is put together first; NULL where its pieces go to the block */
    uint32_t gathered;
    uint32_t depth; /* input channels of a group */
    int is_contiguous; /* whether the taps of a row of the window lie side by side */
    int8_t *output; /* of the first gathered pixel */
} convolution;

static uint32_t group_depth(const tflnest_conv_params *params)
{
    return (uint32_t)(params->input.channels / params->groups);
}

static uint32_t products(const tflnest_conv_params *params)
{
    return (uint32_t)(params->filter.height * params->filter.width) * group_depth(params);
}

/* Whether every output reads one pixel, and the pixels lie in memory in the order of the outputs. */
static int is_pointwise(const tflnest_conv_params *params)
{
    return params->filter.height == 1 && params->filter.width == 1 && params->stride.height == 1 &&
           params->stride.width == 1 && params->padding.height == 0 && params->padding.width == 0 &&
           params->groups == 1 && params->input.height == params->output.height &&
           params->input.width == params->output.width;
}

/* Whether pixels are copied before they are multiplied. */
static int gathers_pixels(const tflnest_conv_params *params)
{
    return !is_pointwise(params) || !TFLNEST_INPUT_IS_BLOCK(group_depth(params));
}

/* Whether they are put together elsewhere first. */
static int gathers_whole(const tflnest_conv_params *params)
{
    return !is_pointwise(params) && tflnest_block_needs_whole(group_depth(params));
}

/* Output channels per tile. */
static uint32_t tile_channels(const tflnest_conv_params *params)
{
    const int32_t group = params->output.channels / params->groups;
    return (uint32_t)(params->tile_channels < group ? params->tile_channels : group);
}

tflnest_status tflnest_conv_check(const tflnest_conv_params *params, const tflnest_filter *filter)
{
    if (params == NULL) {
        return TFLNEST_ERROR_ARGUMENT;
    }
    const tflnest_sliding_window window = {params->filter, params->stride, params->dilation, params->padding};
    if (!tflnest_convolution_is_sound(&window, &params->input, &params->output, &params->requantization) ||
        params->tile_channels < 0 || params->groups < 1 || params->input.channels % params->groups != 0 ||
        params->output.channels % params->groups != 0) {
        return TFLNEST_ERROR_ARGUMENT;
    }
    const int64_t taps = (int64_t)params->filter.height * params->filter.width;
    if (taps > TFLNEST_MAX_PRODUCTS || taps * group_depth(params) > TFLNEST_MAX_PRODUCTS ||
        taps * group_depth(params) * params->output.channels > INT32_MAX) {
        return TFLNEST_ERROR_ARGUMENT;
    }
    return tflnest_filter_check(filter, (uint32_t)params->output.channels);
}

uint32_t tflnest_conv_get_buffer_size(const tflnest_conv_params *params)
{
    if (params->tile_channels == 0) {
        return 0;
    }
    uint32_t bytes = tflnest_tile_bytes(tile_channels(params), products(params));
    bytes += gathers_pixels(params) ? tflnest_block_bytes(products(params)) : 0;
    bytes += gathers_whole(params) ? (products(params) + 7u) / 8u * 8u : 0;
    return bytes;
}

static void multiply_gathered(convolution *work)
{
    const uint32_t stride = (uint32_t)work->params->output.channels;
    tflnest_tile_multiply(&work->tile, work->block, work->gathered, work->output, stride);
    work->output += work->gathered * stride;
    work->gathered = 0;
}

static void end_pixel(convolution *work)
{
    if (work->whole != NULL) {
        tflnest_block_load(&work->tile, work->block, work->gathered, 0, work->whole, work->tile.products);
    }
    if (++work->gathered == TFLNEST_BLOCK_PIXELS) {
        multiply_gathered(work);
    }
}

/* Put activations at a position of the pixel that is being gathered; NULL for some outside the image. */
static inline void put(const convolution *work, uint32_t position, const int8_t *input, uint32_t count)
{
    if (work->whole == NULL) {
        tflnest_block_load(&work->tile, work->block, work->gathered, position, input, count);
    } else if (input == NULL) {
        memset(work->whole + position, (int)work->params->requantization.input_zero_point, count);
    } else {
        tflnest_copy_short(work->whole + position, input, count);
    }
}

/* Gather the window whose first tap lies at (top, left) of an image. */
static void gather(const convolution *work, const int8_t *image, int32_t top, int32_t left)
{
    const tflnest_conv_params *params = work->params;
    const tflnest_extent *filter = &params->filter, *dilation = &params->dilation;
    const int32_t channels = params->input.channels, step = dilation->width * channels;
    const int32_t pitch = params->input.width * channels, down = dilation->height * pitch;
    const tflnest_taps rows = tflnest_taps_inside(top, filter->height, dilation->height, params->input.height);
    const tflnest_taps columns = tflnest_taps_inside(left, filter->width, dilation->width, params->input.width);
    const uint32_t depth = work->depth, row = (uint32_t)filter->width * depth;
    const uint32_t inside = (uint32_t)(columns.end - columns.first);
    const uint32_t count = inside > 0 ? (uint32_t)(rows.end - rows.first) : 0;
    if (inside < (uint32_t)filter->width || count < (uint32_t)filter->height) {
        put(work, 0, NULL, work->tile.products);
    }
    int32_t pixel = (top + rows.first * dilation->height) * pitch + left * channels + columns.first * step;
    uint32_t position = (uint32_t)rows.first * row + (uint32_t)columns.first * depth;
    for (uint32_t i = 0; i < count; i++) {
        if (work->is_contiguous) {
            put(work, position, image + pixel, inside * depth);
        } else {
            for (uint32_t j = 0; j < inside; j++) {
                put(work, position + j * depth, image + pixel + (int32_t)j * step, depth);
            }
        }
        position += row;
        pixel += down;
    }
}

/* One row of outputs of an image. */
static void run_row(convolution *work, const int8_t *image, int32_t y)
{
    const tflnest_conv_params *params = work->params;
    const int32_t top = y * params->stride.height - params->padding.height;
    int32_t left = -params->padding.width;
    for (int32_t x = 0; x < params->output.width; x++) {
        gather(work, image, top, left);
        end_pixel(work);
        left += params->stride.width;
    }
}

__attribute__((noinline)) static void run_windows(convolution *work, const int8_t *input)
{
    const tflnest_conv_params *params = work->params;
    const int32_t image = params->input.height * params->input.width * params->input.channels;
    for (int32_t n = 0; n < params->output.batches; n++) {
        for (int32_t y = 0; y < params->output.height; y++) {
            run_row(work, input + n * image, y);
        }
    }
    multiply_gathered(work);
}

__attribute__((noinline)) static void run_pixels(convolution *work, const int8_t *input)
{
    const tflnest_shape *shape = &work->params->output;
    const uint32_t pixels = (uint32_t)(shape->batches * shape->height * shape->width);
    if (TFLNEST_INPUT_IS_BLOCK(work->depth)) {
        const tflnest_operand *block = (const void *)input;
        tflnest_tile_multiply(&work->tile, block, pixels, work->output, (uint32_t)shape->channels);
        return;
    }
    for (uint32_t i = 0; i < pixels; i++) {
        put(work, 0, input + i * work->depth, work->depth);
        end_pixel(work);
    }
    multiply_gathered(work);
}

/* Decode the weights of a tile that lie channel by channel at every tap: bring them into rows first. */
__attribute__((noinline)) static void decode_turned(tflnest_tile *tile, const tflnest_filter *filter, uint32_t first,
                                                    uint32_t channels, uint32_t step, int8_t *turned)
{
    tflnest_filter rows = *filter;
    for (uint32_t tap = 0; tap < tile->products; tap++) {
        for (uint32_t i = 0; i < channels; i += TFLNEST_GROUP) {
            int8_t weights[TFLNEST_GROUP];
            const uint32_t count = channels - i < TFLNEST_GROUP ? channels - i : TFLNEST_GROUP;
            tflnest_decode(filter, tap * step + first + i, count, weights);
            for (uint32_t j = 0; j < count; j++) {
                turned[(i + j) * tile->products + tap] = weights[j];
            }
        }
    }
    rows.values = turned;
    rows.bias = filter->bias == NULL ? NULL : filter->bias + first;
    rows.multipliers += filter->per_channel ? first : 0;
    rows.shifts += filter->per_channel ? first : 0;
    tflnest_tile_decode(tile, &rows, 0, channels);
}

void tflnest_convolution_run(const tflnest_conv_params *params, const tflnest_filter *filter, const int8_t *input,
                             int8_t *output, void *scratch, int8_t *turned)
{
    const uint32_t size = tile_channels(params), channels = (uint32_t)params->output.channels;
    const uint32_t group_channels = channels / (uint32_t)params->groups;
    convolution work;
    work.params = params;
    work.gathered = 0;
    work.depth = group_depth(params);
    work.is_contiguous = params->dilation.width == 1 && params->groups == 1;
    tflnest_tile_place(&work.tile, scratch, size, products(params), &params->requantization);
    uint8_t *free = (uint8_t *)scratch + tflnest_tile_bytes(size, work.tile.products);
    work.block = (void *)free;
    work.whole = gathers_whole(params) ? (int8_t *)free + tflnest_block_bytes(work.tile.products) : NULL;
    for (uint32_t first = 0, count; first < channels; first += count) {
        const uint32_t group = first / group_channels, left = (group + 1) * group_channels - first;
        count = left < size ? left : size;
        if (turned != NULL) {
            decode_turned(&work.tile, filter, first, count, channels, turned);
        } else {
            tflnest_tile_decode(&work.tile, filter, first, count);
        }
        work.output = output + first;
        if (is_pointwise(params)) {
            run_pixels(&work, input);
        } else {
            run_windows(&work, input + group * work.depth);
        }
    }
}

void tflnest_conv_s8(const tflnest_conv_params *params, const tflnest_filter *filter, const int8_t *input,
                     int8_t *output, void *scratch)
{
    tflnest_convolution_run(params, filter, input, output, scratch, NULL);
}

void tflnest_conv_unbuffered_s8(const tflnest_conv_params *params, const tflnest_filter *filter, const int8_t *input,
                                int8_t *output)
{
    const tflnest_unbuffered work = {
        .input = &params->input,
        .output = &params->output,
        .filter = &params->filter,
        .stride = &params->stride,
        .dilation = &params->dilation,
        .padding = &params->padding,
        .requantization = &params->requantization,
        .depth = group_depth(params),
        .tap_step = group_depth(params),
        .channel_step = products(params),
        .sharing = (uint32_t)(params->output.channels / params->groups),
    };
    tflnest_unbuffered_run(&work, filter, input, output);
}
