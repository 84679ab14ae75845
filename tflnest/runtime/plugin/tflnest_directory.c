#include "tflnest_directory.h"

#include <string.h>

#include "tflnest/tflnest_crc32.h"

static uint32_t read_word(const uint8_t *from)
{
    return (uint32_t)from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}

static uint32_t read_half(const uint8_t *from)
{
    return (uint32_t)from[0] | (uint32_t)from[1] << 8;
}

/* CRC-32 of the directory, with its identity and its CRC-32 taken as zeros. */
static uint32_t checksum(const uint8_t *bytes, uint32_t size)
{
    uint8_t header[TFLNEST_DIRECTORY_HEADER_BYTES];
    memcpy(header, bytes, sizeof header);
    memset(header + TFLNEST_DIRECTORY_AT_IDENTITY, 0, TFLNEST_DIRECTORY_IDENTITY_BYTES);
    memset(header + TFLNEST_DIRECTORY_AT_CRC32, 0, 4);
    return tflnest_crc32(tflnest_crc32(0, header, sizeof header), bytes + sizeof header,
                         size - (uint32_t)sizeof header);
}

static const char *read_levels(tflnest_directory *directory, const uint8_t *rows)
{
    for (uint32_t i = 0; i < directory->count; i++) {
        const uint8_t *row = rows + i * TFLNEST_DIRECTORY_LEVEL_BYTES;
        if (row[0] <= (i > 0 ? directory->levels[i - 1] : 0) || row[0] > TFLNEST_MASTER_BITS || row[1] != 0 ||
            read_half(row + 2) != 0) {
            return "the levels of its TFLNEST directory do not increase within 1 to 8";
        }
        directory->levels[i] = row[0];
    }
    return NULL;
}

const char *tflnest_directory_read(tflnest_directory *directory, const void *bytes, size_t size)
{
    const uint8_t *header = bytes;
    if (header == NULL || size < TFLNEST_DIRECTORY_HEADER_BYTES || size > UINT32_MAX) {
        return "its TFLNEST directory is cut off";
    }
    if (memcmp(header, TFLNEST_DIRECTORY_MAGIC, sizeof TFLNEST_DIRECTORY_MAGIC) != 0) {
        return "its TFLNEST metadata is no directory";
    }
    if (read_half(header + TFLNEST_DIRECTORY_AT_VERSION) != TFLNEST_DIRECTORY_VERSION) {
        return "it has another format version than this tflnest reads";
    }
    const uint32_t levels = read_half(header + TFLNEST_DIRECTORY_AT_LEVEL_COUNT);
    const uint32_t pages = read_half(header + TFLNEST_DIRECTORY_AT_PAGE_COUNT);
    const uint32_t segments = read_word(header + TFLNEST_DIRECTORY_AT_SEGMENT_COUNT);
    const uint32_t recipe = read_word(header + TFLNEST_DIRECTORY_AT_RECIPE_SIZE);
    if (read_half(header + TFLNEST_DIRECTORY_AT_HEADER_SIZE) != TFLNEST_DIRECTORY_HEADER_BYTES ||
        read_word(header + TFLNEST_DIRECTORY_AT_FLAGS) != 0 || levels < 1 || levels > TFLNEST_MAX_LEVELS ||
        pages != levels || segments > TFLNEST_MAX_SEGMENTS || recipe > TFLNEST_MAX_RECIPE_BYTES) {
        return "its TFLNEST directory makes no sense";
    }
    const uint32_t expected = TFLNEST_DIRECTORY_HEADER_BYTES + levels * TFLNEST_DIRECTORY_LEVEL_BYTES +
                              pages * TFLNEST_DIRECTORY_PAGE_BYTES + segments * TFLNEST_DIRECTORY_SEGMENT_BYTES +
                              recipe;
    if (size != expected || checksum(header, expected) != read_word(header + TFLNEST_DIRECTORY_AT_CRC32)) {
        return "its TFLNEST directory is damaged";
    }
    directory->count = levels;
    return read_levels(directory, header + TFLNEST_DIRECTORY_HEADER_BYTES);
}
