/* Copies of a few bytes. */
#ifndef TFLNEST_COPY_SHORT_H
#define TFLNEST_COPY_SHORT_H

#include <string.h>

#include "tflnest/tflnest_types.h"

/* Copy bytes at any alignment; where words may lie anywhere, short copies are not worth a call. */
static inline void tflnest_copy_short(int8_t *to, const int8_t *from, uint32_t count)
{
#if defined(__ARM_FEATURE_UNALIGNED)
    uint32_t word;
    for (; count >= sizeof word; count -= (uint32_t)sizeof word) {
        memcpy(&word, from, sizeof word);
        memcpy(to, &word, sizeof word);
        from += sizeof word;
        to += sizeof word;
    }
    for (; count > 0; count--) {
        *to++ = *from++;
    }
#else
    memcpy(to, from, count);
#endif
}

#endif
