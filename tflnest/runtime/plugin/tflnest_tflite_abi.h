/* What an external delegate shares with TensorFlow Lite, restated: the memory layout of its C interface.
 *
 * Read from tensorflow/lite/core/c/common.h and builtin_op_data.h (TensorFlow 2.14 to 2.21, LiteRT 1.0 to 2.3),
 * compiled without TF_LITE_STATIC_MEMORY. Only what is used has a type; the rest keeps its place. The offsets are
 * checked at compile time, for targets with pointers of 64 bits.
 */
#ifndef TFLNEST_TFLITE_ABI_H
#define TFLNEST_TFLITE_ABI_H

#include <stddef.h>
#include <stdint.h>

enum { TFL_OK = 0, TFL_ERROR = 1 };

enum { TFL_ALLOCATION_READ_ONLY = 1, TFL_ALLOCATION_ARENA = 2 };

enum { TFL_QUANTIZATION_AFFINE = 1 };

enum { TFL_PADDING_SAME = 1, TFL_PADDING_VALID = 2 };

enum { TFL_TYPE_FLOAT32 = 1 };

/* Nodes may need a delegate before they can be prepared: without it the unresolved ones would be prepared first. */
#define TFL_DELEGATE_FLAG_ALLOW_DYNAMIC_TENSORS 1

typedef struct {
    int32_t size;
    int32_t data[];
} tfl_int_array;

/* The layout until 2026; later runtimes keep a pointer first. `tflnest_stock.c` tells them apart. */
typedef struct {
    int32_t size;
    float data[];
} tfl_float_array;

typedef struct {
    tfl_float_array *scale;
    tfl_int_array *zero_point;
    int32_t quantized_dimension;
} tfl_affine_quantization;

typedef struct tfl_tensor {
    int32_t type;
    void *data;
    tfl_int_array *dims;
    float scale; /* of the whole tensor */
    int32_t zero_point;
    int32_t allocation_type;
    size_t bytes;
    const void *allocation;
    const char *name;
    void *delegate;
    int32_t buffer_handle;
    uint8_t data_is_stale;
    uint8_t is_variable;
    int32_t quantization_type;
    void *quantization_params;
    void *sparsity;
    const tfl_int_array *dims_signature;
} tfl_tensor;

typedef struct tfl_node {
    tfl_int_array *inputs;
    tfl_int_array *outputs;
    tfl_int_array *intermediates;
    tfl_int_array *temporaries;
    void *user_data;
    void *builtin_data;
    const void *custom_initial_data;
    int32_t custom_initial_data_size;
    void *delegate;
    uint8_t might_have_side_effect;
} tfl_node;

struct tfl_context;

/* The first members of a registration; a runtime's own one is longer. */
typedef struct tfl_registration {
    void *(*init)(struct tfl_context *context, const char *buffer, size_t length);
    void (*free)(struct tfl_context *context, void *buffer);
    int (*prepare)(struct tfl_context *context, tfl_node *node);
    int (*invoke)(struct tfl_context *context, tfl_node *node);
    const char *(*profiling_string)(const struct tfl_context *context, const tfl_node *node);
    int32_t builtin_code;
    const char *custom_name;
    int32_t version;
} tfl_registration;

/* One that is passed by value: whatever a newer runtime reads behind it is zero. */
typedef struct {
    tfl_registration registration;
    uint8_t tail[88];
} tfl_registration_value;

typedef struct tfl_delegate {
    void *data;
    int (*prepare)(struct tfl_context *context, struct tfl_delegate *delegate);
    void *copy_from_buffer_handle;
    void *copy_to_buffer_handle;
    void *free_buffer_handle;
    int64_t flags;
    void *opaque_delegate_builder;
    uint8_t tail[64]; /* zero */
} tfl_delegate;

typedef struct {
    tfl_delegate *delegate;
    tfl_int_array *nodes_to_replace;
    tfl_int_array *input_tensors;
    tfl_int_array *output_tensors;
} tfl_delegate_params;

