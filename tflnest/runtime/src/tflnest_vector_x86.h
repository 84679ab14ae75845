/* Vectors of int32 with AVX2 or AVX-512: what the x86 variant computes with.
 *
 * Names are short and static: only sources of the x86 variant include this.
 */
#ifndef TFLNEST_VECTOR_X86_H
#define TFLNEST_VECTOR_X86_H

#include "tflnest_variant.h"

#if TFLNEST_VARIANT == TFLNEST_VARIANT_X86

#include <immintrin.h>
#include <string.h>

#include "tflnest_tile.h"

#if TFLNEST_X86_VNNI
typedef __m512i vector;
#define LANES 16u
#else
typedef __m256i vector;
#define LANES 8u
#endif

/* What the sums of a vector of channels need to become outputs; see `tflnest_channel`. */
typedef struct {
    int32_t bias[LANES];
    int32_t multiplier[LANES];
    int32_t rounding[LANES];
    int32_t shift[LANES];
    int32_t is_quick; /* whether all of them take `tflnest_requantize_right` */
    int32_t channels; /* in use */
    int32_t unused[LANES - 2];
} lane_parameters;

#if TFLNEST_X86_VNNI

static inline vector load(const void *from)
{
    return _mm512_loadu_si512(from);
}

static inline void store(int32_t *to, vector values)
{
    _mm512_storeu_si512(to, values);
}

static inline vector all(int32_t value)
{
    return _mm512_set1_epi32(value);
}

static inline vector zero(void)
{
    return _mm512_setzero_si512();
}

static inline vector add(vector a, vector b)
{
    return _mm512_add_epi32(a, b);
}

/* sums + products of the lanes of weights and pixels. */
static inline vector add_products(vector sums, vector weights, vector pixels)
{
    return _mm512_dpbusd_epi32(sums, pixels, weights);
}

/* `tflnest_doubling_high_multiply`: even lanes, then odd ones. */
static inline vector high_multiply(vector a, vector b)
{
    const vector half = _mm512_set1_epi64(INT64_C(1) << 30);
    const vector even = _mm512_srli_epi64(_mm512_add_epi64(_mm512_mul_epi32(a, b), half), 31);
    const vector odds = _mm512_mul_epi32(_mm512_srli_epi64(a, 32), _mm512_srli_epi64(b, 32));
    const vector odd = _mm512_slli_epi64(_mm512_add_epi64(odds, half), 1);
    return _mm512_mask_blend_epi32(0xAAAA, even, odd);
}

static inline vector shift_right(vector values, vector shifts)
{
    return _mm512_srav_epi32(values, shifts);
}

static inline vector sign(vector values)
{
    return _mm512_srai_epi32(values, 31);
}

static inline vector clamp(vector values, vector low, vector high)
{
    return _mm512_min_epi32(_mm512_max_epi32(values, low), high);
}

/* The lowest bytes of the first lanes. */
static inline void store_bytes(int8_t *to, vector values, uint32_t count)
{
    if (count == LANES) {
        _mm_storeu_si128((void *)to, _mm512_cvtepi32_epi8(values));
    } else {
        _mm512_mask_cvtepi32_storeu_epi8(to, (__mmask16)((1u << count) - 1u), values);
    }
}

#else

static inline vector load(const void *from)
{
    return _mm256_loadu_si256(from);
}

static inline void store(int32_t *to, vector values)
{
    _mm256_storeu_si256((void *)to, values);
}

static inline vector all(int32_t value)
{
    return _mm256_set1_epi32(value);
}

static inline vector zero(void)
{
    return _mm256_setzero_si256();
}

static inline vector add(vector a, vector b)
{
    return _mm256_add_epi32(a, b);
}

static inline vector add_products(vector sums, vector weights, vector pixels)
{
    return _mm256_add_epi32(sums, _mm256_madd_epi16(weights, pixels));
}

static inline vector high_multiply(vector a, vector b)
{
    const vector half = _mm256_set1_epi64x(INT64_C(1) << 30);
    const vector even = _mm256_srli_epi64(_mm256_add_epi64(_mm256_mul_epi32(a, b), half), 31);
    const vector odds = _mm256_mul_epi32(_mm256_srli_epi64(a, 32), _mm256_srli_epi64(b, 32));
    const vector odd = _mm256_slli_epi64(_mm256_add_epi64(odds, half), 1);
    return _mm256_blend_epi32(even, odd, 0xAA);
}

static inline vector shift_right(vector values, vector shifts)
{
    return _mm256_srav_epi32(values, shifts);
}

static inline vector sign(vector values)
{
    return _mm256_srai_epi32(values, 31);
}

static inline vector clamp(vector values, vector low, vector high)
{
    return _mm256_min_epi32(_mm256_max_epi32(values, low), high);
}

static inline void store_bytes(int8_t *to, vector values, uint32_t count)
{
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(values), _mm256_extracti128_si256(values, 1));
    const int64_t bytes = _mm_cvtsi128_si64(_mm_packs_epi16(words, words));
    if (count == LANES) {
        memcpy(to, &bytes, LANES);
    } else {
        memcpy(to, &bytes, count);
    }
}

#endif


static inline void set_lanes(lane_parameters *lanes, const tflnest_channel *channels, uint32_t count)
{
    lanes->is_quick = 1;
    lanes->channels = (int32_t)count;
    for (uint32_t i = 0; i < LANES; i++) {
        static const tflnest_channel nothing = {0, 0, 0, 1};
        const tflnest_channel *channel = i < count ? &channels[i] : &nothing;
        lanes->bias[i] = channel->bias;
        lanes->multiplier[i] = channel->multiplier;
        lanes->rounding[i] = channel->rounding;
        lanes->shift[i] = channel->shift;
        lanes->is_quick &= channel->shift > 0;
    }
}

/* Bring sums to outputs and store them; `channels` are those of the lanes. */
static inline void finish_lanes(const tflnest_tile *tile, const lane_parameters *lanes, uint32_t first, vector sums,
                                int8_t *output)
{
    const vector biased = add(sums, load(lanes->bias));
    if (lanes->is_quick) {
        const tflnest_requantization *requantization = tile->requantization;
        const vector high = high_multiply(biased, load(lanes->multiplier));
        const vector rounded = add(high, add(load(lanes->rounding), sign(high)));
        const vector values = shift_right(rounded, load(lanes->shift));
        store_bytes(output, clamp(values, all(requantization->activation_min), all(requantization->activation_max)),
                    (uint32_t)lanes->channels);
        return;
    }
    int32_t accumulators[LANES];
    store(accumulators, biased);
    for (uint32_t i = 0; i < (uint32_t)lanes->channels; i++) {
        output[i] = tflnest_tile_finish(tile, first + i, accumulators[i]);
    }
}

#endif

#endif
