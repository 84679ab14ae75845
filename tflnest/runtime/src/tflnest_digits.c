#include "tflnest_digits.h"

#include "tflnest_decode.h"
#include "tflnest_fields.h"
#include "tflnest_variant.h"
#include "tflnest_words.h"

#if TFLNEST_VARIANT == TFLNEST_VARIANT_MVE
#include <arm_mve.h>
#endif

/* Digits of two bits: of each group one word with bits 7 and 6 of its weights, one with bits 5 and 4, and so on, in the
 * order of a field of two bits. Fields of other widths, and at odd shifts, are taken apart.
 *
 * Functions that are not inlined keep the stack small: only what runs lies on it.
 */

/* Groups whose digits are put together at a time. */
#define DIGIT_GROUPS 4u
#define DIGITS 4u

/* Where the digit lies that has the bit `shift`. */
static inline uint32_t digit_of(uint32_t shift)
{
    return DIGITS - 1u - shift / 2u;
}

#if TFLNEST_VARIANT == TFLNEST_VARIANT_MVE

/* Four groups at a time: a vector holds the same digit of all of them. */

/* Which groups there are. */
static inline mve_pred16_t groups_of(uint32_t count)
{
    return vctp32q(count);
}

static inline void add_to(uint32_t *digit, uint32x4_t codes)
{
    vst1q_u32(digit, veorq_u32(vld1q_u32(digit), codes));
}

/* `high` gets the upper bits of the units of both vectors, `low` the lower ones. */
#define INTERLEAVE(high, low, shift, mask)                                                              \
    do {                                                                                                \
        const uint32x4_t moved = vandq_u32(veorq_u32(vshrq_n_u32(low, shift), high), vdupq_n_u32(mask)); \
        (high) = veorq_u32(high, moved);                                                                \
        (low) = veorq_u32(low, vshlq_n_u32(moved, shift));                                              \
    } while (0)

/* Digits of groups without fields. */
__attribute__((noinline)) static void start_digits(uint32_t offset, uint32_t count, uint32_t *digits)
{
    (void)count;
    for (uint32_t i = 0; i < DIGITS; i++) {
        vst1q_u32(digits + 4 * i, vdupq_n_u32((offset >> (6u - 2u * i) & 3u) * TFLNEST_EVEN_BITS));
    }
}

__attribute__((noinline)) static void add_bits(const tflnest_field *field, uint32_t start, uint32_t count,
                                               uint32_t *digits)
{
    const uint16_t *codes = (const void *)(field->codes + 2 * start);
    uint32x4_t bits = vldrhq_z_u32(codes, groups_of(count));
    bits = vandq_u32(vorrq_u32(bits, vshlq_n_u32(bits, 8)), vdupq_n_u32(UINT32_C(0x00FF00FF)));
    bits = vandq_u32(vorrq_u32(bits, vshlq_n_u32(bits, 4)), vdupq_n_u32(TFLNEST_NIBBLES));
    bits = vandq_u32(vorrq_u32(bits, vshlq_n_u32(bits, 2)), vdupq_n_u32(TFLNEST_PAIRS));
    bits = vandq_u32(vorrq_u32(bits, vshlq_n_u32(bits, 1)), vdupq_n_u32(TFLNEST_EVEN_BITS));
    add_to(digits + 4 * digit_of(field->shift), vshlq_r_u32(bits, field->shift & 1));
}

/* Codes of two bits, the lower one of which is `shift`. */
static inline void add_pair(uint32_t *digits, uint32_t shift, uint32x4_t codes)
{
    uint32_t *digit = digits + 4 * digit_of(shift);
    if ((shift & 1u) == 0) {
        add_to(digit, codes);
    } else {
        const uint32x4_t even = vdupq_n_u32(TFLNEST_EVEN_BITS);
        add_to(digit, vshlq_n_u32(vandq_u32(codes, even), 1));
        add_to(digit - 4, vandq_u32(vshrq_n_u32(codes, 1), even));
    }
}

__attribute__((noinline)) static void add_pairs(const tflnest_field *field, uint32_t start, uint32_t count,
                                                uint32_t *digits)
{
    const uint32_t *codes = (const void *)(field->codes + 4 * start);
    add_pair(digits, field->shift, vldrwq_z_u32(codes, groups_of(count)));
}

__attribute__((noinline)) static void add_nibbles(const tflnest_field *field, uint32_t start, uint32_t count,
                                                  uint32_t *digits)
{
    const uint32_t *codes = (const void *)(field->codes + 8 * start);
    const uint32x4_t places = vidupq_n_u32(0, 8);
    uint32x4_t high = vldrwq_gather_offset_z_u32(codes, places, groups_of(count));
    uint32x4_t low = vldrwq_gather_offset_z_u32(codes + 1, places, groups_of(count));
    INTERLEAVE(high, low, 2, TFLNEST_PAIRS);
    add_pair(digits, field->shift + 2u, high);
    add_pair(digits, field->shift, low);
}

