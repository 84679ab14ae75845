/* Hostile models for the plugin, under sanitizers.
 *
 * A small interpreter in this file stands for TensorFlow Lite. It holds every tensor in memory of exactly its size,
 * and every node's options too, so that a sanitizer sees one byte too far. Each input is a sound model, read from a
 * file (tests/tflnest/plugin/fuzz_seed.py writes it), in which some bytes, sizes, shapes, types and indices are
 * replaced. What the plugin accepts is run at several levels in either mode.
 *
 * With libFuzzer:  clang -g -O1 -fsanitize=fuzzer,address,undefined, the sources of the plugin, and the environment
 *                  variable FUZZ_SEED with the path of the file; its input is the list of replacements.
 * On its own:      the same with -fsanitize=address,undefined and -DFUZZ_ALONE; arguments: file, seed, inputs.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz_model.h"
#include "tflnest_plugin.h"
#include "tflnest_session.h"

#define MAX_TENSORS 128
#define MAX_NODES 8
#define MAX_BYTES (1 << 20)
#define MAX_PRODUCTS 20000000.0

tfl_delegate *tflite_plugin_create_delegate(const char *const *keys, const char *const *values, size_t count,
                                            void (*report_error)(const char *));
void tflite_plugin_destroy_delegate(tfl_delegate *delegate);

/* ------------------------------------------------------------------------------------------- interpreter */

typedef struct {
    tfl_node node;
    tfl_registration registration;
    int has_own; /* the plugin's data */
} fake_node;

static tfl_context context;
static size_t capacity;
static fake_node nodes[2 * MAX_NODES];
static int node_count, first_nodes;
static uint8_t *directory;
static uint32_t directory_bytes;
static char message[512];
static uint32_t messages;
static int is_const[4 * MAX_TENSORS];

static tfl_int_array *array_of(uint32_t count)
{
    tfl_int_array *array = calloc(1, sizeof(tfl_int_array) + count * sizeof(int32_t));
    array->size = (int32_t)count;
    return array;
}

static int get_plan(tfl_context *unused, tfl_int_array **plan)
{
    static tfl_int_array *made;
    (void)unused;
    free(made);
    made = array_of((uint32_t)first_nodes);
    for (int i = 0; i < first_nodes; i++) {
        made->data[i] = i;
    }
    *plan = made;
    return TFL_OK;
}

static int get_node(tfl_context *unused, int index, tfl_node **node, tfl_registration **registration)
{
    (void)unused;
    CHECK(index >= 0 && index < node_count);
    *node = &nodes[index].node;
    *registration = &nodes[index].registration;
    return TFL_OK;
}

static int replace_nodes(tfl_context *to, tfl_registration_value value, const tfl_int_array *which, tfl_delegate *delegate)
{
    CHECK(which->size == 1 && node_count < 2 * MAX_NODES);
    tfl_delegate_params params = {delegate, (tfl_int_array *)(uintptr_t)which, NULL, NULL};
    fake_node *made = &nodes[node_count];
    memset(made, 0, sizeof *made);
    made->registration = value.registration;
    made->node.temporaries = array_of(0);
    made->node.user_data = value.registration.init(to, (const char *)&params, 0);
    made->has_own = 1;
    node_count++;
    return TFL_OK;
}

static int add_tensors(tfl_context *to, int count, int *first)
{
    tfl_tensor *moved = calloc(to->tensors_size + (size_t)count, sizeof(tfl_tensor));
    CHECK(to->tensors_size + (size_t)count <= capacity);
    memcpy(moved, to->tensors, to->tensors_size * sizeof(tfl_tensor));
    free(to->tensors); /* what still points there is noticed */
    to->tensors = moved;
    *first = (int)to->tensors_size;
    to->tensors_size += (size_t)count;
    return TFL_OK;
}

