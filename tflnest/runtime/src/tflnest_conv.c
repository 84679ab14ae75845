#include "tflnest/tflnest_conv.h"

#include "tflnest_decode.h"
#include "tflnest_geometry.h"
#include "tflnest_tile.h"

/* A convolution over one tile: pixels are gathered as rows of operands, and multiplied a block at a time. */
typedef struct {
    const tflnest_conv_params *params;
    tflnest_tile tile;
    tflnest_operand *block; /* gathered pixels */
    uint32_t gathered;
    uint32_t depth; /* input channels of a group */
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
    return TFLNEST_OPERANDS_CENTRED || !is_pointwise(params);
}

/* Output channels per tile. */
static uint32_t tile_channels(const tflnest_conv_params *params)
{
    const int32_t group = params->output.channels / params->groups;
    return (uint32_t)(params->tile_channels < group ? params->tile_channels : group);
}

static int window_is_sound(const tflnest_conv_params *params)
{
    const int64_t bottom = (int64_t)params->output.height * params->stride.height +
                           (int64_t)params->filter.height * params->dilation.height;
    const int64_t right =
        (int64_t)params->output.width * params->stride.width + (int64_t)params->filter.width * params->dilation.width;
    return bottom <= INT32_MAX / 2 && right <= INT32_MAX / 2;
}

