#include "tflnest_decode.h"

#include <string.h>

#include "tflnest_fields.h"

/* Four bytes are decoded at a time; words are little-endian on every core that this runs on. */
#define BYTES(value) ((uint32_t)(value) * UINT32_C(0x01010101))

/* One group: four words of four weights in tensor order. */
typedef struct {
    uint32_t words[4];
} group;

static inline uint32_t load_word(const uint8_t *from)
{
    uint32_t word;
    memcpy(&word, __builtin_assume_aligned(from, 4), sizeof word);
    return word;
}

static inline uint32_t load_half(const uint8_t *from)
{
    uint16_t half;
    memcpy(&half, __builtin_assume_aligned(from, 2), sizeof half);
    return half;
}

/* Codes of one field of a group. */
static inline group unpack(const tflnest_field *field, uint32_t index)
{
    group codes;
    if (field->bits == 4) {
        const uint32_t low = load_word(field->codes + 8 * index);
        const uint32_t high = load_word(field->codes + 8 * index + 4);
        codes.words[0] = (low >> 4) & BYTES(15);
        codes.words[1] = low & BYTES(15);
        codes.words[2] = (high >> 4) & BYTES(15);
        codes.words[3] = high & BYTES(15);
    } else if (field->bits == 2) {
        const uint32_t word = load_word(field->codes + 4 * index);
        codes.words[0] = (word >> 6) & BYTES(3);
        codes.words[1] = (word >> 2) & BYTES(3);
        codes.words[2] = (word >> 4) & BYTES(3);
        codes.words[3] = word & BYTES(3);
    } else {
        uint32_t nibbles = load_half(field->codes + 2 * index);
        nibbles = (nibbles | nibbles << 8) & UINT32_C(0x00FF00FF);
        nibbles = (nibbles | nibbles << 4) & BYTES(15);
        codes.words[0] = (nibbles >> 3) & BYTES(1);
        codes.words[1] = (nibbles >> 1) & BYTES(1);
        codes.words[2] = (nibbles >> 2) & BYTES(1);
        codes.words[3] = nibbles & BYTES(1);
    }
    return codes;
}

/* Sums of four bytes each, modulo 256. */
static inline uint32_t add_bytes(uint32_t a, uint32_t b)
{
    return ((a & BYTES(0x7F)) + (b & BYTES(0x7F))) ^ ((a ^ b) & BYTES(0x80));
}

static inline group decode_group(const tflnest_filter *filter, uint32_t index)
{
    const uint32_t offset = BYTES(filter->offset);
    group weights = {{offset, offset, offset, offset}};
    for (uint32_t i = 0; i < filter->field_count; i++) {
        const tflnest_field *field = &filter->fields[i];
        const group codes = unpack(field, index);
        for (uint32_t j = 0; j < 4; j++) {
            const uint32_t addend = codes.words[j] << field->shift;
            weights.words[j] = filter->disjoint ? weights.words[j] ^ addend : add_bytes(weights.words[j], addend);
        }
    }
    return weights;
}


/* Whole groups of a filter with listed fields; the same as `decode_group`, for all four words at once. */
static void decode_listed(const tflnest_filter *filter, tflnest_field_list list, uint32_t group, uint32_t count,
                          int8_t *weights)
{
    const uint32_t sign = BYTES(0x88), fill = BYTES((filter->offset & 15u) * 0x11u);
    const uint8_t *fours = filter->fields[0].codes + 8 * group;
    const uint8_t *low_fours = list == TFLNEST_FIELDS_4_4 ? filter->fields[1].codes + 8 * group : NULL;
    const uint8_t *twos = list == TFLNEST_FIELDS_4_2 || list == TFLNEST_FIELDS_4_2_2
                              ? filter->fields[1].codes + 4 * group
                              : NULL;
    const uint8_t *low_twos = list == TFLNEST_FIELDS_4_2_2 ? filter->fields[2].codes + 4 * group : NULL;
    for (; count > 0; count--) {
        uint32_t words[4] = {load_word(fours) ^ sign, fill, load_word(fours + 4) ^ sign, fill};
        fours += 8;
        if (low_fours != NULL) {
            words[1] = load_word(low_fours);
            words[3] = load_word(low_fours + 4);
            low_fours += 8;
        } else if (twos != NULL) {
            words[1] = load_word(twos);
            twos += 4;
            words[3] = BYTES((filter->offset & 3u) * 0x55u);
            if (low_twos != NULL) {
                words[3] = load_word(low_twos);
                low_twos += 4;
            }
            TFLNEST_INTERLEAVE(words[1], words[3], 2, TFLNEST_PAIRS);
        }
        TFLNEST_INTERLEAVE(words[0], words[1], 4, TFLNEST_NIBBLES);
        TFLNEST_INTERLEAVE(words[2], words[3], 4, TFLNEST_NIBBLES);
        memcpy(weights, words, TFLNEST_GROUP);
        weights += TFLNEST_GROUP;
    }
}

static void decode_groups(const tflnest_filter *filter, uint32_t start, uint32_t count, int8_t *weights)
{
    const tflnest_field_list list = tflnest_fields_of(filter);
    if (list != TFLNEST_FIELDS_OTHER) {
        decode_listed(filter, list, start, count, weights);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        const group whole = decode_group(filter, start + i);
        memcpy(weights + i * TFLNEST_GROUP, whole.words, TFLNEST_GROUP);
    }
}

/* A part of one group. */
static void decode_part(const tflnest_filter *filter, uint32_t first, uint32_t count, int8_t *weights)
{
    int8_t whole[TFLNEST_GROUP];
    decode_groups(filter, first / TFLNEST_GROUP, 1, whole);
    memcpy(weights, whole + first % TFLNEST_GROUP, count);
}

void tflnest_decode(const tflnest_filter *filter, uint32_t first, uint32_t count, int8_t *weights)
{
    if (filter->values != NULL) {
        memcpy(weights, filter->values + first, count);
        return;
    }
    const uint32_t before = (TFLNEST_GROUP - first % TFLNEST_GROUP) % TFLNEST_GROUP;
    if (before > 0) {
        const uint32_t part = before < count ? before : count;
        decode_part(filter, first, part, weights);
        first += part;
        count -= part;
        weights += part;
    }
    const uint32_t whole = count / TFLNEST_GROUP, rest = count % TFLNEST_GROUP;
    if (whole > 0) {
        decode_groups(filter, first / TFLNEST_GROUP, whole, weights);
    }
    if (rest > 0) {
        decode_part(filter, first + count - rest, rest, weights + count - rest);
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
