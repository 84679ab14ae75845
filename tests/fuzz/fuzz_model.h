/* What the campaigns against hostile models have in common: choices, edges of values, and files.
 *
 * Choices come from the bytes of a script, as libFuzzer gives them, or from a series of numbers.
 */
#ifndef FUZZ_MODEL_H
#define FUZZ_MODEL_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz_check.h"
#include "tflnest/tflnest_crc32.h"
#include "tflnest_format.h"

static const uint8_t *fuzz_script; /* NULL: choices come from the series */
static size_t fuzz_script_left;
static uint64_t fuzz_state;

/* Begin a series of choices. */
static inline void fuzz_begin(const char *number)
{
    fuzz_state = strtoull(number, NULL, 10) * 2654435761u + 88172645463325252u;
}

/* A number below another one. */
static inline uint32_t fuzz_draw(uint32_t below)
{
    if (fuzz_script != NULL) {
        uint32_t word = 0;
        for (int i = 0; i < 3 && fuzz_script_left > 0; i++, fuzz_script_left--) {
            word = word << 8 | *fuzz_script++;
        }
        return word % below;
    }
    fuzz_state ^= fuzz_state << 13;
    fuzz_state ^= fuzz_state >> 7;
    fuzz_state ^= fuzz_state << 17;
    return (uint32_t)(fuzz_state >> 20) % below;
}

/* A value near the present one, a small one, or one at which something may break. */
static inline int32_t fuzz_edge(int32_t present)
{
    static const int32_t edges[] = {0,   1,   2,   -1,    3,       7,         8,         9,         16,
                                    127, 128, 255, 256,   65536,   1 << 24,   INT32_MAX, INT32_MIN, 0x7FFFFF00};
    switch (fuzz_draw(3)) {
    case 0: return (int32_t)((uint32_t)present + fuzz_draw(5) - 2u);
    case 1: return (int32_t)fuzz_draw(64);
    default: return edges[fuzz_draw(sizeof edges / sizeof edges[0])];
    }
}

/* A scale that makes no sense, or little. */
static inline float fuzz_scale(void)
{
    static const float scales[] = {0.0f, -1.0f, 1e-45f, 1e-30f, 0.5f, 3e38f};
    return scales[fuzz_draw(sizeof scales / sizeof scales[0])];
}

/* Give a changed page directory the CRC-32 that it should have. */
static inline void fuzz_seal_directory(uint8_t *directory, uint32_t bytes)
{
    uint8_t *copy = (uint8_t *)malloc(bytes);
    memcpy(copy, directory, bytes);
    memset(copy + TFLNEST_DIRECTORY_AT_IDENTITY, 0, TFLNEST_DIRECTORY_IDENTITY_BYTES);
    memset(copy + TFLNEST_DIRECTORY_AT_CRC32, 0, 4);
    const uint32_t crc = tflnest_crc32(0, copy, bytes);
    memcpy(directory + TFLNEST_DIRECTORY_AT_CRC32, &crc, 4);
    free(copy);
}

/* The content of a file; the caller frees it. */
static inline uint8_t *fuzz_read_file(const char *path, size_t *size)
{
    FILE *file = path == NULL ? NULL : fopen(path, "rb");
    CHECK(file != NULL && fseek(file, 0, SEEK_END) == 0);
    *size = (size_t)ftell(file);
    rewind(file);
    uint8_t *bytes = (uint8_t *)malloc(*size);
    CHECK(fread(bytes, 1, *size, file) == *size);
    fclose(file);
    return bytes;
}

#endif