tflnest_status tflnest_conv_check(const tflnest_conv_params *params, const tflnest_filter *filter)
{
    if (params == NULL || !tflnest_shape_is_sound(&params->input) || !tflnest_shape_is_sound(&params->output) ||
        !tflnest_extent_is_sound(&params->filter, 1) || !tflnest_extent_is_sound(&params->stride, 1) ||
        !tflnest_extent_is_sound(&params->dilation, 1) || !tflnest_extent_is_sound(&params->padding, 0) ||
        !tflnest_requantization_is_sound(&params->requantization) || !window_is_sound(params)) {
        return TFLNEST_ERROR_ARGUMENT;
    }
    if (params->input.batches != params->output.batches || params->tile_channels < 1 || params->groups < 1 ||
        params->input.channels % params->groups != 0 || params->output.channels % params->groups != 0) {
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
    const uint32_t tile = tflnest_tile_bytes(tile_channels(params), products(params));
    if (!gathers_pixels(params)) {
        return tile;
    }
    const uint32_t row = tflnest_operand_stride(products(params)) * (uint32_t)sizeof(tflnest_operand);
    return tile + (TFLNEST_PIXEL_BLOCK * row + 7u) / 8u * 8u;
}

static void multiply_gathered(convolution *work)
{
    const uint32_t stride = (uint32_t)work->params->output.channels;
    tflnest_tile_multiply(&work->tile, work->block, work->tile.stride, work->gathered, work->output, stride);
    work->output += work->gathered * stride;
    work->gathered = 0;
}

/* Where the next pixel is gathered. */
static tflnest_operand *next_pixel(convolution *work)
{
    return work->block + work->gathered * work->tile.stride;
}

static void end_pixel(convolution *work)
{
    if (++work->gathered == TFLNEST_PIXEL_BLOCK) {
        multiply_gathered(work);
    }
}

/* Gather the taps of one row of the window.
 *
 * row    The row of the image at the first channel of the group, column 0.
 * column Column of the image under the first tap; may lie outside.
 */
static void gather_row(const convolution *work, const int8_t *row, int32_t column, tflnest_operand *operands)
{
    const tflnest_conv_params *params = work->params;
    const int32_t zero_point = params->requantization.input_zero_point;
    const int32_t step = params->dilation.width, channels = params->input.channels, width = params->filter.width;
    const tflnest_taps taps = tflnest_taps_inside(column, width, step, params->input.width);
    const uint32_t inside = (uint32_t)(taps.end - taps.first), after = (uint32_t)(width - taps.end);
    tflnest_operands_blank(operands, (uint32_t)taps.first * work->depth, zero_point);
    operands += (uint32_t)taps.first * work->depth;
    const int8_t *pixel = row + (taps.first == taps.end ? 0 : (column + taps.first * step) * channels);
    if (step == 1 && params->groups == 1) {
        tflnest_operands_load(operands, pixel, inside * work->depth, zero_point);
    } else {
        for (uint32_t i = 0; i < inside; i++) {
            tflnest_operands_load(operands + i * work->depth, pixel, work->depth, zero_point);
            pixel += i + 1 < inside ? step * channels : 0;
        }
    }
    tflnest_operands_blank(operands + inside * work->depth, after * work->depth, zero_point);
}

/* Gather the window whose first tap lies at (y, x) of an image. */
static void gather(const convolution *work, const int8_t *image, int32_t y, int32_t x, tflnest_operand *operands)
{
    const tflnest_conv_params *params = work->params;
    const uint32_t taps = (uint32_t)params->filter.width * work->depth;
    const int32_t pitch = params->input.width * params->input.channels;
    for (int32_t i = 0; i < params->filter.height; i++) {
        if (y >= 0 && y < params->input.height) {
            gather_row(work, image + y * pitch, x, operands);
        } else {
            tflnest_operands_blank(operands, taps, params->requantization.input_zero_point);
        }
        operands += taps;
        y += params->dilation.height;
    }
}

static void run_windows(convolution *work, const int8_t *input)
{
    const tflnest_conv_params *params = work->params;
    const int32_t image = params->input.height * params->input.width * params->input.channels;
    for (int32_t n = 0; n < params->output.batches; n++) {
        for (int32_t y = 0; y < params->output.height; y++) {
            for (int32_t x = 0; x < params->output.width; x++) {
                const int32_t top = y * params->stride.height - params->padding.height;
                const int32_t left = x * params->stride.width - params->padding.width;
                gather(work, input + n * image, top, left, next_pixel(work));
                end_pixel(work);
            }
        }
    }
    multiply_gathered(work);
}

static void run_pixels(convolution *work, const int8_t *input)
{
    const tflnest_shape *shape = &work->params->output;
    const uint32_t pixels = (uint32_t)(shape->batches * shape->height * shape->width);
#if TFLNEST_OPERANDS_CENTRED
    for (uint32_t i = 0; i < pixels; i++) {
        tflnest_operands_load(next_pixel(work), input + i * work->depth, work->depth,
                              work->params->requantization.input_zero_point);
        end_pixel(work);
    }
    multiply_gathered(work);
#else
    tflnest_tile_multiply(&work->tile, input, work->depth, pixels, work->output, (uint32_t)shape->channels);
#endif
}

void tflnest_conv_s8(const tflnest_conv_params *params, const tflnest_filter *filter, const int8_t *input,
                     int8_t *output, void *scratch)
{
    const uint32_t size = tile_channels(params);
    const uint32_t group_channels = (uint32_t)(params->output.channels / params->groups);
    convolution work = {.params = params, .depth = group_depth(params)};
    work.tile = tflnest_tile_place(scratch, size, products(params), &params->requantization);
    work.block = (void *)((uint8_t *)scratch + tflnest_tile_bytes(size, work.tile.products));
    if (gathers_pixels(params)) {
        tflnest_operands_blank(work.block, TFLNEST_PIXEL_BLOCK * work.tile.stride,
                               params->requantization.input_zero_point);
    }
    for (uint32_t group = 0; group < (uint32_t)params->groups; group++) {
        const uint32_t end = (group + 1) * group_channels;
        for (uint32_t first = group * group_channels; first < end; first += size) {
            tflnest_tile_decode(&work.tile, filter, first, end - first < size ? end - first : size);
            work.output = output + first;
            work.gathered = 0;
            if (is_pointwise(params)) {
                run_pixels(&work, input);
            } else {
                run_windows(&work, input + group * work.depth);
            }
        }
    }
}
