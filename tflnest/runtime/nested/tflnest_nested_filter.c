#include "tflnest_nested_filter.h"

#include <string.h>

#include "tflnest_decode.h"

/* Weights that are decoded at a time: they lie on the stack, 5 bytes each. */
#define CHUNK 64u

/* How one level cuts its plane out of the weights (FORMAT.md, section 4.1). */
typedef struct {
    uint32_t bits;
    uint32_t shift;
    int32_t zero;
} plane_code;

static plane_code plane_of(const tflnest_chain *chain, uint32_t level)
{
    const uint32_t bits = chain->bits[level];
    plane_code code = {bits, TFLNEST_MASTER_BITS - bits, 0};
    if (level == 0) {
        code.zero = 1 << (bits - 1);
    } else {
        const uint32_t step = bits - chain->bits[level - 1];
        const int is_signed = chain->scheme == TFLNEST_SCHEME_COMPENSATED;
        code.bits = step + (is_signed ? 1 : 0);
        code.zero = is_signed ? 1 << step : 0;
    }
    return code;
}

/* What all weights of a level have in common beside their bucket. */
static int32_t middle_of(const tflnest_chain *chain, uint32_t level)
{
    const uint32_t bits = chain->bits[level];
    const int is_exact = chain->scheme == TFLNEST_SCHEME_COMPENSATED || bits == TFLNEST_MASTER_BITS;
    return is_exact ? 0 : 1 << (TFLNEST_MASTER_BITS - 1 - bits);
}

static uint32_t field_bytes(uint32_t count, uint32_t bits)
{
    const uint64_t groups = ((uint64_t)count + TFLNEST_GROUP - 1) / TFLNEST_GROUP;
    return (uint32_t)((groups * 2 * bits + 3) / 4 * 4);
}

/* Width of the highest field of some remaining bits. */
static uint32_t field_width(uint32_t bits)
{
    return bits >= 4 ? 4 : bits >= 2 ? 2 : 1;
}

static uint32_t plane_bytes(uint32_t count, uint32_t bits)
{
    uint32_t bytes = 0;
    while (bits > 0) {
        bytes += field_bytes(count, field_width(bits));
        bits -= field_width(bits);
    }
    return bytes;
}

/* Whether sums of some fields and of an offset are bitwise. */
static int is_disjoint(const tflnest_field *fields, uint32_t count, uint32_t offset)
{
    uint32_t used = 0;
    for (uint32_t i = 0; i < count; i++) {
        const uint32_t mask = ((1u << fields[i].bits) - 1u) << fields[i].shift;
        if ((used & mask) != 0) {
            return 0;
        }
        used |= mask;
    }
    return (used & offset & 0x7Fu) == 0;
}

/* A constant of a type and a number of bytes, or an absent one. */
static int is_sound(const tflnest_constant *constant, uint32_t type, uint64_t bytes)
{
    return constant->data == NULL || (constant->type == type && constant->bytes == bytes);
}

/* Multipliers and shifts are one, or one per channel. */
static int scales_are_sound(const tflnest_constant *multipliers, const tflnest_constant *shifts, uint32_t channels)
{
    if (multipliers->data == NULL || shifts->data == NULL) {
        return is_sound(multipliers, TFLNEST_TYPE_INT32, multipliers->bytes) &&
               is_sound(shifts, TFLNEST_TYPE_INT8, shifts->bytes);
    }
    const uint64_t count = multipliers->bytes == 4 ? 1 : channels;
    return is_sound(multipliers, TFLNEST_TYPE_INT32, 4 * count) && is_sound(shifts, TFLNEST_TYPE_INT8, count);
}

tflnest_chain tflnest_chain_of(const tflnest_options *options)
{
    tflnest_chain chain = {{0}, (uint8_t)options->levels.count, (uint8_t)options->scheme};
    for (uint32_t i = 0; i < options->levels.count; i++) {
        chain.bits[i] = (uint8_t)options->levels.values[i];
    }
    return chain;
}

uint32_t tflnest_chain_plane_bytes(const tflnest_chain *chain, uint32_t level, uint32_t weights)
{
    return plane_bytes(weights, plane_of(chain, level).bits);
}

uint32_t tflnest_chain_add_fields(const tflnest_chain *chain, uint32_t level, uint32_t weights, const uint8_t *codes,
                                  tflnest_field *fields, uint32_t count)
{
    const plane_code code = plane_of(chain, level);
    uint32_t left = code.bits;
    while (left > 0 && count < TFLNEST_MAX_FIELDS) {
        const uint32_t width = field_width(left);
        left -= width;
        const tflnest_field field = {codes, (uint8_t)width, (uint8_t)(code.shift + left)};
        fields[count++] = field;
        codes += field_bytes(weights, width);
    }
    return left == 0 ? count : TFLNEST_MAX_FIELDS + 1;
}

