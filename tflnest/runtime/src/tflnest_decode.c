#include "tflnest_decode.h"

#include <string.h>

#include "tflnest_copy_short.h"
#include "tflnest_digits.h"
#include "tflnest_fields.h"
#include "tflnest_words.h"

/* ------------------------------------------------------------------------------------------- listed fields */

/* Whole groups of a filter with listed fields. */
__attribute__((noinline)) static void decode_listed(const tflnest_filter *filter, tflnest_field_list list,
                                                    uint32_t group, uint32_t count, int8_t *weights)
{
    const uint32_t sign = TFLNEST_BYTES(0x88), fill = TFLNEST_BYTES((filter->offset & 15u) * 0x11u);
    const uint8_t *fours = filter->fields[0].codes + 8 * group;
    const uint8_t *low_fours = list == TFLNEST_FIELDS_4_4 ? filter->fields[1].codes + 8 * group : NULL;
    const uint8_t *twos = list == TFLNEST_FIELDS_4_2 || list == TFLNEST_FIELDS_4_2_2
                              ? filter->fields[1].codes + 4 * group
                              : NULL;
    const uint8_t *low_twos = list == TFLNEST_FIELDS_4_2_2 ? filter->fields[2].codes + 4 * group : NULL;
    for (; count > 0; count--) {
        uint32_t high0 = tflnest_codes_word(fours) ^ sign, low0 = fill;
        uint32_t high1 = tflnest_codes_word(fours + 4) ^ sign, low1 = fill;
        fours += 8;
        if (low_fours != NULL) {
            low0 = tflnest_codes_word(low_fours);
            low1 = tflnest_codes_word(low_fours + 4);
            low_fours += 8;
        } else if (twos != NULL) {
            low0 = tflnest_codes_word(twos);
            twos += 4;
            low1 = (filter->offset & 3u) * TFLNEST_EVEN_BITS;
            if (low_twos != NULL) {
                low1 = tflnest_codes_word(low_twos);
                low_twos += 4;
            }
            TFLNEST_INTERLEAVE(low0, low1, 2, TFLNEST_PAIRS);
        }
        TFLNEST_INTERLEAVE(high0, low0, 4, TFLNEST_NIBBLES);
        TFLNEST_INTERLEAVE(high1, low1, 4, TFLNEST_NIBBLES);
        tflnest_store_group(weights, high0, low0, high1, low1);
        weights += TFLNEST_GROUP;
    }
}

/* --------------------------------------------------------------------------------------- fields that overlap */

/* Codes of a field for one of the four words of a group. */
static uint32_t codes_of(const tflnest_field *field, uint32_t index, uint32_t word)
{
    /* Fields of one and two bits keep the words in the order 0, 2, 1, 3. */
    const uint32_t position = (word & 1u) * 2u + word / 2u;
    if (field->bits == 4) {
        return tflnest_codes_word(field->codes + 8 * index + 4 * (word / 2u)) >> (4u - 4u * (word & 1u)) & TFLNEST_NIBBLES;
    }
    if (field->bits == 2) {
        return tflnest_codes_word(field->codes + 4 * index) >> (6u - 2u * position) & TFLNEST_BYTES(3);
    }
    uint32_t nibbles = tflnest_codes_half(field->codes + 2 * index);
    nibbles = (nibbles | nibbles << 8) & UINT32_C(0x00FF00FF);
    nibbles = (nibbles | nibbles << 4) & TFLNEST_NIBBLES;
    return nibbles >> (3u - position) & TFLNEST_BYTES(1);
}

/* Sums of four bytes each, modulo 256. */
static inline uint32_t add_bytes(uint32_t a, uint32_t b)
{
    return ((a & TFLNEST_BYTES(0x7F)) + (b & TFLNEST_BYTES(0x7F))) ^ ((a ^ b) & TFLNEST_BYTES(0x80));
}

