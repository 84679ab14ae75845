/* Lists of fields that have decoders of their own. */
#ifndef TFLNEST_FIELDS_H
#define TFLNEST_FIELDS_H

#include "tflnest/tflnest_types.h"

/* Bits of the fields, which fill the byte from the top. */
typedef enum {
    TFLNEST_FIELDS_OTHER,
    TFLNEST_FIELDS_4,
    TFLNEST_FIELDS_4_2,
    TFLNEST_FIELDS_4_2_2,
    TFLNEST_FIELDS_4_4
} tflnest_field_list;

/* Exchange bits between words: of each unit, `high` keeps its upper bits and takes the upper ones of `low`, `low`
 * gets the lower ones of both. A unit has twice as many bits as `shift`, and `mask` covers its lower ones. */
#define TFLNEST_INTERLEAVE(high, low, shift, mask)                     \
    do {                                                               \
        const uint32_t moved = ((high) ^ ((low) >> (shift))) & (mask); \
        (high) ^= moved;                                               \
        (low) ^= moved << (shift);                                     \
    } while (0)

#define TFLNEST_NIBBLES UINT32_C(0x0F0F0F0F)
#define TFLNEST_PAIRS UINT32_C(0x33333333)
#define TFLNEST_EVEN_BITS UINT32_C(0x55555555)

/* The list of a filter's fields; one of those listed only where the offset takes 128 off. */
tflnest_field_list tflnest_fields_of(const tflnest_filter *filter);

#endif
