#include "tflnest_depthwise.h"

#include "tflnest_decode.h"
#include "tflnest_depthwise_dsp.h"
#include "tflnest_depthwise_mve.h"

#if TFLNEST_VARIANT != TFLNEST_VARIANT_X86

/* Decode the weights as int8, or leave them where they are. */
static void decode_flat(tflnest_depthwise *work, const tflnest_filter *filter, uint32_t first)
{
    const uint32_t channels = work->tile.channels;
    if (filter->values != NULL) {
        work->weights = filter->values + first;
        work->pitch = work->channels;
        return;
    }
    int8_t *decoded = work->room;
    for (uint32_t i = 0; i < work->taps; i++) {
        tflnest_decode(filter, i * work->channels + first, channels, decoded + i * channels);
    }
    work->weights = decoded;
    work->pitch = channels;
}

static void correct_biases(tflnest_depthwise *work)
{
    for (uint32_t c = 0; c < work->tile.channels; c++) {
        int32_t sum = 0;
        for (uint32_t i = 0; i < work->taps; i++) {
            sum += work->weights[i * work->pitch + c];
        }
        tflnest_channel *channel = &work->tile.parameters[c];
        channel->bias =
            tflnest_add_wrapping(channel->bias, -work->tile.requantization->input_zero_point * sum);
    }
}

static inline int8_t finish(const tflnest_depthwise *work, uint32_t channel, int32_t sum)
{
    const int32_t bias = work->tile.parameters[channel].bias;
    return tflnest_tile_finish(&work->tile, channel, tflnest_add_wrapping(sum, bias));
}

/* Sums of four channels of one window, at `base` plus the entries of the table.
 *
 * A function of its own, so that small cores keep everything in registers.
 */
__attribute__((noinline)) static void sum_four(const uintptr_t *table, const uintptr_t *end, uintptr_t base,
                                               uintptr_t weights, uint32_t pitch, int32_t *sums)
{
    int32_t sum0 = 0, sum1 = 0, sum2 = 0, sum3 = 0;
    while (table != end) {
        const int8_t *x = (const int8_t *)(*table++ + base), *w = (const int8_t *)weights;
        sum0 += x[0] * w[0];
        sum1 += x[1] * w[1];
        sum2 += x[2] * w[2];
        sum3 += x[3] * w[3];
        weights += pitch;
    }
    sums[0] = sum0;
    sums[1] = sum1;
    sums[2] = sum2;
    sums[3] = sum3;
}

/* All channels of one window. */
static void run_window(const tflnest_depthwise *work, const uintptr_t *table, uintptr_t base, int8_t *output)
{
    const uint32_t channels = work->tile.channels;
    const uintptr_t *end = table + work->taps;
    uint32_t c = 0;
    for (; c + 4 <= channels; c += 4) {
        int32_t sums[4];
        sum_four(table, end, base + c, (uintptr_t)(work->weights + c), work->pitch, sums);
        for (uint32_t i = 0; i < 4; i++) {
            output[c + i] = finish(work, c + i, sums[i]);
        }
    }
    for (; c < channels; c++) {
        int32_t sum = 0;
        for (uint32_t i = 0; i < work->taps; i++) {
            sum += *(const int8_t *)(table[i] + base + c) * work->weights[i * work->pitch + c];
        }
        output[c] = finish(work, c, sum);
    }
}

__attribute__((noinline)) static void run_windows(const tflnest_depthwise *work, const tflnest_windows *windows)
{
    int8_t *output = windows->output;
    uintptr_t base = windows->base;
    for (uint32_t i = 0; i < windows->count; i++) {
        run_window(work, windows->table, base, output);
        base += windows->step;
        output += i + 1 < windows->count ? work->channels : 0;
    }
}

#if TFLNEST_VARIANT == TFLNEST_VARIANT_DSP || TFLNEST_VARIANT == TFLNEST_VARIANT_MVE

#if TFLNEST_VARIANT == TFLNEST_VARIANT_DSP
#define GROUP_CHANNELS 4u
#define PACKED_TAPS tflnest_depthwise_dsp_taps
#define PACKED_FITS tflnest_depthwise_dsp_fits
#define PACKED_DECODE tflnest_depthwise_dsp_decode
#define PACKED_RUN tflnest_depthwise_dsp_run
typedef int16_t packed_weight;
#else
#define GROUP_CHANNELS TFLNEST_DEPTHWISE_MVE_CHANNELS
#define PACKED_TAPS tflnest_depthwise_mve_taps
#define PACKED_FITS(tile) ((tile)->channels % GROUP_CHANNELS == 0)
#define PACKED_DECODE tflnest_depthwise_mve_decode
#define PACKED_RUN tflnest_depthwise_mve_run
typedef int8_t packed_weight;
#endif

uint32_t tflnest_depthwise_entries(uint32_t taps)
{
    return PACKED_TAPS(taps);
}

uint32_t tflnest_depthwise_room(uint32_t channels, uint32_t taps)
{
    const uint32_t whole = (channels + GROUP_CHANNELS - 1u) / GROUP_CHANNELS * GROUP_CHANNELS;
    return whole * PACKED_TAPS(taps) * (uint32_t)sizeof(packed_weight);
}

/* Whole groups of channels first; the rest is a tile of its own, without packed weights. */
uint32_t tflnest_depthwise_tile(uint32_t channels)
{
    return channels > GROUP_CHANNELS ? channels / GROUP_CHANNELS * GROUP_CHANNELS : channels;
}

void tflnest_depthwise_decode(tflnest_depthwise *work, const tflnest_filter *filter, uint32_t first,
                              uint32_t channels)
{
    tflnest_tile_set_channels(&work->tile, filter, first, channels);
    work->weights = NULL;
    if (PACKED_FITS(&work->tile)) {
        PACKED_DECODE(work, filter, first);
    } else {
        decode_flat(work, filter, first);
        correct_biases(work);
    }
}

void tflnest_depthwise_run(const tflnest_depthwise *work, const tflnest_windows *windows)
{
    if (work->weights == NULL) {
        PACKED_RUN(work, windows);
    } else {
        run_windows(work, windows);
    }
}

#else

uint32_t tflnest_depthwise_entries(uint32_t taps)
{
    return taps;
}

uint32_t tflnest_depthwise_room(uint32_t channels, uint32_t taps)
{
    return (channels * taps + 7u) & ~7u;
}

uint32_t tflnest_depthwise_tile(uint32_t channels)
{
    return channels;
}

void tflnest_depthwise_decode(tflnest_depthwise *work, const tflnest_filter *filter, uint32_t first,
                              uint32_t channels)
{
    tflnest_tile_set_channels(&work->tile, filter, first, channels);
    decode_flat(work, filter, first);
    correct_biases(work);
}

void tflnest_depthwise_run(const tflnest_depthwise *work, const tflnest_windows *windows)
{
    run_windows(work, windows);
}

#endif

#endif
