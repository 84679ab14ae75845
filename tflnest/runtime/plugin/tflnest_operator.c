#include "tflnest_operator.h"

#include <stdlib.h>
#include <string.h>

#define MAX_CONSTANTS (2 * TFLNEST_MAX_LEVELS)

int tflnest_operator_is_nested(const tfl_registration *registration)
{
    return registration->builtin_code == TFLNEST_BUILTIN_CUSTOM && registration->custom_name != NULL &&
           strncmp(registration->custom_name, TFLNEST_PREFIX, sizeof TFLNEST_PREFIX - 1) == 0;
}

static tfl_tensor *tensor_at(const tfl_context *context, int32_t index)
{
    return index >= 0 && (size_t)index < context->tensors_size ? &context->tensors[index] : NULL;
}

static const char *read_directory(tflnest_directory *directory, tfl_context *context)
{
    const char *bytes = NULL;
    size_t size = 0;
    if (context->get_model_metadata == NULL ||
        context->get_model_metadata(context, "TFLNEST", &bytes, &size) != TFL_OK) {
        return "its file has no TFLNEST metadata: it was cut or rewritten";
    }
    return tflnest_directory_read(directory, bytes, size);
}

static const char *bind_filter(tflnest_operator *operator, const tfl_context *context, const tfl_node *node)
{
    tflnest_constant constants[MAX_CONSTANTS] = {{0, 0, NULL}};
    const uint32_t count = tflnest_nested_inputs(&operator->options);
    if (node->inputs == NULL || node->inputs->size != (int32_t)count || node->outputs == NULL ||
        node->outputs->size != 1) {
        return "its options ask for another number of inputs or outputs";
    }
    for (uint32_t i = 1; i < count; i++) {
        const tfl_tensor *tensor = tensor_at(context, node->inputs->data[i]);
        if (tensor == NULL) {
            return "one of its inputs is absent";
        }
        const int is_there = tensor->allocation_type == TFL_ALLOCATION_READ_ONLY && tensor->bytes > 0;
        const tflnest_constant constant = {(uint32_t)tensor->type, tensor->bytes, is_there ? tensor->data : NULL};
        constants[i - 1] = constant;
    }
    return tflnest_nested_filter_bind(&operator->filter, &operator->options, constants);
}

static const char *bind_activations(tflnest_operator *operator, const tfl_context *context, const tfl_node *node)
{
    operator->input = node->inputs->data[0];
    operator->output = node->outputs->data[0];
    const tfl_tensor *input = tensor_at(context, operator->input), *output = tensor_at(context, operator->output);
    if (input == NULL || output == NULL || input == output || input->type != TFLNEST_TYPE_INT8 ||
        output->type != TFLNEST_TYPE_INT8 || output->allocation_type == TFL_ALLOCATION_READ_ONLY) {
        return "its input or output is no int8 activation";
    }
    return NULL;
}

/* The shape of a tensor; a rank of 0 where it has none or too many dimensions. */
static tflnest_dimensions dimensions_of(const tfl_tensor *tensor)
{
    tflnest_dimensions dimensions = {{0}, 0};
    if (tensor->dims != NULL && tensor->dims->size > 0 && tensor->dims->size <= (int32_t)TFLNEST_MAX_RANK) {
        dimensions.rank = (uint32_t)tensor->dims->size;
        memcpy(dimensions.values, tensor->dims->data, dimensions.rank * sizeof(int32_t));
    }
    return dimensions;
}

/* Bytes of an int8 tensor of sound dimensions. */
static size_t bytes_of(const tflnest_dimensions *dimensions)
{
    size_t bytes = 1;
    for (uint32_t i = 0; i < dimensions->rank; i++) {
        bytes *= (size_t)dimensions->values[i];
    }
    return bytes;
}

/* Make the kernel call for the present shape of the input. */
static const char *make_call(tflnest_operator *operator, const tfl_context *context, tflnest_dimensions *output)
{
    const tfl_tensor *from = &context->tensors[operator->input], *to = &context->tensors[operator->output];
    const tflnest_dimensions input = dimensions_of(from);
    const tflnest_quantization source = {from->scale, from->zero_point}, target = {to->scale, to->zero_point};
    const char *problem = tflnest_call_make(&operator->call, &operator->options, &input, source, target, output);
    if (problem != NULL) {
        return problem;
    }
    for (uint32_t i = 0; i < operator->filter.available; i++) {
        if (!tflnest_call_is_sound(&operator->call, &operator->filter.levels[i])) {
            return "its multipliers, shifts, alignment or sizes are not what the kernels compute with";
        }
    }
    operator->input_bytes = bytes_of(&input);
    operator->output_bytes = bytes_of(output);
    return NULL;
}

