#include "tflnest_flexbuffer.h"

#include <stddef.h>
#include <string.h>

/* Types of values, in the upper six bits of a type byte; the lower two are the logarithm of a width. */
enum {
    TYPE_INT = 1,
    TYPE_UINT = 2,
    TYPE_INDIRECT_INT = 6,
    TYPE_INDIRECT_UINT = 7,
    TYPE_MAP = 9,
    TYPE_VECTOR_INT = 11,
    TYPE_VECTOR_UINT = 12
};

/* Where a value lies, and what it is. */
typedef struct {
    uint32_t position;
    uint32_t width; /* bytes of the value, or of the offset to it */
    uint32_t type;
    uint32_t target_width; /* bytes of what an offset leads to */
} value;

static int lies_inside(const tflnest_map *map, uint32_t position, uint32_t bytes)
{
    return position <= map->size && bytes <= map->size - position;
}

/* An unsigned integer of 1, 2, 4 or 8 bytes that lies inside. */
static uint64_t read_unsigned(const tflnest_map *map, uint32_t position, uint32_t width)
{
    uint64_t result = 0;
    for (uint32_t i = 0; i < width; i++) {
        result |= (uint64_t)map->bytes[position + i] << (8 * i);
    }
    return result;
}

/* Follow an offset, which leads towards the start; 0 where it leads outside. */
static int follow(const tflnest_map *map, uint32_t position, uint32_t width, uint32_t *target)
{
    if (!lies_inside(map, position, width)) {
        return 0;
    }
    const uint64_t offset = read_unsigned(map, position, width);
    if (offset > position) {
        return 0;
    }
    *target = position - (uint32_t)offset;
    return 1;
}

/* The length of a vector, which stands before its first element; 0 where the elements do not lie inside. */
static int read_length(const tflnest_map *map, uint32_t vector, uint32_t width, uint32_t limit, uint32_t *count)
{
    if (vector < width || !lies_inside(map, vector - width, width)) {
        return 0;
    }
    const uint64_t length = read_unsigned(map, vector - width, width);
    if (length > limit || !lies_inside(map, vector, (uint32_t)length * width)) {
        return 0;
    }
    *count = (uint32_t)length;
    return 1;
}

int tflnest_map_open(tflnest_map *map, const void *bytes, uint32_t size, uint32_t limit)
{
    map->bytes = bytes;
    map->size = size;
    if (bytes == NULL || size < 3) {
        return 0;
    }
    const uint32_t root_width = map->bytes[size - 1], type = map->bytes[size - 2];
    if ((root_width != 1 && root_width != 2 && root_width != 4 && root_width != 8) || type >> 2 != TYPE_MAP ||
        root_width > size - 2) {
        return 0;
    }
    map->width = 1u << (type & 3u);
    if (!follow(map, size - 2 - root_width, root_width, &map->values) || map->values < 3 * map->width) {
        return 0;
    }
    if (!read_length(map, map->values, map->width, limit, &map->count) ||
        !lies_inside(map, map->values + map->count * map->width, map->count)) {
        return 0;
    }
    const uint64_t key_width = read_unsigned(map, map->values - 2 * map->width, map->width);
    if (key_width != 1 && key_width != 2 && key_width != 4 && key_width != 8) {
        return 0;
    }
    map->key_width = (uint32_t)key_width;
    uint32_t keys = 0;
    return follow(map, map->values - 3 * map->width, map->width, &map->keys) &&
           read_length(map, map->keys, map->key_width, limit, &keys) && keys == map->count;
}

const char *tflnest_map_key(const tflnest_map *map, uint32_t index)
{
    uint32_t start;
    if (!follow(map, map->keys + index * map->key_width, map->key_width, &start) || start >= map->size ||
        memchr(map->bytes + start, 0, map->size - start) == NULL) {
        return NULL;
    }
    return (const char *)map->bytes + start;
}

static value value_at(const tflnest_map *map, uint32_t index)
{
    const uint32_t type = map->bytes[map->values + map->count * map->width + index];
    const value found = {map->values + index * map->width, map->width, type >> 2, 1u << (type & 3u)};
    return found;
}

/* A signed or unsigned integer of some bytes that must fit 32 bits. */
static int read_integer(const tflnest_map *map, uint32_t position, uint32_t width, int is_signed, int32_t *result)
{
    if (!lies_inside(map, position, width)) {
        return 0;
    }
    uint64_t bits = read_unsigned(map, position, width);
    const uint64_t sign = UINT64_C(1) << (8 * width - 1);
    if (is_signed && (bits & sign) != 0) {
        bits |= ~(sign - 1); /* the sign fills the bits above */
        if (bits < UINT64_C(0xFFFFFFFF80000000)) {
            return 0;
        }
        *result = (int32_t)((int64_t)(bits - UINT64_C(0xFFFFFFFF80000000)) + INT32_MIN);
        return 1;
    }
    if (bits > INT32_MAX) {
        return 0;
    }
    *result = (int32_t)bits;
    return 1;
}

int tflnest_map_integer(const tflnest_map *map, uint32_t index, int32_t *result)
{
    const value found = value_at(map, index);
    if (found.type == TYPE_INT || found.type == TYPE_UINT) {
        return read_integer(map, found.position, found.width, found.type == TYPE_INT, result);
    }
    uint32_t target;
    if ((found.type != TYPE_INDIRECT_INT && found.type != TYPE_INDIRECT_UINT) ||
        !follow(map, found.position, found.width, &target)) {
        return 0;
    }
    return read_integer(map, target, found.target_width, found.type == TYPE_INDIRECT_INT, result);
}

int tflnest_map_integers(const tflnest_map *map, uint32_t index, uint32_t limit, int32_t *values, uint32_t *count)
{
    const value found = value_at(map, index);
    uint32_t vector;
    if ((found.type != TYPE_VECTOR_INT && found.type != TYPE_VECTOR_UINT) ||
        !follow(map, found.position, found.width, &vector) ||
        !read_length(map, vector, found.target_width, limit, count)) {
        return 0;
    }
    for (uint32_t i = 0; i < *count; i++) {
        const uint32_t position = vector + i * found.target_width;
        if (!read_integer(map, position, found.target_width, found.type == TYPE_VECTOR_INT, &values[i])) {
            return 0;
        }
    }
    return 1;
}