__attribute__((noinline)) static void decode_overlapping(const tflnest_filter *filter, uint32_t start, uint32_t count,
                                                         int8_t *weights)
{
    for (uint32_t i = 0; i < 4 * count; i++) {
        uint32_t sums = TFLNEST_BYTES(filter->offset);
        for (uint32_t j = 0; j < filter->field_count; j++) {
            const tflnest_field *field = &filter->fields[j];
            sums = add_bytes(sums, codes_of(field, start + i / 4u, i % 4u) << field->shift);
        }
        memcpy(weights + 4 * i, &sums, sizeof sums);
    }
}

/* ------------------------------------------------------------------------------------------- all fields */

static void decode_groups(const tflnest_filter *filter, uint32_t start, uint32_t count, int8_t *weights)
{
    const tflnest_field_list list = tflnest_fields_of(filter);
    if (list != TFLNEST_FIELDS_OTHER) {
        decode_listed(filter, list, start, count, weights);
    } else if (filter->disjoint) {
        tflnest_digits_decode(filter, start, count, weights);
    } else {
        decode_overlapping(filter, start, count, weights);
    }
}

void tflnest_decode(const tflnest_filter *filter, uint32_t first, uint32_t count, int8_t *weights)
{
    if (filter->values != NULL) {
        tflnest_copy_short(weights, filter->values + first, count);
        return;
    }
    while (count > 0) {
        int8_t group[TFLNEST_GROUP];
        const uint32_t skipped = first % TFLNEST_GROUP;
        const int is_part = skipped > 0 || count < TFLNEST_GROUP;
        const uint32_t groups = is_part ? 1 : count / TFLNEST_GROUP;
        uint32_t decoded = groups * TFLNEST_GROUP - skipped;
        decode_groups(filter, first / TFLNEST_GROUP, groups, is_part ? group : weights);
        if (is_part) {
            decoded = decoded < count ? decoded : count;
            tflnest_copy_short(weights, group + skipped, decoded);
        }
        first += decoded;
        count -= decoded;
        weights += decoded;
    }
}

static int is_aligned(const void *pointer)
{
    return ((uintptr_t)pointer & 3u) == 0;
}

static int field_is_sound(const tflnest_field *field)
{
    const int known = field->bits == 4 || field->bits == 2 || field->bits == 1;
    return known && field->codes != NULL && is_aligned(field->codes) && field->bits + field->shift <= 8;
}

static int weights_are_sound(const tflnest_filter *filter)
{
    if (filter->values != NULL) {
        return filter->fields == NULL && filter->field_count == 0;
    }
    if (filter->fields == NULL || filter->field_count < 1 || filter->field_count > 8 || filter->disjoint > 1) {
        return 0;
    }
    uint32_t used = 0;
    for (uint32_t i = 0; i < filter->field_count; i++) {
        const tflnest_field *field = &filter->fields[i];
        if (!field_is_sound(field)) {
            return 0;
        }
        const uint32_t mask = ((1u << field->bits) - 1u) << field->shift;
        if (filter->disjoint && (used & mask) != 0) {
            return 0;
        }
        used |= mask;
    }
    /* The carry of the sign bit leaves the byte; any other one would not. */
    return !filter->disjoint || (used & filter->offset & 0x7Fu) == 0;
}

static int scales_are_sound(const tflnest_filter *filter, uint32_t channels)
{
    if (filter->multipliers == NULL || filter->shifts == NULL || filter->per_channel > 1) {
        return 0;
    }
    if (!is_aligned(filter->multipliers) || !is_aligned(filter->bias)) {
        return 0;
    }
    const uint32_t count = filter->per_channel ? channels : 1u;
    for (uint32_t i = 0; i < count; i++) {
        if (filter->multipliers[i] < 0 || filter->shifts[i] < -31 || filter->shifts[i] > 30) {
            return 0;
        }
    }
    return 1;
}

tflnest_status tflnest_filter_check(const tflnest_filter *filter, uint32_t channels)
{
    const int sound = filter != NULL && weights_are_sound(filter) && scales_are_sound(filter, channels);
    return sound ? TFLNEST_OK : TFLNEST_ERROR_ARGUMENT;
}
