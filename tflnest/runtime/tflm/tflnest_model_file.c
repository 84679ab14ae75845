#include "tflnest_model_file.h"

#include <string.h>

/* Positions of fields in the tables of the schema (tensorflow/compiler/mlir/lite/schema/schema.fbs). */
enum {
    MODEL_SUBGRAPHS = 2,
    MODEL_BUFFERS = 4,
    MODEL_METADATA = 6,
    SUBGRAPH_TENSORS = 0,
    SUBGRAPH_INPUTS = 1,
    SUBGRAPH_OUTPUTS = 2,
    SUBGRAPH_OPERATORS = 3,
    OPERATOR_INPUTS = 1,
    OPERATOR_OUTPUTS = 2,
    OPERATOR_CUSTOM_OPTIONS = 5,
    METADATA_NAME = 0,
    METADATA_BUFFER = 1,
    BUFFER_DATA = 0
};

#define IDENTIFIER "TFL3"
#define SMALLEST_FILE 8u

/* Operators of a subgraph that lifetimes are looked up in. */
#define MOST_OPERATORS 1024u

/* The file. Positions in it are 0 where there is nothing: the first bytes are no table and no vector. */
typedef struct {
    const uint8_t *bytes;
    uint32_t size;
} flatbuffer;

/* A vector whose elements lie inside. */
typedef struct {
    uint32_t first;
    uint32_t count;
} vector;

static int lies_inside(const flatbuffer *file, uint32_t position, uint64_t bytes)
{
    return position <= file->size && bytes <= file->size - position;
}

static uint32_t read_half(const flatbuffer *file, uint32_t position)
{
    return (uint32_t)file->bytes[position] | (uint32_t)file->bytes[position + 1] << 8;
}

static uint32_t read_word(const flatbuffer *file, uint32_t position)
{
    return read_half(file, position) | read_half(file, position + 2) << 16;
}

/* Follow the offset that stands at a position; 0 where it leads outside. */
static uint32_t follow(const flatbuffer *file, uint32_t position)
{
    if (position == 0 || !lies_inside(file, position, 4)) {
        return 0;
    }
    const uint32_t offset = read_word(file, position);
    return lies_inside(file, position, (uint64_t)offset + 4) ? position + offset : 0;
}

/* Where a field of a table lies that has so many bytes; 0 where it has its default. */
static uint32_t field(const flatbuffer *file, uint32_t table, uint32_t number, uint32_t bytes)
{
    if (table == 0 || !lies_inside(file, table, 4)) {
        return 0;
    }
    const int64_t start = (int64_t)table - (int32_t)read_word(file, table);
    if (start < 0 || !lies_inside(file, (uint32_t)start, 6 + 2 * (uint64_t)number) || start > UINT32_MAX ||
        read_half(file, (uint32_t)start) < 6 + 2 * number) {
        return 0;
    }
    const uint32_t offset = read_half(file, (uint32_t)start + 4 + 2 * number);
    return offset != 0 && lies_inside(file, table, (uint64_t)offset + bytes) ? table + offset : 0;
}

static vector field_vector(const flatbuffer *file, uint32_t table, uint32_t number, uint32_t element_bytes)
{
    const uint32_t position = follow(file, field(file, table, number, 4));
    vector found = {0, 0};
    if (position != 0) {
        const uint32_t count = read_word(file, position);
        if (lies_inside(file, position + 4, (uint64_t)count * element_bytes)) {
            found.first = position + 4;
            found.count = count;
        }
    }
    return found;
}

static uint32_t element(const flatbuffer *file, vector tables, uint32_t index)
{
    return index < tables.count ? follow(file, tables.first + 4 * index) : 0;
}

/* Open a file; its root table, or 0. */
static uint32_t open_file(flatbuffer *file, const uint8_t *bytes, size_t size)
{
    file->bytes = bytes;
    file->size = (uint32_t)size;
    if (size < SMALLEST_FILE || size > INT32_MAX || memcmp(bytes + 4, IDENTIFIER, 4) != 0) {
        return 0;
    }
    const uint32_t root = read_word(file, 0);
    return lies_inside(file, root, 4) ? root : 0;
}

