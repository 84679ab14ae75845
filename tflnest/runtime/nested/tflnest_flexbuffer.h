/* Maps of integers and lists of integers in a flexbuffer (https://flatbuffers.dev/flexbuffers).
 *
 * The bytes may be anything: every offset and length is compared with their number before it is followed, and
 * nothing is allocated.
 */
#ifndef TFLNEST_FLEXBUFFER_H
#define TFLNEST_FLEXBUFFER_H

#include <stdint.h>

/* A map whose vectors of keys, values and types lie inside the bytes. */
typedef struct {
    const uint8_t *bytes;
    uint32_t size;
    uint32_t count;     /* of keys, and of values */
    uint32_t keys;      /* where the vector of keys starts */
    uint32_t key_width; /* bytes of one of its elements */
    uint32_t values;    /* where the vector of values starts; their types follow it */
    uint32_t width;     /* bytes of one of its elements */
} tflnest_map;

/* Open the map at the root of a flexbuffer of at most `limit` keys; 0 where there is none. */
int tflnest_map_open(tflnest_map *map, const void *bytes, uint32_t size, uint32_t limit);

/* Key `index` of a map, ended by a zero; NULL where it reaches beyond the bytes. */
const char *tflnest_map_key(const tflnest_map *map, uint32_t index);

/* Value `index` of a map as an integer of 32 bits; 0 where it is none. */
int tflnest_map_integer(const tflnest_map *map, uint32_t index, int32_t *value);

/* Value `index` of a map as a typed vector of at most `limit` integers of 32 bits; 0 where it is none.
 *
 * values Filled.
 * count  Filled: elements of the vector.
 */
int tflnest_map_integers(const tflnest_map *map, uint32_t index, uint32_t limit, int32_t *values, uint32_t *count);

#endif