int32_t tflnest_chain_offset(const tflnest_chain *chain, uint32_t level)
{
    int32_t zeros = 0;
    for (uint32_t i = 0; i <= level; i++) {
        const plane_code code = plane_of(chain, i);
        zeros += code.zero * (1 << code.shift);
    }
    return middle_of(chain, level) - zeros;
}

void tflnest_filter_set_fields(tflnest_filter *filter, const tflnest_field *fields, uint32_t count, int32_t offset)
{
    filter->values = NULL;
    filter->fields = fields;
    filter->field_count = (uint8_t)count;
    filter->offset = (uint8_t)((uint32_t)offset & 0xFFu);
    filter->disjoint = (uint8_t)is_disjoint(fields, count, filter->offset);
}

uint32_t tflnest_nested_inputs(const tflnest_options *options)
{
    return 1 + 2 * options->levels.count + 2 * options->sets;
}

const char *tflnest_nested_filter_bind(tflnest_nested_filter *filter, const tflnest_options *options,
                                       const tflnest_constant *constants)
{
    const tflnest_constant *biases = constants, *scales = biases + options->levels.count;
    const tflnest_constant *planes = scales + 2 * options->sets;
    const tflnest_chain chain = tflnest_chain_of(options);
    uint32_t fields = 0;
    memset(filter, 0, sizeof *filter);
    filter->count = options->levels.count;
    filter->weights = options->weights;
    for (uint32_t i = 0; i < filter->count; i++) {
        const tflnest_constant *multipliers = scales + 2 * options->requantization.values[i];
        const tflnest_constant *shifts = multipliers + 1;
        const uint32_t bytes = tflnest_chain_plane_bytes(&chain, i, filter->weights);
        if (!is_sound(&planes[i], TFLNEST_TYPE_UINT8, bytes)) {
            return "one of its planes has another type or size than its options ask for";
        }
        if (!is_sound(&biases[i], TFLNEST_TYPE_INT32, 4 * (uint64_t)options->channels)) {
            return "one of its biases has another type or size than its options ask for";
        }
        if (!scales_are_sound(multipliers, shifts, options->channels)) {
            return "its multipliers and shifts do not fit its filter";
        }
        if (planes[i].data == NULL || biases[i].data == NULL || multipliers->data == NULL || shifts->data == NULL) {
            return NULL; /* this level is not there, and no higher one */
        }
        fields = tflnest_chain_add_fields(&chain, i, filter->weights, planes[i].data, filter->fields, fields);
        if (fields > TFLNEST_MAX_FIELDS) {
            return "its planes have too many fields";
        }
        filter->planes[i].codes = planes[i].data;
        filter->planes[i].bytes = bytes;
        filter->offsets[i] = tflnest_chain_offset(&chain, i);
        tflnest_filter *level = &filter->levels[i];
        tflnest_filter_set_fields(level, filter->fields, fields, filter->offsets[i]);
        level->per_channel = multipliers->bytes > 4;
        level->bias = biases[i].data;
        level->multipliers = multipliers->data;
        level->shifts = shifts->data;
        filter->available = i + 1;
    }
    return NULL;
}

int tflnest_nested_filter_fits(const tflnest_nested_filter *filter, uint32_t level)
{
    const tflnest_filter *whole = &filter->levels[level];
    if (whole->disjoint) {
        return 1;
    }
    for (uint32_t first = 0; first < filter->weights; first += CHUNK) {
        const uint32_t count = filter->weights - first < CHUNK ? filter->weights - first : CHUNK;
        int32_t sums[CHUNK] = {0};
        for (uint32_t i = 0; i < whole->field_count; i++) {
            const tflnest_filter part = {.fields = &filter->fields[i], .field_count = 1, .disjoint = 1};
            int8_t codes[CHUNK];
            tflnest_decode(&part, first, count, codes);
            for (uint32_t j = 0; j < count; j++) {
                sums[j] += (uint8_t)codes[j];
            }
        }
        for (uint32_t j = 0; j < count; j++) {
            if (sums[j] + filter->offsets[level] < INT8_MIN || sums[j] + filter->offsets[level] > INT8_MAX) {
                return 0;
            }
        }
    }
    return 1;
}
