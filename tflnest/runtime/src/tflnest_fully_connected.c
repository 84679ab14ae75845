#include "tflnest/tflnest_fully_connected.h"

#include "tflnest_decode.h"
#include "tflnest_fully_connected_dsp.h"
#include "tflnest_fully_connected_mve.h"
#include "tflnest_fully_connected_narrow.h"
#include "tflnest_geometry.h"
#include "tflnest_tile.h"
#include "tflnest_unbuffered.h"

tflnest_status tflnest_fully_connected_check(const tflnest_fully_connected_params *params,
                                             const tflnest_filter *filter)
{
    if (params == NULL || params->batches < 1 || params->inputs < 1 || params->outputs < 1 ||
        params->tile_channels < 0 || params->inputs > TFLNEST_MAX_PRODUCTS ||
        !tflnest_requantization_is_sound(&params->requantization)) {
        return TFLNEST_ERROR_ARGUMENT;
    }
    if ((int64_t)params->inputs * params->outputs > INT32_MAX ||
        (int64_t)params->batches * params->inputs > INT32_MAX ||
        (int64_t)params->batches * params->outputs > INT32_MAX) {
        return TFLNEST_ERROR_ARGUMENT;
    }
    return tflnest_filter_check(filter, (uint32_t)params->outputs);
}

/* Whether rows are decoded as they are multiplied, without a tile. */
#if TFLNEST_VARIANT == TFLNEST_VARIANT_DSP
#define IS_DIRECT(params) 1
#define DIRECT_BYTES tflnest_fully_connected_dsp_bytes
#define DIRECT_RUN tflnest_fully_connected_dsp_run
#elif TFLNEST_VARIANT == TFLNEST_VARIANT_MVE
#define IS_DIRECT(params) 1
#define DIRECT_BYTES tflnest_fully_connected_mve_bytes
#define DIRECT_RUN tflnest_fully_connected_mve_run
#elif TFLNEST_VARIANT == TFLNEST_VARIANT_NARROW
#define IS_DIRECT(params) ((params)->batches == 1)
#define DIRECT_BYTES tflnest_fully_connected_narrow_bytes
#define DIRECT_RUN tflnest_fully_connected_narrow_run
#endif

/* Rows of weights per tile. */
static uint32_t tile_rows(const tflnest_fully_connected_params *params)
{
    return (uint32_t)(params->tile_channels < params->outputs ? params->tile_channels : params->outputs);
}

uint32_t tflnest_fully_connected_get_buffer_size(const tflnest_fully_connected_params *params)
{
    const uint32_t inputs = (uint32_t)params->inputs;
    if (params->tile_channels == 0) {
        return 0;
    }
#ifdef IS_DIRECT
    if (IS_DIRECT(params)) {
        return DIRECT_BYTES(params);
    }
#endif
    return tflnest_tile_bytes(tile_rows(params), inputs) +
           (TFLNEST_INPUT_IS_BLOCK(inputs) ? 0 : tflnest_block_bytes(inputs));
}

static void run_rows(const tflnest_tile *tile, const tflnest_fully_connected_params *params, const int8_t *input,
                     int8_t *output, tflnest_operand *block)
{
    const uint32_t inputs = (uint32_t)params->inputs, outputs = (uint32_t)params->outputs;
    const uint32_t batches = (uint32_t)params->batches;
    if (TFLNEST_INPUT_IS_BLOCK(inputs)) {
        const tflnest_operand *rows = (const void *)input;
        tflnest_tile_multiply(tile, rows, batches, output, outputs);
        return;
    }
    for (uint32_t i = 0; i < batches; i++) {
        tflnest_block_load(tile, block, 0, 0, input + i * inputs, inputs);
        tflnest_tile_multiply(tile, block, 1, output + i * outputs, outputs);
    }
}

__attribute__((noinline)) static void run_tiles(const tflnest_fully_connected_params *params, const tflnest_filter *filter, const int8_t *input,
                      int8_t *output, void *scratch)
{
    const uint32_t rows = tile_rows(params), outputs = (uint32_t)params->outputs;
    tflnest_tile tile;
    tflnest_tile_place(&tile, scratch, rows, (uint32_t)params->inputs, &params->requantization);
    tflnest_operand *block = (void *)((uint8_t *)scratch + tflnest_tile_bytes(rows, tile.products));
    for (uint32_t first = 0; first < outputs; first += rows) {
        tflnest_tile_decode(&tile, filter, first, outputs - first < rows ? outputs - first : rows);
        run_rows(&tile, params, input, output + first, block);
    }
}

void tflnest_fully_connected_s8(const tflnest_fully_connected_params *params, const tflnest_filter *filter,
                                const int8_t *input, int8_t *output, void *scratch)
{
#ifdef IS_DIRECT
    if (IS_DIRECT(params)) {
        for (int32_t i = 0; i < params->batches; i++) {
            DIRECT_RUN(params, filter, input, output, scratch);
            input += params->inputs;
            output += params->outputs;
        }
        return;
    }
#endif
    run_tiles(params, filter, input, output, scratch);
}

void tflnest_fully_connected_unbuffered_s8(const tflnest_fully_connected_params *params, const tflnest_filter *filter,
                                           const int8_t *input, int8_t *output)
{
#if TFLNEST_VARIANT == TFLNEST_VARIANT_MVE
    tflnest_fully_connected_s8(params, filter, input, output, NULL);
#else
    const uint32_t inputs = (uint32_t)params->inputs;
    static const tflnest_extent one = {1, 1}, none = {0, 0};
    const tflnest_shape input_shape = {params->batches, 1, 1, params->inputs};
    const tflnest_shape output_shape = {params->batches, 1, 1, params->outputs};
    const tflnest_unbuffered work = {
        .input = &input_shape,
        .output = &output_shape,
        .filter = &one,
        .stride = &one,
        .dilation = &one,
        .padding = &none,
        .requantization = &params->requantization,
        .depth = inputs,
        .tap_step = inputs,
        .channel_step = inputs,
        .sharing = (uint32_t)params->outputs,
    };
    tflnest_unbuffered_run(&work, filter, input, output);
#endif
}
