/* Depthwise convolution by table with AVX2 or AVX-512.
 *
 * A vector holds the sums of neighbouring channels. Two taps are taken at a time: their activations, interleaved
 * and widened, are multiplied by pairs of weights that lie ready in the same order.
 */
#include "tflnest_depthwise.h"

#if TFLNEST_VARIANT == TFLNEST_VARIANT_X86

#include "tflnest_decode.h"
#include "tflnest_vector_x86.h"

#define CACHE_LINE 64u

/* Channels of a vector: parameters, then for every pair of taps one vector of pairs of int16. */
static uint32_t vector_bytes(uint32_t taps)
{
    return (uint32_t)sizeof(lane_parameters) + (taps + 1) / 2 * LANES * 4;
}

static uint8_t *vector_at(const tflnest_depthwise *work, uint32_t index)
{
    const uintptr_t start = ((uintptr_t)work->room + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    return (uint8_t *)start + index * vector_bytes(work->taps);
}

uint32_t tflnest_depthwise_entries(uint32_t taps)
{
    return taps;
}

uint32_t tflnest_depthwise_room(uint32_t channels, uint32_t taps)
{
    const uint32_t vectors = (channels + LANES - 1) / LANES;
    return (vectors * vector_bytes(taps) + CACHE_LINE + 7u) & ~7u;
}

uint32_t tflnest_depthwise_tile(uint32_t channels)
{
    return channels;
}

static void decode_vector(tflnest_depthwise *work, const tflnest_filter *filter, uint32_t first, uint32_t at)
{
    const uint32_t left = work->tile.channels - at, count = left < LANES ? left : LANES;
    lane_parameters *lanes = (lane_parameters *)(void *)vector_at(work, at / LANES);
    int16_t *pairs = (int16_t *)(lanes + 1);
    int32_t sums[LANES] = {0};
    memset(pairs, 0, (work->taps + 1) / 2 * LANES * 4);
    for (uint32_t i = 0; i < work->taps; i++) {
        int8_t weights[LANES];
        tflnest_decode(filter, i * work->channels + first + at, count, weights);
        for (uint32_t c = 0; c < count; c++) {
            pairs[(i / 2 * LANES + c) * 2 + i % 2] = weights[c];
            sums[c] += weights[c];
        }
    }
    tflnest_channel *channels = &work->tile.parameters[at];
    for (uint32_t c = 0; c < count; c++) {
        channels[c].bias =
            tflnest_add_wrapping(channels[c].bias, -work->tile.requantization->input_zero_point * sums[c]);
    }
    set_lanes(lanes, channels, count);
}

void tflnest_depthwise_decode(tflnest_depthwise *work, const tflnest_filter *filter, uint32_t first,
                              uint32_t channels)
{
    tflnest_tile_set_channels(&work->tile, filter, first, channels);
    for (uint32_t at = 0; at < channels; at += LANES) {
        decode_vector(work, filter, first, at);
    }
}

/* Activations of two taps as pairs of int16. */
static inline vector load_pairs(const int8_t *first, const int8_t *second, uint32_t count)
{
#if TFLNEST_X86_VNNI
    const __mmask16 used = (__mmask16)((1u << count) - 1u);
    const __m128i a = _mm_maskz_loadu_epi8(used, first), b = _mm_maskz_loadu_epi8(used, second);
    const __m256i both = _mm256_set_m128i(_mm_unpackhi_epi8(a, b), _mm_unpacklo_epi8(a, b));
    return _mm512_cvtepi8_epi16(both);
#else
    int64_t a = 0, b = 0;
    if (count == LANES) {
        memcpy(&a, first, LANES);
        memcpy(&b, second, LANES);
    } else {
        memcpy(&a, first, count);
        memcpy(&b, second, count);
    }
    return _mm256_cvtepi8_epi16(_mm_unpacklo_epi8(_mm_cvtsi64_si128(a), _mm_cvtsi64_si128(b)));
#endif
}

static inline vector add_pairs(vector sums, vector weights, vector pairs)
{
#if TFLNEST_X86_VNNI
    return _mm512_dpwssd_epi32(sums, weights, pairs);
#else
    return _mm256_add_epi32(sums, _mm256_madd_epi16(weights, pairs));
#endif
}

/* One vector of channels of some windows. */
static inline __attribute__((always_inline)) void run_vector(const tflnest_depthwise *work,
                                                             const tflnest_windows *windows, uint32_t at,
                                                             uint32_t count)
{
    const lane_parameters *lanes = (const lane_parameters *)(const void *)vector_at(work, at / LANES);
    const int16_t *weights = (const int16_t *)(lanes + 1);
    uintptr_t base = windows->base + at;
    int8_t *output = windows->output + at;
    for (uint32_t i = 0; i < windows->count; i++) {
        vector sums = zero();
        for (uint32_t tap = 0; tap < work->taps; tap += 2) {
            const uint32_t next = tap + 1 < work->taps ? tap + 1 : tap;
            const vector pairs = load_pairs((const int8_t *)(windows->table[tap] + base),
                                            (const int8_t *)(windows->table[next] + base), count);
            sums = add_pairs(sums, load(weights + tap * LANES), pairs);
        }
        finish_lanes(&work->tile, lanes, at, sums, output);
        base += windows->step;
        output += i + 1 < windows->count ? work->channels : 0;
    }
}

void tflnest_depthwise_run(const tflnest_depthwise *work, const tflnest_windows *windows)
{
    uint32_t at = 0;
    for (; work->tile.channels - at >= LANES; at += LANES) {
        run_vector(work, windows, at, LANES);
    }
    if (at < work->tile.channels) {
        run_vector(work, windows, at, work->tile.channels - at);
    }
}

#endif