typedef struct tfl_context {
    size_t tensors_size;
    int (*get_execution_plan)(struct tfl_context *context, tfl_int_array **plan);
    tfl_tensor *tensors;
    void *implementation;
    int (*resize_tensor)(struct tfl_context *context, tfl_tensor *tensor, tfl_int_array *size);
    void (*report_error)(struct tfl_context *context, const char *format, ...);
    int (*add_tensors)(struct tfl_context *context, int count, int *first);
    int (*get_node_and_registration)(struct tfl_context *context, int index, tfl_node **node,
                                     tfl_registration **registration);
    int (*replace_nodes)(struct tfl_context *context, tfl_registration_value registration,
                         const tfl_int_array *nodes, tfl_delegate *delegate);
    int32_t recommended_num_threads;
    void *between[12]; /* members that are not used */
    int (*get_model_metadata)(const struct tfl_context *context, const char *name, const char **bytes, size_t *size);
} tfl_context;

/* Options of stock operators. What newer runtimes added behind them is zero. */
typedef struct {
    int32_t padding;
    int32_t stride_width;
    int32_t stride_height;
    int32_t activation;
    int32_t dilation_width_factor;
    int32_t dilation_height_factor;
    int32_t quantized_bias_type;
    uint8_t tail[64];
} tfl_conv_options;

typedef struct {
    int32_t padding;
    int32_t stride_width;
    int32_t stride_height;
    int32_t depth_multiplier;
    int32_t activation;
    int32_t dilation_width_factor;
    int32_t dilation_height_factor;
    uint8_t tail[64];
} tfl_depthwise_conv_options;

typedef struct {
    int32_t activation;
    int32_t weights_format;
    uint8_t keep_num_dims;
    uint8_t asymmetric_quantize_inputs;
    int32_t quantized_bias_type;
    uint8_t tail[64];
} tfl_fully_connected_options;

#define TFL_CHECK(name, condition) typedef char tfl_check_##name[(condition) ? 1 : -1]
#define TFL_CHECK_PLACE(type, member, offset) TFL_CHECK(type##_##member, offsetof(type, member) == (offset))

TFL_CHECK(pointer, sizeof(void *) == 8);
TFL_CHECK(tensor, sizeof(tfl_tensor) == 112);
TFL_CHECK_PLACE(tfl_tensor, data, 8);
TFL_CHECK_PLACE(tfl_tensor, scale, 24);
TFL_CHECK_PLACE(tfl_tensor, allocation_type, 32);
TFL_CHECK_PLACE(tfl_tensor, bytes, 40);
TFL_CHECK_PLACE(tfl_tensor, name, 56);
TFL_CHECK_PLACE(tfl_tensor, is_variable, 77);
TFL_CHECK_PLACE(tfl_tensor, quantization_params, 88);
TFL_CHECK_PLACE(tfl_tensor, dims_signature, 104);
TFL_CHECK(node, sizeof(tfl_node) == 80);
TFL_CHECK_PLACE(tfl_node, user_data, 32);
TFL_CHECK_PLACE(tfl_node, custom_initial_data, 48);
TFL_CHECK_PLACE(tfl_node, delegate, 64);
TFL_CHECK_PLACE(tfl_registration, builtin_code, 40);
TFL_CHECK_PLACE(tfl_registration, custom_name, 48);
TFL_CHECK_PLACE(tfl_registration, version, 56);
TFL_CHECK(registration, sizeof(tfl_registration_value) >= 88);
TFL_CHECK_PLACE(tfl_delegate, flags, 40);
TFL_CHECK_PLACE(tfl_delegate, opaque_delegate_builder, 48);
TFL_CHECK(delegate_params, sizeof(tfl_delegate_params) == 32);
TFL_CHECK_PLACE(tfl_context, tensors, 16);
TFL_CHECK_PLACE(tfl_context, resize_tensor, 32);
TFL_CHECK_PLACE(tfl_context, add_tensors, 48);
TFL_CHECK_PLACE(tfl_context, replace_nodes, 64);
TFL_CHECK_PLACE(tfl_context, get_model_metadata, 176);
TFL_CHECK_PLACE(tfl_affine_quantization, quantized_dimension, 16);
TFL_CHECK_PLACE(tfl_fully_connected_options, quantized_bias_type, 12);

#endif