const uint8_t *tflnest_model_metadata(const uint8_t *file, size_t size, const char *name, uint32_t *bytes)
{
    flatbuffer model;
    const uint32_t root = open_file(&model, file, size);
    const vector entries = field_vector(&model, root, MODEL_METADATA, 4);
    for (uint32_t i = 0; i < entries.count; i++) {
        const uint32_t entry = element(&model, entries, i);
        const vector text = field_vector(&model, entry, METADATA_NAME, 1);
        if (text.count != strlen(name) || memcmp(file + text.first, name, text.count) != 0) {
            continue;
        }
        const uint32_t buffer = field(&model, entry, METADATA_BUFFER, 4);
        const vector buffers = field_vector(&model, root, MODEL_BUFFERS, 4);
        const uint32_t table = element(&model, buffers, buffer == 0 ? 0 : read_word(&model, buffer));
        const vector data = field_vector(&model, table, BUFFER_DATA, 1);
        *bytes = data.count;
        return data.count > 0 ? file + data.first : NULL;
    }
    return NULL;
}

/* Where an operator stands. */
typedef struct {
    uint32_t subgraph; /* 0: nowhere */
    vector operators;
    uint32_t index;
} place;

/* Find the operator whose custom options lie at an address. */
static place find_operator(const flatbuffer *model, uint32_t root, const void *custom_options)
{
    const vector subgraphs = field_vector(model, root, MODEL_SUBGRAPHS, 4);
    place found = {0, {0, 0}, 0};
    for (uint32_t i = 0; i < subgraphs.count; i++) {
        const uint32_t subgraph = element(model, subgraphs, i);
        const vector operators = field_vector(model, subgraph, SUBGRAPH_OPERATORS, 4);
        for (uint32_t j = 0; j < operators.count; j++) {
            const vector options = field_vector(model, element(model, operators, j), OPERATOR_CUSTOM_OPTIONS, 1);
            if (options.count > 0 && model->bytes + options.first == custom_options) {
                found.subgraph = subgraph;
                found.operators = operators;
                found.index = j;
                return found;
            }
        }
    }
    return found;
}

uint32_t tflnest_model_tensors_beside(const uint8_t *file, size_t size, const void *custom_options)
{
    flatbuffer model;
    const place found = find_operator(&model, open_file(&model, file, size), custom_options);
    return found.subgraph == 0 ? 0 : field_vector(&model, found.subgraph, SUBGRAPH_TENSORS, 4).count;
}

static int names(const flatbuffer *model, vector tensors, uint32_t tensor)
{
    uint32_t i = 0;
    while (i < tensors.count && read_word(model, tensors.first + 4 * i) != tensor) {
        i++;
    }
    return i < tensors.count;
}

/* Whether an operator, one behind it or the caller reads a tensor. */
static int is_read(const flatbuffer *model, const place *from, uint32_t tensor)
{
    int found = names(model, field_vector(model, from->subgraph, SUBGRAPH_OUTPUTS, 4), tensor);
    for (uint32_t i = from->index; !found && i < from->operators.count; i++) {
        const uint32_t table = element(model, from->operators, i);
        found = names(model, field_vector(model, table, OPERATOR_INPUTS, 4), tensor);
    }
    return found;
}

uint32_t tflnest_model_alive(const uint8_t *file, size_t size, const void *custom_options, uint32_t *tensors,
                             uint32_t limit)
{
    flatbuffer model;
    const place found = find_operator(&model, open_file(&model, file, size), custom_options);
    uint32_t count = 0;
    if (found.subgraph == 0 || found.operators.count > MOST_OPERATORS) {
        return 0;
    }
    for (uint32_t i = 0; i <= found.index + 1; i++) { /* what the caller gives, then what operators make */
        const uint32_t table = i == 0 ? found.subgraph : element(&model, found.operators, i - 1);
        const vector made = field_vector(&model, table, i == 0 ? SUBGRAPH_INPUTS : OPERATOR_OUTPUTS, 4);
        for (uint32_t j = 0; j < made.count; j++) {
            const uint32_t tensor = read_word(&model, made.first + 4 * j);
            if (i <= found.index && !is_read(&model, &found, tensor)) {
                continue;
            }
            if (count == limit) {
                return 0;
            }
            tensors[count++] = tensor;
        }
    }
    return count;
}
