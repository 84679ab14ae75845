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

/* The own level that brings what a level uses: the lowest one with its number. */
static uint32_t bringer_of(const tflnest_list *numbers, uint32_t level)
{
    uint32_t lowest = 0;
    while (numbers->values[lowest] != numbers->values[level]) {
        lowest++;
    }
    return lowest;
}

static int brings_bias(const tflnest_options *options, uint32_t level)
{
    return bringer_of(&options->bias, level) == level;
}

static int brings_set(const tflnest_options *options, uint32_t level)
{
    return bringer_of(&options->requantization, level) == level;
}

/* How many own levels below one bring more than a plane. */
static uint32_t bringers_below(const tflnest_options *options, uint32_t level)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < level; i++) {
        count += brings_bias(options, i) || brings_set(options, i) ? 1u : 0u;
    }
    return count;
}

static tflnest_place place_of(const tflnest_options *options, uint32_t level)
{
    const uint32_t planes = options->levels.count;
    const uint32_t input = options->separate != 0 ? 1 + planes + bringers_below(options, level) : 1 + level;
    const tflnest_place place = {(uint8_t)input, (uint8_t)level, (uint8_t)brings_bias(options, level)};
    return place;
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

void tflnest_filter_set_scales(tflnest_filter *filter, const uint8_t *scales, size_t bytes)
{
    const size_t count = bytes / 5;
    filter->per_channel = count > 1;
    filter->multipliers = (const void *)scales;
    filter->shifts = (const void *)(scales + 4 * count);
}

uint32_t tflnest_nested_inputs(const tflnest_options *options)
{
    const uint32_t levels = options->levels.count;
    return 1 + levels + (options->separate != 0 ? bringers_below(options, levels) : 0);
}

tflnest_place tflnest_nested_bias_place(const tflnest_options *options, uint32_t level)
{
    return place_of(options, bringer_of(&options->bias, level));
}

tflnest_place tflnest_nested_set_place(const tflnest_options *options, uint32_t level)
{
    return place_of(options, bringer_of(&options->requantization, level));
}

/* Whether a constant has the bytes of a plane and of what else a level brings; `start` of them belong to the plane. */
static int is_sound(const tflnest_options *options, uint32_t level, const tflnest_constant *constant, uint64_t start)
{
    const uint64_t bias = brings_bias(options, level) ? 4 * (uint64_t)options->channels : 0;
    const uint64_t scale = brings_set(options, level) ? 5 : 0;
    return constant->data == NULL ||
           (constant->type == TFLNEST_TYPE_UINT8 && (constant->bytes == start + bias + scale ||
                                                     constant->bytes == start + bias + scale * options->channels));
}

/* Check what a level brings; `bytes` of it are its plane. */
static const char *check_level(const tflnest_options *options, const tflnest_constant *constants, uint32_t level,
                               uint32_t bytes)
{
    const tflnest_constant *plane = &constants[level];
    const int brings = brings_bias(options, level) || brings_set(options, level);
    if ((!brings || options->separate != 0) && plane->data != NULL &&
        (plane->type != TFLNEST_TYPE_UINT8 || plane->bytes != bytes)) {
        return "one of its planes has another type or size than its options ask for";
    }
    const tflnest_constant *holder = &constants[place_of(options, level).input - 1];
    if (brings && !is_sound(options, level, holder, options->separate != 0 ? 0 : bytes)) {
        return "what one of its levels brings has another type or size than its options ask for";
    }
    return NULL;
}

/* Let a level have its bias, multipliers and shifts; 0 where they are not there. */
static int bind_constants(tflnest_nested_filter *nested, const tflnest_options *options,
                          const tflnest_constant *constants, uint32_t level)
{
    const tflnest_place bias = tflnest_nested_bias_place(options, level);
    const tflnest_place set = tflnest_nested_set_place(options, level);
    const tflnest_constant *bias_holder = &constants[bias.input - 1], *set_holder = &constants[set.input - 1];
    if (bias_holder->data == NULL || set_holder->data == NULL) {
        return 0;
    }
    const uint8_t *biases = bias_holder->data, *scales = set_holder->data;
    size_t start = set.has_bias ? 4 * (size_t)options->channels : 0;
    if (options->separate == 0) {
        biases += nested->planes[bias.level].bytes;
        start += nested->planes[set.level].bytes;
    }
    tflnest_filter *filter = &nested->levels[level];
    tflnest_filter_set_scales(filter, scales + start, set_holder->bytes - start);
    filter->bias = (const void *)biases;
    return 1;
}

const char *tflnest_nested_filter_bind(tflnest_nested_filter *filter, const tflnest_options *options,
                                       const tflnest_constant *constants)
{
    const tflnest_chain chain = tflnest_chain_of(options);
    uint32_t fields = 0;
    memset(filter, 0, sizeof *filter);
    filter->count = options->levels.count;
    filter->weights = options->weights;
    for (uint32_t i = 0; i < filter->count; i++) {
        const uint8_t *codes = constants[i].data;
        filter->planes[i].bytes = tflnest_chain_plane_bytes(&chain, i, filter->weights);
        const char *problem = check_level(options, constants, i, filter->planes[i].bytes);
        if (problem != NULL) {
            return problem;
        }
        if (codes == NULL || !bind_constants(filter, options, constants, i)) {
            return NULL; /* this level is not there, and no higher one */
        }
        fields = tflnest_chain_add_fields(&chain, i, filter->weights, codes, filter->fields, fields);
        if (fields > TFLNEST_MAX_FIELDS) {
            return "its planes have too many fields";
        }
        filter->planes[i].codes = codes;
        filter->offsets[i] = tflnest_chain_offset(&chain, i);
        tflnest_filter_set_fields(&filter->levels[i], filter->fields, fields, filter->offsets[i]);
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