/* Put the digits of every group together. */
__attribute__((noinline)) static void join_digits(uint32_t *digits, uint32_t count, int8_t *weights)
{
    uint32x4x4_t words = {{vld1q_u32(digits), vld1q_u32(digits + 8), vld1q_u32(digits + 4), vld1q_u32(digits + 12)}};
    INTERLEAVE(words.val[0], words.val[2], 2, TFLNEST_PAIRS);
    INTERLEAVE(words.val[1], words.val[3], 2, TFLNEST_PAIRS);
    INTERLEAVE(words.val[0], words.val[1], 4, TFLNEST_NIBBLES);
    INTERLEAVE(words.val[2], words.val[3], 4, TFLNEST_NIBBLES);
    vst4q_u32(digits, words);
    for (uint32_t i = 0; i < count; i++) {
        vst1q_s8(weights + i * TFLNEST_GROUP, vreinterpretq_s8_u32(vld1q_u32(digits + 4 * i)));
    }
}

#else

/* Digits of groups without fields. */
__attribute__((noinline)) static void start_digits(uint32_t offset, uint32_t count, uint32_t *digits)
{
    const uint32_t digit0 = (offset >> 6) * TFLNEST_EVEN_BITS, digit1 = (offset >> 4 & 3u) * TFLNEST_EVEN_BITS;
    const uint32_t digit2 = (offset >> 2 & 3u) * TFLNEST_EVEN_BITS, digit3 = (offset & 3u) * TFLNEST_EVEN_BITS;
    for (; count > 0; count--) {
        digits[0] = digit0;
        digits[1] = digit1;
        digits[2] = digit2;
        digits[3] = digit3;
        digits += DIGITS;
    }
}

__attribute__((noinline)) static void add_bits(const tflnest_field *field, uint32_t start, uint32_t count, uint32_t *digits)
{
    const uint8_t *codes = field->codes + 2 * start;
    const uint32_t odd = field->shift & 1u;
    for (digits += digit_of(field->shift); count > 0; count--) {
        uint32_t bits = tflnest_codes_half(codes);
        bits = (bits | bits << 8) & UINT32_C(0x00FF00FF);
        bits = (bits | bits << 4) & TFLNEST_NIBBLES;
        bits = (bits | bits << 2) & TFLNEST_PAIRS;
        bits = (bits | bits << 1) & TFLNEST_EVEN_BITS;
        *digits ^= bits << odd;
        codes += 2;
        digits += DIGITS;
    }
}

/* Codes of two bits, the lower one of which is `shift`. */
static inline void add_pair(uint32_t *digit, uint32_t shift, uint32_t codes)
{
    if ((shift & 1u) == 0) {
        digit[0] ^= codes;
    } else {
        digit[0] ^= (codes & TFLNEST_EVEN_BITS) << 1;
        digit[-1] ^= codes >> 1 & TFLNEST_EVEN_BITS;
    }
}

__attribute__((noinline)) static void add_pairs(const tflnest_field *field, uint32_t start, uint32_t count, uint32_t *digits)
{
    const uint8_t *codes = field->codes + 4 * start;
    const uint32_t shift = field->shift;
    for (digits += digit_of(shift); count > 0; count--) {
        add_pair(digits, shift, tflnest_codes_word(codes));
        codes += 4;
        digits += DIGITS;
    }
}

__attribute__((noinline)) static void add_nibbles(const tflnest_field *field, uint32_t start, uint32_t count, uint32_t *digits)
{
    const uint8_t *codes = field->codes + 8 * start;
    const uint32_t shift = field->shift;
    for (digits += digit_of(shift); count > 0; count--) {
        uint32_t high = tflnest_codes_word(codes), low = tflnest_codes_word(codes + 4);
        TFLNEST_INTERLEAVE(high, low, 2, TFLNEST_PAIRS);
        add_pair(digits - 1, shift, high);
        add_pair(digits, shift, low);
        codes += 8;
        digits += DIGITS;
    }
}

/* Put the digits of every group together. */
__attribute__((noinline)) static void join_digits(uint32_t *digits, uint32_t count, int8_t *weights)
{
    for (; count > 0; count--) {
        uint32_t high0 = digits[0], high1 = digits[1], low0 = digits[2], low1 = digits[3];
        TFLNEST_INTERLEAVE(high0, high1, 2, TFLNEST_PAIRS);
        TFLNEST_INTERLEAVE(low0, low1, 2, TFLNEST_PAIRS);
        TFLNEST_INTERLEAVE(high0, low0, 4, TFLNEST_NIBBLES);
        TFLNEST_INTERLEAVE(high1, low1, 4, TFLNEST_NIBBLES);
        tflnest_store_group(weights, high0, low0, high1, low1);
        weights += TFLNEST_GROUP;
        digits += DIGITS;
    }
}

#endif

void tflnest_digits_decode(const tflnest_filter *filter, uint32_t start, uint32_t count, int8_t *weights)
{
    uint32_t digits[DIGIT_GROUPS * DIGITS];
    while (count > 0) {
        const uint32_t part = count < DIGIT_GROUPS ? count : DIGIT_GROUPS;
        start_digits(filter->offset, part, digits);
        for (uint32_t i = 0; i < filter->field_count; i++) {
            const tflnest_field *field = &filter->fields[i];
            if (field->bits == 4) {
                add_nibbles(field, start, part, digits);
            } else if (field->bits == 2) {
                add_pairs(field, start, part, digits);
            } else {
                add_bits(field, start, part, digits);
            }
        }
        join_digits(digits, part, weights);
        start += part;
        count -= part;
        weights += part * TFLNEST_GROUP;
    }
}
