/* Instructions of the DSP extension and of MVE for the kernels without weights. */
#ifndef TFLNEST_SIMD_H
#define TFLNEST_SIMD_H

#include <stdint.h>
#include <string.h>

/* Functions of a few instructions, which are inlined at any level of optimization. */
#define TFLNEST_INLINE static inline __attribute__((always_inline))

#if !defined(TFLNEST_PORTABLE) && defined(__ARM_FEATURE_MVE)
#define TFLNEST_SIMD_MVE 1
#include <arm_mve.h>
#elif !defined(TFLNEST_PORTABLE) && defined(__ARM_FEATURE_DSP) && defined(__thumb2__)
#define TFLNEST_SIMD_DSP 1

/* Four bytes from any address. */
TFLNEST_INLINE uint32_t tflnest_load_word(const int8_t *from)
{
    uint32_t word;
    memcpy(&word, from, sizeof word);
    return word;
}

TFLNEST_INLINE void tflnest_store_word(int8_t *to, uint32_t word)
{
    memcpy(to, &word, sizeof word);
}

/* base plus byte `index`, 0 to 3, of a word, sign-extended; index is a constant. */
#define TFLNEST_ADD_BYTE(result, base, word, index) \
    __asm__("sxtab %0, %1, %2, ror #" #index "*8" : "=r"(result) : "r"(base), "r"(word))

/* base plus bytes 0 and 2 of a word, as two int16. */
TFLNEST_INLINE uint32_t tflnest_add_even_bytes(uint32_t base, uint32_t word)
{
    uint32_t result;
    __asm__("sxtab16 %0, %1, %2" : "=r"(result) : "r"(base), "r"(word));
    return result;
}

/* base plus bytes 1 and 3 of a word, as two int16. */
TFLNEST_INLINE uint32_t tflnest_add_odd_bytes(uint32_t base, uint32_t word)
{
    uint32_t result;
    __asm__("sxtab16 %0, %1, %2, ror #8" : "=r"(result) : "r"(base), "r"(word));
    return result;
}

/* High 32 bits of ab, rounded to nearest, ties up, plus c. */
TFLNEST_INLINE int32_t tflnest_high_multiply_add(int32_t a, int32_t b, int32_t c)
{
    int32_t result;
    __asm__("smmlar %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(c));
    return result;
}

/* The nearest int8. */
TFLNEST_INLINE int32_t tflnest_saturate(int32_t value)
{
    int32_t result;
    __asm__("ssat %0, #8, %1" : "=r"(result) : "r"(value) : "cc");
    return result;
}

/* acc * multiplier / 2^31 / 2^right plus the zero point, as int8; |acc| < 2^30, right is 1 to 22.
 *
 * SMMLAR leaves out the doubling, which is made up for before. The sign is that of acc, not of the product: where
 * that rounds to 0, taking 1 off does not change what is left after the shift.
 * rounding 2^(right - 1) + (zero point << right) */
TFLNEST_INLINE int32_t tflnest_requantize_quick(int32_t acc, int32_t multiplier, int32_t rounding, int32_t right)
{
    const int32_t value = tflnest_high_multiply_add(acc * 2, multiplier, rounding);
    return tflnest_saturate((value + (acc >> 31)) >> right);
}

/* A word of four int8 values, of which only the low bytes are looked at. */
TFLNEST_INLINE uint32_t tflnest_pack_bytes(int32_t a, int32_t b, int32_t c, int32_t d)
{
    uint32_t word = (uint32_t)a;
    __asm__("bfi %0, %1, #8, #8\n\tbfi %0, %2, #16, #8\n\tbfi %0, %3, #24, #8" : "+r"(word) : "r"(b), "r"(c), "r"(d));
    return word;
}

/* The larger of each pair of int8 values. */
TFLNEST_INLINE uint32_t tflnest_max_bytes(uint32_t a, uint32_t b)
{
    uint32_t result;
    __asm__("ssub8 %0, %1, %2\n\tsel %0, %1, %2" : "=&r"(result) : "r"(a), "r"(b) : "cc");
    return result;
}

/* The smaller of each pair of int8 values. */
TFLNEST_INLINE uint32_t tflnest_min_bytes(uint32_t a, uint32_t b)
{
    uint32_t result;
    __asm__("ssub8 %0, %1, %2\n\tsel %0, %2, %1" : "=&r"(result) : "r"(a), "r"(b) : "cc");
    return result;
}

/* Product of the lower int16 of two pairs, and of the upper ones. */
TFLNEST_INLINE int32_t tflnest_multiply_bottom(uint32_t a, uint32_t b)
{
    int32_t result;
    __asm__("smulbb %0, %1, %2" : "=r"(result) : "r"(a), "r"(b));
    return result;
}

TFLNEST_INLINE int32_t tflnest_multiply_top(uint32_t a, uint32_t b)
{
    int32_t result;
    __asm__("smultt %0, %1, %2" : "=r"(result) : "r"(a), "r"(b));
    return result;
}

/* Two times an int16 value. */
TFLNEST_INLINE uint32_t tflnest_repeat_half(int32_t value)
{
    return (uint32_t)(uint16_t)value * 0x00010001u;
}

/* Four times an int8 value. */
TFLNEST_INLINE uint32_t tflnest_repeat_byte(int32_t value)
{
    return (uint32_t)(uint8_t)value * 0x01010101u;
}
#endif

#endif
