#include "tflnest_options.h"

#include <stddef.h>
#include <string.h>

#include "tflnest_flexbuffer.h"

/* An option that is one integer. */
typedef struct {
    const char *name;
    size_t member;   /* offset in tflnest_options */
    uint32_t stocks; /* bit s: operators of stock s have it */
    int32_t low;
    int32_t high;
    int32_t preset; /* where it is not given; below `low`: it must be */
} integer_option;

static const integer_option integer_options[] = {
#define TFLNEST_OPTION(name, stocks, low, high, preset) \
    {#name, offsetof(tflnest_options, name), stocks, low, high, preset},
    TFLNEST_INTEGER_OPTIONS(TFLNEST_OPTION)
#undef TFLNEST_OPTION
};

/* An option that is a list. */
typedef struct {
    const char *name;
    size_t member;
} list_option;

static const list_option list_options[] = {
    {"filter_shape", offsetof(tflnest_options, filter_shape)},
    {"levels", offsetof(tflnest_options, levels)},
    {"model_levels", offsetof(tflnest_options, model_levels)},
    {"requantization", offsetof(tflnest_options, requantization)},
    {"bias", offsetof(tflnest_options, bias)},
    {"activation_bits", offsetof(tflnest_options, activation_bits)},
};

#define INTEGERS (sizeof integer_options / sizeof integer_options[0])
#define LISTS (sizeof list_options / sizeof list_options[0])
#define OPTIONAL_LISTS 3u /* the first of them that has a default */

static const char *const custom_codes[] = TFLNEST_CUSTOM_CODES;
static const uint32_t filter_ranks[] = TFLNEST_FILTER_RANKS;
static const uint32_t channel_axes[] = TFLNEST_CHANNEL_AXES;

#define STOCKS (sizeof custom_codes / sizeof custom_codes[0])

static int32_t *integer_at(tflnest_options *options, size_t member)
{
    return (int32_t *)(void *)((uint8_t *)options + member);
}

static tflnest_list *list_at(tflnest_options *options, size_t member)
{
    return (tflnest_list *)(void *)((uint8_t *)options + member);
}

/* Read one option; `seen` has a bit for each that was read. */
static const char *read_option(tflnest_options *options, const tflnest_map *map, uint32_t index, uint32_t *seen)
{
    const char *key = tflnest_map_key(map, index);
    if (key == NULL) {
        return "its options are no flexbuffer map";
    }
    for (size_t i = 0; i < INTEGERS + LISTS; i++) {
        const int is_list = i >= INTEGERS;
        const integer_option *integer = &integer_options[is_list ? 0 : i];
        const list_option *list = &list_options[is_list ? i - INTEGERS : 0];
        if (strcmp(key, is_list ? list->name : integer->name) != 0) {
            continue;
        }
        if ((*seen >> i & 1u) != 0) {
            return "its options name a key twice";
        }
        *seen |= 1u << i;
        if (is_list) {
            tflnest_list *to = list_at(options, list->member);
            const int good = tflnest_map_integers(map, index, TFLNEST_MAX_OPTION_ITEMS, to->values, &to->count);
            return good ? NULL : "one of its options is no list of integers, or too long a one";
        }
        int32_t *to = integer_at(options, integer->member);
        if ((integer->stocks >> options->stock & 1u) == 0) {
            break;
        }
        if (!tflnest_map_integer(map, index, to)) {
            return "one of its options is no integer";
        }
        return *to < integer->low || *to > integer->high ? "one of its options is out of range" : NULL;
    }
    return "its options have an unknown key; the file may be newer than this tflnest";
}

static const char *check_levels(const tflnest_options *options)
{
    const tflnest_list *levels = &options->levels, *model = &options->model_levels;
    for (uint32_t i = 0; i < levels->count; i++) {
        if (levels->values[i] <= (i > 0 ? levels->values[i - 1] : 0) || levels->values[i] > TFLNEST_MASTER_BITS) {
            return "its levels do not increase within 1 to 8";
        }
    }
    if (levels->count < 1 || model->count < 1 || model->count > TFLNEST_MAX_LEVELS) {
        return "it has no levels";
    }
    for (uint32_t i = 0; i < model->count; i++) {
        if (model->values[i] < (i > 0 ? model->values[i - 1] : 0)) {
            return "its model_levels decrease";
        }
    }
    if (model->values[model->count - 1] != (int32_t)levels->count - 1) {
        return "its model_levels do not end with its last level";
    }
    return NULL;
}

/* Whether each number is that of a level below, or the next one. */
static int are_numbers(const tflnest_list *numbers, uint32_t count)
{
    int32_t next = 0;
    int good = numbers->count == count;
    for (uint32_t i = 0; good && i < count; i++) {
        good = numbers->values[i] >= 0 && numbers->values[i] <= next;
        next += numbers->values[i] == next ? 1 : 0;
    }
    return good;
}

static const char *check_numbers(const tflnest_options *options)
{
    if (!are_numbers(&options->bias, options->levels.count)) {
        return "its bias does not fit its levels";
    }
    return are_numbers(&options->requantization, options->levels.count) ? NULL
                                                                        : "its requantization does not fit its levels";
}

static const char *check_activation_bits(const tflnest_options *options)
{
    const tflnest_list *bits = &options->activation_bits;
    int good = bits->count == options->levels.count;
    for (uint32_t i = 0; good && i < bits->count; i++) {
        good = bits->values[i] >= 1 && bits->values[i] <= TFLNEST_MASTER_BITS;
    }
    return good ? NULL : "its activation_bits are no widths of 1 to 8 bits, one for each of its levels";
}

static const char *check_shape(tflnest_options *options)
{
    const tflnest_list *shape = &options->filter_shape;
    uint64_t weights = 1;
    int good = shape->count == filter_ranks[options->stock];
    for (uint32_t i = 0; good && i < shape->count; i++) {
        good = shape->values[i] >= 1 && shape->values[i] <= TFLNEST_MAX_FILTER_DIMENSION;
        weights *= good ? (uint64_t)shape->values[i] : 0;
        good = good && weights <= TFLNEST_MAX_WEIGHTS;
    }
    if (!good || (options->stock == TFLNEST_STOCK_DEPTHWISE_CONV_2D && shape->values[0] != 1)) {
        return "its filter_shape is no shape of such a filter";
    }
    options->weights = (uint32_t)weights;
    options->channels = (uint32_t)shape->values[channel_axes[options->stock]];
    return NULL;
}

/* Fill the lists that were not read: one set of multipliers, a bias of its own and all bits for each level. */
static void set_defaults(tflnest_options *options, uint32_t seen)
{
    for (uint32_t i = OPTIONAL_LISTS; i < LISTS; i++) {
        tflnest_list *list = list_at(options, list_options[i].member);
        if ((seen >> (INTEGERS + i) & 1u) != 0) {
            continue;
        }
        list->count = options->levels.count;
        for (uint32_t level = 0; level < list->count; level++) {
            list->values[level] = list == &options->bias              ? (int32_t)level
                                  : list == &options->activation_bits ? TFLNEST_MASTER_BITS
                                                                      : 0;
        }
    }
}

const char *tflnest_options_read(tflnest_options *options, const char *custom_code, const void *bytes, uint32_t size)
{
    tflnest_map map;
    uint32_t seen = 0;
    memset(options, 0, sizeof *options);
    while (options->stock < STOCKS && strcmp(custom_code, custom_codes[options->stock]) != 0) {
        options->stock++;
    }
    if (options->stock == STOCKS) {
        return "there is no such nested operator; the file may be newer than this tflnest";
    }
    for (size_t i = 0; i < INTEGERS; i++) {
        *integer_at(options, integer_options[i].member) = integer_options[i].preset;
    }
    if (!tflnest_map_open(&map, bytes, size, TFLNEST_MAX_OPTION_ITEMS)) {
        return "its options are no flexbuffer map";
    }
    for (uint32_t i = 0; i < map.count; i++) {
        const char *problem = read_option(options, &map, i, &seen);
        if (problem != NULL) {
            return problem;
        }
    }
    for (size_t i = 0; i < INTEGERS; i++) {
        if (*integer_at(options, integer_options[i].member) < integer_options[i].low) {
            return "one of its options is missing";
        }
    }
    set_defaults(options, seen);
    const char *problem = check_levels(options);
    problem = problem == NULL ? check_numbers(options) : problem;
    problem = problem == NULL ? check_activation_bits(options) : problem;
    return problem == NULL ? check_shape(options) : problem;
}
