#include "tflnest_plane_encoding.h"

#include <string.h>

#include "tflnest_decode.h"
#include "tflnest_decode_format.h"

static uint32_t read_word(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static int is_blank(const uint8_t *bytes, uint32_t count)
{
    uint8_t all = 0;
    for (uint32_t i = 0; i < count; i++) {
        all |= bytes[i];
    }
    return all == 0;
}

/* Whether the lists of levels are what their counts say, and nothing stands behind them. */
static int lists_are_sound(const tflnest_plane_encoding *encoding, const uint8_t *levels, const uint8_t *model_levels)
{
    const uint32_t count = encoding->chain.count, model_count = encoding->model_level_count;
    if (count < 1 || count > TFLNEST_MAX_LEVELS || model_count < 1 || model_count > TFLNEST_MAX_LEVELS) {
        return 0;
    }
    uint8_t bits = 0, position = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (levels[i] <= bits || levels[i] > TFLNEST_MASTER_BITS) {
            return 0;
        }
        bits = levels[i];
    }
    for (uint32_t i = 0; i < model_count; i++) {
        if (model_levels[i] < position) {
            return 0;
        }
        position = model_levels[i];
    }
    return position == count - 1 && is_blank(levels + count, TFLNEST_MAX_LEVELS - count) &&
           is_blank(model_levels + model_count, TFLNEST_MAX_LEVELS - model_count);
}

/* Whether all planes together have no more fields than are read. */
static int fields_fit(const tflnest_chain *chain)
{
    tflnest_field fields[TFLNEST_MAX_FIELDS];
    uint32_t count = 0;
    for (uint32_t i = 0; i < chain->count && count <= TFLNEST_MAX_FIELDS; i++) {
        static const uint8_t none[1] = {0};
        count = tflnest_chain_add_fields(chain, i, 0, none, fields, count);
    }
    return count <= TFLNEST_MAX_FIELDS;
}

const char *tflnest_plane_encoding_read(tflnest_plane_encoding *encoding, const void *bytes, size_t size)
{
    const uint8_t *header = bytes;
    if (size < TFLNEST_DECODE_BYTES) {
        return "its ancillary data is too short";
    }
    if (header[TFLNEST_DECODE_AT_LAYOUT_VERSION] != TFLNEST_DECODE_LAYOUT_VERSION) {
        return "its ancillary data has another version than this tflnest reads";
    }
    memset(encoding, 0, sizeof *encoding);
    encoding->chain.count = header[TFLNEST_DECODE_AT_LEVEL_COUNT];
    encoding->chain.scheme = header[TFLNEST_DECODE_AT_SCHEME];
    encoding->model_level_count = header[TFLNEST_DECODE_AT_MODEL_LEVEL_COUNT];
    const uint8_t *levels = header + TFLNEST_DECODE_AT_LEVELS, *model_levels = header + TFLNEST_DECODE_AT_MODEL_LEVELS;
    if (encoding->chain.scheme > TFLNEST_SCHEME_COMPENSATED || !lists_are_sound(encoding, levels, model_levels) ||
        !is_blank(header + TFLNEST_DECODE_AT_RESERVED, TFLNEST_DECODE_AT_LEVELS - TFLNEST_DECODE_AT_RESERVED)) {
        return "the levels in its ancillary data make no sense";
    }
    if (size != TFLNEST_DECODE_BYTES + (size_t)encoding->chain.count * TFLNEST_DECODE_ROW_BYTES) {
        return "its ancillary data has another size than its levels ask for";
    }
    memcpy(encoding->chain.bits, levels, TFLNEST_MAX_LEVELS);
    memcpy(encoding->model_levels, model_levels, TFLNEST_MAX_LEVELS);
    encoding->rows = header + TFLNEST_DECODE_BYTES;
    return fields_fit(&encoding->chain) ? NULL : "its planes have too many fields";
}

tflnest_part_place tflnest_plane_encoding_place(const tflnest_plane_encoding *encoding, const tflnest_parts *parts,
                                                uint32_t level)
{
    const uint8_t *row = encoding->rows + level * TFLNEST_DECODE_ROW_BYTES;
    tflnest_part_place place = {row[TFLNEST_DECODE_ROW_AT_PLANE_PAGE], read_word(row + TFLNEST_DECODE_ROW_AT_PLANE)};
    if (parts->is_bias) {
        place.page = row[TFLNEST_DECODE_ROW_AT_BIAS_PAGE];
        place.offset = read_word(row + TFLNEST_DECODE_ROW_AT_BIAS);
    }
    return place;
}

uint32_t tflnest_plane_encoding_bytes(const tflnest_plane_encoding *encoding, const tflnest_parts *parts,
                                      uint32_t level)
{
    return parts->is_bias ? 4 * parts->elements : tflnest_chain_plane_bytes(&encoding->chain, level, parts->elements);
}

uint32_t tflnest_plane_encoding_count(const tflnest_plane_encoding *encoding, const tflnest_parts *parts, size_t bytes)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < encoding->chain.count; i++) {
        sum += tflnest_plane_encoding_bytes(encoding, parts, i);
        if (sum == bytes) {
            return i + 1;
        }
    }
    return 0;
}

void tflnest_plane_encoding_decode(const tflnest_plane_encoding *encoding, uint32_t level, uint32_t weights,
                                   const uint8_t *const *planes, int8_t *output)
{
    tflnest_field fields[TFLNEST_MAX_FIELDS];
    uint32_t count = 0;
    for (uint32_t i = 0; i <= level; i++) {
        count = tflnest_chain_add_fields(&encoding->chain, i, weights, planes[i], fields, count);
    }
    tflnest_filter filter = {0};
    tflnest_filter_set_fields(&filter, fields, count, tflnest_chain_offset(&encoding->chain, level));
    tflnest_decode(&filter, 0, weights, output);
}