static int resize_tensor(tfl_context *unused, tfl_tensor *tensor, tfl_int_array *shape)
{
    uint64_t bytes = 1;
    (void)unused;
    CHECK(tensor->allocation_type != TFL_ALLOCATION_READ_ONLY);
    for (int32_t i = 0; i < shape->size; i++) {
        CHECK(shape->data[i] > 0);
        bytes *= (uint64_t)shape->data[i];
        if (bytes > MAX_BYTES * 8) {
            free(shape);
            return TFL_ERROR;
        }
    }
    free(tensor->dims);
    free(tensor->data);
    tensor->dims = shape;
    tensor->bytes = (size_t)bytes;
    tensor->data = malloc(tensor->bytes);
    memset(tensor->data, 0x5A, tensor->bytes);
    return TFL_OK;
}

static void report_error(tfl_context *unused, const char *format, ...)
{
    va_list arguments;
    (void)unused;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    CHECK(strncmp(message, "tflnest: ", 9) == 0);
    messages++;
}

static void report_option(const char *text)
{
    CHECK(strncmp(text, "tflnest: ", 9) == 0);
    messages++;
}

static int get_metadata(const tfl_context *unused, const char *name, const char **bytes, size_t *size)
{
    (void)unused;
    CHECK(strcmp(name, "TFLNEST") == 0);
    *bytes = (const char *)directory;
    *size = directory_bytes;
    return directory == NULL ? TFL_ERROR : TFL_OK;
}

/* ------------------------------------------------------------------------------------------------ models */

static const uint8_t *cursor, *cursor_end;

static void take(void *to, size_t bytes)
{
    CHECK((size_t)(cursor_end - cursor) >= bytes);
    memcpy(to, cursor, bytes);
    cursor += bytes;
}

static uint32_t take_word(void)
{
    uint32_t word;
    take(&word, sizeof word);
    return word;
}

static void *take_bytes(uint32_t bytes)
{
    void *memory = malloc(bytes);
    take(memory, bytes);
    return memory;
}

static void read_tensor(size_t index)
{
    tfl_tensor *tensor = &context.tensors[index];
    tensor->type = (int32_t)take_word();
    is_const[index] = (int)take_word();
    take(&tensor->scale, sizeof tensor->scale);
    take(&tensor->zero_point, sizeof tensor->zero_point);
    tensor->dims = array_of(take_word());
    take(tensor->dims->data, (size_t)tensor->dims->size * sizeof(int32_t));
    tensor->bytes = take_word();
    tensor->allocation_type = is_const[index] ? TFL_ALLOCATION_READ_ONLY : TFL_ALLOCATION_ARENA;
    tensor->data = is_const[index] ? take_bytes((uint32_t)tensor->bytes) : calloc(1, tensor->bytes);
    tensor->name = "tensor";
    if (!is_const[index] && fuzz_draw(2) == 0) {
        tfl_affine_quantization *made = calloc(1, sizeof *made);
        made->zero_point = array_of(1);
        made->scale = calloc(1, sizeof(tfl_float_array) + sizeof(float));
        made->scale->size = 1;
        made->scale->data[0] = tensor->scale;
        tensor->quantization_type = TFL_QUANTIZATION_AFFINE;
        tensor->quantization_params = made;
    }
}

static void read_node(int index)
{
    static const char *const codes[] = TFLNEST_CUSTOM_CODES;
    fake_node *made = &nodes[index];
    memset(made, 0, sizeof *made);
    made->registration.builtin_code = TFLNEST_BUILTIN_CUSTOM;
    made->registration.custom_name = codes[take_word()];
    made->node.inputs = array_of(take_word());
    take(made->node.inputs->data, (size_t)made->node.inputs->size * sizeof(int32_t));
    made->node.outputs = array_of(1);
    made->node.outputs->data[0] = (int32_t)take_word();
    made->node.temporaries = array_of(0);
    made->node.custom_initial_data_size = (int32_t)take_word();
    made->node.custom_initial_data = take_bytes((uint32_t)made->node.custom_initial_data_size);
}

