/* Packed codes and decoded weights in words; they are little-endian on every core that this runs on. */
#ifndef TFLNEST_WORDS_H
#define TFLNEST_WORDS_H

#include <stdint.h>
#include <string.h>

/* A byte four times. */
#define TFLNEST_BYTES(value) ((uint32_t)(value) * UINT32_C(0x01010101))

/* Four bytes of codes. */
static inline uint32_t tflnest_codes_word(const uint8_t *from)
{
    uint32_t word;
    memcpy(&word, __builtin_assume_aligned(from, 4), sizeof word);
    return word;
}

/* Two bytes of codes. */
static inline uint32_t tflnest_codes_half(const uint8_t *from)
{
    uint16_t half;
    memcpy(&half, __builtin_assume_aligned(from, 2), sizeof half);
    return half;
}

/* The weights of a group, anywhere. */
static inline void tflnest_store_group(int8_t *to, uint32_t word0, uint32_t word1, uint32_t word2, uint32_t word3)
{
    memcpy(to, &word0, sizeof word0);
    memcpy(to + 4, &word1, sizeof word1);
    memcpy(to + 8, &word2, sizeof word2);
    memcpy(to + 12, &word3, sizeof word3);
}

#endif
