/* Constants of the nested file (FORMAT.md).
 *
 * Generated from tflnest/nested.py and tflnest/container.py by `python -m tflnest.plugin.header`: do not edit.
 */
#ifndef TFLNEST_FORMAT_H
#define TFLNEST_FORMAT_H

#define TFLNEST_MASTER_BITS 8
#define TFLNEST_MAX_LEVELS 8
#define TFLNEST_MAX_SEGMENTS 1048576
#define TFLNEST_MAX_RECIPE_BYTES 1048576
#define TFLNEST_MAX_OPTION_ITEMS 16
#define TFLNEST_MAX_FILTER_DIMENSION 16777215
#define TFLNEST_MAX_WEIGHTS 2147483647
#define TFLNEST_TILE_BYTES 131072
#define TFLNEST_TILE_STEP 32

/* Operators. */
#define TFLNEST_STOCK_CONV_2D 0
#define TFLNEST_STOCK_DEPTHWISE_CONV_2D 1
#define TFLNEST_STOCK_FULLY_CONNECTED 2
#define TFLNEST_PREFIX "TFLNEST_"
#define TFLNEST_CUSTOM_CODES {"TFLNEST_CONV_2D", "TFLNEST_DEPTHWISE_CONV_2D", "TFLNEST_FULLY_CONNECTED"}
#define TFLNEST_FILTER_RANKS {4, 4, 2}
#define TFLNEST_CHANNEL_AXES {0, 3, 0}
#define TFLNEST_BUILTIN_CODES {3, 4, 9}
#define TFLNEST_BUILTIN_CUSTOM 32
#define TFLNEST_MAX_EXPANDED_WEIGHTS 268435456

/* Values of options. */
#define TFLNEST_SCHEME_BUCKET 0
#define TFLNEST_SCHEME_COMPENSATED 1
#define TFLNEST_PADDING_SAME 0
#define TFLNEST_PADDING_VALID 1
#define TFLNEST_ACTIVATION_NONE 0
#define TFLNEST_ACTIVATION_RELU 1
#define TFLNEST_ACTIVATION_RELU_N1_TO_1 2
#define TFLNEST_ACTIVATION_RELU6 3
#define TFLNEST_ACTIVATION_TANH 4
#define TFLNEST_ACTIVATION_SIGN_BIT 5

/* Options that are one integer: X(name, operators that have it as bits, lowest, highest, preset).
 * A preset below the lowest value: the option must be given. */
#define TFLNEST_INTEGER_OPTIONS(X) \
    X(version, 7u, 1, 2147483647, 0) \
    X(scheme, 7u, 0, 1, 0) \
    X(separate, 7u, 0, 1, 0) \
    X(padding, 3u, 0, 1, 0) \
    X(stride_w, 3u, 1, 2147483647, 1) \
    X(stride_h, 3u, 1, 2147483647, 1) \
    X(dilation_w_factor, 3u, 1, 2147483647, 1) \
    X(dilation_h_factor, 3u, 1, 2147483647, 1) \
    X(fused_activation_function, 7u, 0, 5, 0) \
    X(depth_multiplier, 2u, 0, 2147483647, 0) \
    X(keep_num_dims, 4u, 0, 1, 0)

/* Types of tensors that a nested operator has. */
#define TFLNEST_TYPE_INT32 2
#define TFLNEST_TYPE_UINT8 3
#define TFLNEST_TYPE_INT8 9

/* The page directory. */
#define TFLNEST_DIRECTORY_MAGIC "TFLNEST"
#define TFLNEST_DIRECTORY_HEADER_BYTES 64
#define TFLNEST_DIRECTORY_LEVEL_BYTES 4
#define TFLNEST_DIRECTORY_PAGE_BYTES 20
#define TFLNEST_DIRECTORY_SEGMENT_BYTES 12
#define TFLNEST_DIRECTORY_IDENTITY_BYTES 32
#define TFLNEST_DIRECTORY_VERSION 1
#define TFLNEST_DIRECTORY_AT_VERSION 8
#define TFLNEST_DIRECTORY_AT_HEADER_SIZE 10
#define TFLNEST_DIRECTORY_AT_FLAGS 12
#define TFLNEST_DIRECTORY_AT_IDENTITY 16
#define TFLNEST_DIRECTORY_AT_LEVEL_COUNT 48
#define TFLNEST_DIRECTORY_AT_PAGE_COUNT 50
#define TFLNEST_DIRECTORY_AT_SEGMENT_COUNT 52
#define TFLNEST_DIRECTORY_AT_RECIPE_SIZE 56
#define TFLNEST_DIRECTORY_AT_CRC32 60

#endif