static void read_model(const uint8_t *bytes, size_t size)
{
    cursor = bytes;
    cursor_end = bytes + size;
    directory_bytes = take_word();
    directory = take_bytes(directory_bytes);
    memset(&context, 0, sizeof context);
    context.tensors_size = take_word();
    CHECK(context.tensors_size <= MAX_TENSORS);
    capacity = 4 * MAX_TENSORS;
    context.tensors = calloc(context.tensors_size, sizeof(tfl_tensor));
    for (size_t i = 0; i < context.tensors_size; i++) {
        read_tensor(i);
    }
    node_count = first_nodes = (int)take_word();
    CHECK(node_count <= MAX_NODES);
    for (int i = 0; i < node_count; i++) {
        read_node(i);
    }
    context.get_execution_plan = get_plan;
    context.resize_tensor = resize_tensor;
    context.report_error = report_error;
    context.add_tensors = add_tensors;
    context.get_node_and_registration = get_node;
    context.replace_nodes = replace_nodes;
    context.get_model_metadata = get_metadata;
}

static void free_model(size_t original)
{
    for (int i = 0; i < node_count; i++) {
        tfl_node *node = &nodes[i].node;
        if (nodes[i].registration.free != NULL && node->user_data != NULL) {
            nodes[i].registration.free(&context, node->user_data);
        }
        free((void *)(uintptr_t)node->custom_initial_data);
        free(node->inputs);
        free(node->outputs);
        free(node->temporaries);
        free(node->builtin_data);
    }
    for (size_t i = 0; i < context.tensors_size; i++) {
        tfl_tensor *tensor = &context.tensors[i];
        tfl_affine_quantization *quantization = tensor->quantization_params;
        if (i < original || tensor->allocation_type == TFL_ALLOCATION_ARENA) {
            free(tensor->data);
        }
        if (quantization != NULL) {
            free(quantization->scale);
            free(quantization->zero_point);
            free(quantization);
        }
        free(tensor->dims);
    }
    free(context.tensors);
    free(directory);
}

/* ------------------------------------------------------------------------------------------ replacements */

static void replace_bytes(uint8_t *bytes, uint32_t size)
{
    for (uint32_t i = fuzz_draw(3) + 1; size > 0 && i > 0; i--) {
        bytes[fuzz_draw(size)] = (uint8_t)fuzz_edge(bytes[0]);
    }
}

static void *resized(void *memory, size_t old, size_t size)
{
    uint8_t *made = calloc(1, size > 0 ? size : 1);
    memcpy(made, memory, old < size ? old : size);
    free(memory);
    return made;
}

static void change_tensor(void)
{
    tfl_tensor *tensor = &context.tensors[fuzz_draw((uint32_t)context.tensors_size)];
    switch (fuzz_draw(7)) {
    case 0: tensor->type = fuzz_edge(tensor->type); break;
    case 1: tensor->allocation_type = (int32_t)fuzz_draw(5); break;
    case 2: {
        const size_t size = (size_t)fuzz_draw(2) ? fuzz_draw(4096) : tensor->bytes + fuzz_draw(9);
        tensor->data = resized(tensor->data, tensor->bytes, size);
        tensor->bytes = size;
        break;
    }
    case 3:
        if (tensor->dims->size > 0) {
            tensor->dims->data[fuzz_draw((uint32_t)tensor->dims->size)] = fuzz_edge(2);
        }
        break;
    case 4: tensor->scale = fuzz_scale(); break;
    case 5: tensor->zero_point = fuzz_edge(tensor->zero_point); break;
    default: replace_bytes(tensor->data, (uint32_t)tensor->bytes); break;
    }
}

static void change_node(void)
{
    tfl_node *node = &nodes[fuzz_draw((uint32_t)first_nodes)].node;
    uint8_t *options = (uint8_t *)(uintptr_t)node->custom_initial_data;
    const uint32_t size = (uint32_t)node->custom_initial_data_size;
    switch (fuzz_draw(5)) {
    case 0:
        if (node->inputs->size > 0) {
            node->inputs->data[fuzz_draw((uint32_t)node->inputs->size)] = fuzz_edge(5);
        }
        break;
    case 1: node->inputs->size = (int32_t)fuzz_draw((uint32_t)node->inputs->size + 1); break;
    case 2: node->outputs->data[0] = fuzz_edge(node->outputs->data[0]); break;
    case 3:
        node->custom_initial_data_size = (int32_t)fuzz_draw(size + 4);
        node->custom_initial_data = resized(options, size, (size_t)node->custom_initial_data_size);
        break;
    default: replace_bytes(options, size); break;
    }
}