const char *tflnest_operator_read(tflnest_operator *operator, tfl_context *context, const tfl_node *node,
                                  const tfl_registration *registration, int level)
{
    tflnest_dimensions output;
    memset(operator, 0, sizeof *operator);
    const int32_t size = node->custom_initial_data_size;
    const char *problem = read_directory(&operator->directory, context);
    if (problem == NULL) {
        problem = tflnest_options_read(&operator->options, registration->custom_name, node->custom_initial_data,
                                       size < 0 ? 0 : (uint32_t)size);
    }
    if (problem == NULL && operator->options.model_levels.count != operator->directory.count) {
        problem = "its model_levels are not as many as the levels of the model";
    }
    problem = problem == NULL ? bind_filter(operator, context, node) : problem;
    problem = problem == NULL ? bind_activations(operator, context, node) : problem;
    problem = problem == NULL ? make_call(operator, context, &output) : problem;
    if (problem != NULL) {
        return problem;
    }
    const int wanted = level == 0 ? operator->directory.levels[operator->directory.count - 1] : level;
    const int position = tflnest_operator_position(operator, wanted);
    if (position < 0) {
        return "the model does not have the level that was asked for";
    }
    if (operator->options.activation_bits.values[position] != TFLNEST_MASTER_BITS) {
        return "it reads its activation at fewer than 8 bits at this level, which the plugin does not do";
    }
    if (!tflnest_operator_can_run(operator, (uint32_t)position)) {
        return (uint32_t)position < operator->filter.available
                   ? "its planes join to weights outside int8"
                   : "the file does not have a page that the level needs";
    }
    operator->level = (uint32_t)position;
    operator->bias = node->inputs->data[1 + position];
    const char *name = context->tensors[node->inputs->data[node->inputs->size - (int32_t)operator->filter.count]].name;
    if (name == NULL || name[0] == 0) {
        name = context->tensors[operator->output].name;
    }
    operator->name = name == NULL ? "" : name;
    return NULL;
}

int tflnest_operator_position(const tflnest_operator *operator, int level)
{
    for (uint32_t i = 0; i < operator->directory.count; i++) {
        if (operator->directory.levels[i] == level) {
            return operator->options.model_levels.values[i];
        }
    }
    return -1;
}

int tflnest_operator_can_run(tflnest_operator *operator, uint32_t position)
{
    if (position >= operator->filter.available ||
        operator->options.activation_bits.values[position] != TFLNEST_MASTER_BITS) {
        return 0;
    }
    if ((operator->checked >> position & 1u) == 0 && tflnest_nested_filter_fits(&operator->filter, position)) {
        operator->checked |= 1u << position;
    }
    return (int)(operator->checked >> position & 1u);
}

static tfl_int_array *make_int_array(const int32_t *values, uint32_t count)
{
    tfl_int_array *array = malloc(sizeof(tfl_int_array) + count * sizeof(int32_t));
    if (array != NULL) {
        array->size = (int32_t)count;
        memcpy(array->data, values, count * sizeof(int32_t));
    }
    return array;
}

/* Give a tensor a shape; the runtime takes it over. */
static int resize(tfl_context *context, int32_t index, const int32_t *values, uint32_t count)
{
    tfl_int_array *shape = make_int_array(values, count);
    return shape == NULL ? TFL_ERROR : context->resize_tensor(context, &context->tensors[index], shape);
}

/* Ask for scratch memory, which operators share in the arena. */
static int plan_scratch(tflnest_operator *operator, tfl_context *context, tfl_node *node)
{
    const uint32_t needed = tflnest_call_scratch(&operator->call);
    const int32_t bytes = needed > 0 ? (int32_t)needed : 1;
    if (operator->scratch == 0) {
        int index = 0;
        if (needed > INT32_MAX || context->add_tensors(context, 1, &index) != TFL_OK) {
            return TFL_ERROR;
        }
        operator->scratch = index;
    }
    if (node->temporaries == NULL || node->temporaries->size != 1) {
        free(node->temporaries);
        node->temporaries = make_int_array(&operator->scratch, 1);
        if (node->temporaries == NULL) {
            return TFL_ERROR;
        }
    }
    tfl_tensor *tensor = &context->tensors[operator->scratch];
    tensor->type = TFLNEST_TYPE_UINT8;
    tensor->allocation_type = TFL_ALLOCATION_ARENA;
    return resize(context, operator->scratch, &bytes, 1);
}

int tflnest_operator_prepare(tfl_context *context, tfl_node *node)
{
    tflnest_operator *operator = node->user_data;
    tflnest_dimensions output;
    if (operator == NULL) {
        return TFL_ERROR;
    }
    const char *problem = make_call(operator, context, &output);
    if (problem != NULL) {
        context->report_error(context, "tflnest: operator %s: %s", operator->name, problem);
        return TFL_ERROR;
    }
    if (operator->expanded.values == NULL && node->inputs != NULL && node->inputs->size > 0) {
        node->inputs->size = 1; /* a runtime refuses to invoke a node of which a constant is absent */
        node->inputs->data[0] = operator->input;
    }
    if (resize(context, operator->output, output.values, output.rank) != TFL_OK) {
        return TFL_ERROR;
    }
    return plan_scratch(operator, context, node);
}

int tflnest_operator_invoke(tfl_context *context, tfl_node *node)
{
    tflnest_operator *operator = node->user_data;
    const tfl_tensor *input = &context->tensors[operator->input], *scratch = &context->tensors[operator->scratch];
    const tfl_tensor *output = &context->tensors[operator->output];
    if (input->data == NULL || output->data == NULL || scratch->data == NULL ||
        input->bytes != operator->input_bytes || output->bytes != operator->output_bytes) {
        context->report_error(context, "tflnest: operator %s: its activations changed since it was prepared",
                              operator->name);
        return TFL_ERROR;
    }
    const uint32_t level = __atomic_load_n(&operator->level, __ATOMIC_ACQUIRE);
    const tflnest_filter *filter =
        operator->expanded.values != NULL ? &operator->expanded : &operator->filter.levels[level];
    tflnest_call_run(&operator->call, filter, input->data, output->data, scratch->data);
    return TFL_OK;
}
