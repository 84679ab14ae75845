#include "tflnest/tflnest_narrow.h"

#include "tflnest_simd.h"

tflnest_status tflnest_narrow_check(const tflnest_narrow_params *params)
{
    return params->size >= 1 && params->bits >= 1 && params->bits <= 8 ? TFLNEST_OK : TFLNEST_ERROR_ARGUMENT;
}

/* With u = value + 128, unsigned: the largest code is reached by saturation, so that
 * min((u + half) >> s, largest) << s = min(u + half, 255) with its lowest s bits cleared, half = 2^(s - 1). */
void tflnest_narrow_s8(const tflnest_narrow_params *params, const int8_t *input, int8_t *output)
{
    const int32_t size = params->size;
    const uint32_t half = 0x80u >> params->bits;
    const uint32_t kept = 0xFF00u >> params->bits & 0xFFu;
    int32_t done = 0;
#if defined(TFLNEST_SIMD_MVE)
    for (; done < size; done += 16) {
        const mve_pred16_t lanes = vctp8q((uint32_t)(size - done));
        uint8x16_t value = vldrbq_z_u8((const uint8_t *)input + done, lanes);
        value = vqaddq_n_u8(veorq_u8(value, vdupq_n_u8(0x80)), (uint8_t)half);
        value = veorq_u8(vandq_u8(value, vdupq_n_u8((uint8_t)kept)), vdupq_n_u8(0x80));
        vstrbq_p_u8((uint8_t *)output + done, value, lanes);
    }
#else
#if defined(TFLNEST_SIMD_DSP)
    const uint32_t halves = half * 0x01010101u, masks = kept * 0x01010101u;
    for (; done + 4 <= size; done += 4) {
        uint32_t value = tflnest_load_word(input + done) ^ 0x80808080u;
        __asm__("uqadd8 %0, %0, %1" : "+r"(value) : "r"(halves));
        tflnest_store_word(output + done, (value & masks) ^ 0x80808080u);
    }
#endif
    const uint8_t *from = (const uint8_t *)input;
    uint8_t *to = (uint8_t *)output;
    for (; done < size; done++) {
        const uint32_t sum = (from[done] ^ 0x80u) + half;
        to[done] = (uint8_t)(((sum > 0xFFu ? 0xFFu : sum) & kept) ^ 0x80u);
    }
#endif
}
