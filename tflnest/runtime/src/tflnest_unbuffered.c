#include "tflnest_unbuffered.h"

#include "tflnest_decode.h"
#include "tflnest_tile.h"

#if TFLNEST_VARIANT == TFLNEST_VARIANT_MVE
#include <arm_mve.h>
#elif TFLNEST_VARIANT == TFLNEST_VARIANT_DSP
#include <string.h>
#endif

/* Pixels that share what is decoded. */
#define PIXELS 12u

/* Weights that are decoded at a time. */
#define CHUNK 32u

/* Where an output lies. */
typedef struct {
    int32_t image;
    int32_t y;
    int32_t x;
} place;

/* Some outputs of one channel, in the order in which they lie in memory. */
typedef struct {
    place first;
    uint32_t count;
    int32_t sums[PIXELS];
} pixels;

/* A tap of the window of one output channel. */
typedef struct {
    int32_t y;
    int32_t x;
    uint32_t weight; /* the place of its first weight in the filter */
    uint32_t source; /* the first input channel that it reads */
} tap;

/* Go on by some outputs, not beyond the end of a row. */
static void go_on(place *at, const tflnest_shape *output, int32_t outputs)
{
    at->x += outputs;
    if (at->x < output->width) {
        return;
    }
    at->x = 0;
    if (++at->y == output->height) {
        at->y = 0;
        at->image++;
    }
}

/* Sum of products. */
static int32_t multiply(const int8_t *weights, const int8_t *input, uint32_t count)
{
    int32_t sum = 0;
#if TFLNEST_VARIANT == TFLNEST_VARIANT_MVE
    for (int32_t left = (int32_t)count; left > 0; left -= 16) {
        const mve_pred16_t active = vctp8q((uint32_t)left);
        sum = vmladavaq_s8(sum, vldrbq_z_s8(weights, active), vldrbq_z_s8(input, active));
        weights += 16;
        input += 16;
    }
    return sum;
#elif TFLNEST_VARIANT == TFLNEST_VARIANT_DSP
    for (; count >= 4; count -= 4) {
        uint32_t w, x, even, odd;
        memcpy(&w, weights, sizeof w);
        memcpy(&x, input, sizeof x);
        __asm("sxtb16 %0, %2\n\tsxtb16 %1, %3" : "=&r"(even), "=&r"(odd) : "r"(w), "r"(x));
        __asm("smlad %0, %1, %2, %0" : "+r"(sum) : "r"(even), "r"(odd));
        __asm("sxtb16 %0, %2, ror #8\n\tsxtb16 %1, %3, ror #8" : "=&r"(even), "=&r"(odd) : "r"(w), "r"(x));
        __asm("smlad %0, %1, %2, %0" : "+r"(sum) : "r"(even), "r"(odd));
        weights += 4;
        input += 4;
    }
#endif
    for (uint32_t i = 0; i < count; i++) {
        sum += weights[i] * input[i];
    }
    return sum;
}

/* Some weights of a tap, decoded. */
typedef struct {
    const int8_t *weights;
    uint32_t count;
    int32_t total; /* their sum times the zero point of the input */
} part;

/* Add what a part of a tap contributes to some outputs; `input` is its first channel of the first pixel. */
__attribute__((noinline)) static void add_part(const tflnest_unbuffered *work, const tap *at, const part *decoded,
                                               const int8_t *input, pixels *some)
{
    const int32_t width = work->input->width, channels = work->input->channels, stride = work->stride->width;
    const int32_t down = at->y * work->dilation->height - work->padding->height;
    const int32_t right = at->x * work->dilation->width - work->padding->width;
    const int32_t single = decoded->weights[0], total = decoded->total;
    const uint32_t count = decoded->count;
    int32_t *sum = some->sums, *end = sum + some->count;
    place next = some->first;
    while (sum < end) {
        const int32_t run = tflnest_min((int32_t)(end - sum), work->output->width - next.x);
        const int32_t row = next.y * work->stride->height + down;
        const uint32_t inside = (uint32_t)row < (uint32_t)work->input->height ? (uint32_t)width : 0;
        int32_t column = next.x * stride + right;
        int32_t offset = ((next.image * work->input->height + row) * width + column) * channels;
        for (int32_t i = 0; i < run; i++) {
            if ((uint32_t)column < inside) {
                const int32_t products =
                    count == 1 ? single * input[offset] : multiply(decoded->weights, input + offset, count);
                *sum += products - total;
            }
            sum++;
            column += stride;
            offset += stride * channels;
        }
        go_on(&next, work->output, run);
    }
}

/* Add what a tap contributes to some outputs. */
static void add_tap(const tflnest_unbuffered *work, const tflnest_filter *filter,
                                              const tap *at, const int8_t *input, pixels *some)
{
    int8_t weights[CHUNK] __attribute__((aligned(4)));
    part decoded = {weights, 0, 0};
    for (uint32_t i = 0; i < work->depth; i += CHUNK) {
        decoded.count = work->depth - i < CHUNK ? work->depth - i : CHUNK;
        tflnest_decode(filter, at->weight + i, decoded.count, weights);
        decoded.total = 0;
        for (uint32_t j = 0; j < decoded.count; j++) {
            decoded.total += weights[j];
        }
        decoded.total *= work->requantization->input_zero_point;
        add_part(work, at, &decoded, input + at->source + i, some);
    }
}

/* Sums of some outputs of a channel. */
__attribute__((noinline)) static void sum_pixels(const tflnest_unbuffered *work, const tflnest_filter *filter,
                                                 uint32_t channel, const int8_t *input, pixels *some)
{
    tap at = {0, 0, channel * work->channel_step, channel / work->sharing * work->depth};
    for (uint32_t i = 0; i < some->count; i++) {
        some->sums[i] = 0;
    }
    for (; at.y < work->filter->height; at.y++) {
        for (at.x = 0; at.x < work->filter->width; at.x++) {
            add_tap(work, filter, &at, input, some);
            at.weight += work->tap_step;
        }
    }
}

/* Outputs of a channel, pixel after pixel; goes on by them. */
__attribute__((noinline)) static void finish(const tflnest_unbuffered *work, const tflnest_tile *tile, pixels *some,
                                             int8_t *output)
{
    for (uint32_t i = 0; i < some->count; i++) {
        *output = tflnest_tile_finish(tile, 0, tflnest_add_wrapping(some->sums[i], tile->parameters[0].bias));
        output += i + 1 < some->count ? work->output->channels : 0;
        go_on(&some->first, work->output, 1);
    }
}

void tflnest_unbuffered_run(const tflnest_unbuffered *work, const tflnest_filter *filter, const int8_t *input,
                            int8_t *output)
{
    const uint32_t channels = (uint32_t)work->output->channels;
    const uint32_t outputs = (uint32_t)(work->output->batches * work->output->height * work->output->width);
    tflnest_channel parameters;
    tflnest_tile tile = {.parameters = &parameters, .requantization = work->requantization};
    pixels some;
    tile.products = (uint32_t)(work->filter->height * work->filter->width) * work->depth;
    for (uint32_t channel = 0; channel < channels; channel++) {
        some.first.image = some.first.y = some.first.x = 0;
        tflnest_tile_set_channel(&tile, 0, filter, channel);
        for (uint32_t first = 0; first < outputs; first += PIXELS) {
            some.count = outputs - first < PIXELS ? outputs - first : PIXELS;
            sum_pixels(work, filter, channel, input, &some);
            finish(work, &tile, &some, output + first * channels + channel);
        }
    }
}