static void change_directory(void)
{
    const uint32_t header = directory_bytes < TFLNEST_DIRECTORY_HEADER_BYTES ? directory_bytes : TFLNEST_DIRECTORY_HEADER_BYTES;
    replace_bytes(directory, fuzz_draw(2) ? directory_bytes : header);
    if (fuzz_draw(3) == 0) {
        const uint32_t size = fuzz_draw(directory_bytes + 8);
        directory = resized(directory, directory_bytes, size);
        directory_bytes = size;
    }
    if (fuzz_draw(2) && directory_bytes >= TFLNEST_DIRECTORY_HEADER_BYTES) {
        fuzz_seal_directory(directory, directory_bytes);
    }
}

/* ---------------------------------------------------------------------------------------------- campaign */

static uint32_t accepted, refused, runs;

/* Products that an operator's outputs take together. */
static double products_of(const tflnest_operator *operator)
{
    return (double)operator->output_bytes * operator->filter.weights / operator->options.channels;
}

static void run_nodes(void)
{
    for (int i = 0; i < node_count; i++) {
        tfl_node *node = &nodes[i].node;
        const tflnest_operator *operator = node->user_data;
        if (operator == NULL || nodes[i].registration.prepare == NULL) {
            continue;
        }
        if (nodes[i].registration.prepare(&context, node) != TFL_OK) {
            continue;
        }
        if (products_of(operator) < MAX_PRODUCTS && context.tensors[operator->input].bytes == operator->input_bytes) {
            CHECK(nodes[i].registration.invoke(&context, node) == TFL_OK);
            runs++;
        }
    }
}

static void one_input(const uint8_t *model, size_t size)
{
    char level[8], session[] = "77";
    const char *keys[] = {"mode", "session", "level"};
    const char *values[] = {fuzz_draw(2) ? "memory" : "speed", session, level};
    snprintf(level, sizeof level, "%u", fuzz_draw(12));
    read_model(model, size);
    const size_t original = context.tensors_size;
    for (uint32_t i = fuzz_draw(4); i > 0; i--) {
        switch (fuzz_draw(8)) {
        case 0: change_directory(); break;
        case 1:
        case 2:
        case 3: change_tensor(); break;
        default: change_node(); break;
        }
    }
    messages = 0;
    tfl_delegate *delegate = tflite_plugin_create_delegate(keys, values, 2 + (fuzz_draw(4) == 0), report_option);
    if (delegate == NULL) {
        CHECK(messages == 1);
        refused++;
    } else if (delegate->prepare(&context, delegate) != TFL_OK) {
        CHECK(messages >= 1);
        refused++;
    } else {
        accepted++;
        run_nodes();
        for (int i = 0; i < 3; i++) {
            (void)tflnest_plugin_set_level(77, (int)fuzz_draw(10));
            (void)tflnest_plugin_set_operator_level(77, (int)fuzz_draw(6) - 1, (int)fuzz_draw(10));
        }
        run_nodes();
        CHECK(tflnest_plugin_operators(77) <= first_nodes);
    }
    if (fuzz_draw(2)) { /* either may go first */
        tflite_plugin_destroy_delegate(delegate);
        free_model(original);
    } else {
        free_model(original);
        tflite_plugin_destroy_delegate(delegate);
    }
    CHECK(tflnest_plugin_operators(77) < 0);
}

#ifdef FUZZ_ALONE
int main(int count, char **arguments)
{
    size_t size;
    CHECK(count == 4);
    uint8_t *model = fuzz_read_file(arguments[1], &size);
    fuzz_begin(arguments[2]);
    const unsigned long inputs = strtoul(arguments[3], NULL, 10);
    for (unsigned long i = 0; i < inputs; i++) {
        one_input(model, size);
    }
    free(model);
    printf("%lu inputs: %u accepted, %u refused, %u runs\n", inputs, accepted, refused, runs);
    return 0;
}
#else
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static uint8_t *model;
    static size_t model_size;
    if (model == NULL) {
        model = fuzz_read_file(getenv("FUZZ_SEED"), &model_size);
    }
    fuzz_script = bytes;
    fuzz_script_left = size;
    one_input(model, model_size);
    return 0;
}
#endif
