/* Types that all kernels of the tflnest runtime share.
 *
 * Conventions:
 *  - Activations are int8, shape (batches, height, width, channels), last dimension fastest.
 *  - A kernel trusts its parameters. Whoever makes them calls the kernel's `_check` function once, at load
 *    time; generated firmware was checked by its generator.
 *  - A kernel keeps nothing between calls. Its scratch is the caller's, aligned to 8 bytes, and as large as
 *    the kernel's `_get_buffer_size` says.
 *  - `tile_channels` of a kernel with weights is the number of output channels, or rows, that are decoded at a time:
 *    4, 8, 16 and more are fast, 1 and 2 slow and small. 0 is for the kernel's `_unbuffered` form alone, which takes
 *    no scratch and decodes weights to the stack, a few at a time, again and again: that is slowest.
 *  - `_check` returns TFLNEST_ERROR_ARGUMENT for everything that the kernel does not compute.
 *  - Arithmetic is that of TensorFlow Lite for Microcontrollers with double rounding.
 */
#ifndef TFLNEST_TYPES_H
#define TFLNEST_TYPES_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#if INT_MAX < 2147483647
#error "tflnest needs a processor and a compiler whose int has 32 bits"
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* What a function reports. */
typedef enum {
    TFLNEST_OK = 0,
    TFLNEST_ERROR_ARGUMENT = -1, /* a shape, range or pointer that makes no sense */
    TFLNEST_ERROR_LEVEL = -2,    /* no such level */
    TFLNEST_ERROR_PAGE = -3,     /* no such page */
    TFLNEST_ERROR_RESIDENT = -4, /* a page that is needed is not resident */
    TFLNEST_ERROR_IN_USE = -5,   /* a page that is still needed must stay */
    TFLNEST_ERROR_CRC = -6,      /* the bytes of a page are damaged */
    TFLNEST_ERROR_IDENTITY = -7, /* the page belongs to another model */
    TFLNEST_ERROR_SIZE = -8,     /* too many bytes, or too few */
    TFLNEST_ERROR_FLASH = -9     /* flash that could not be erased or programmed */
} tflnest_status;

/* Shape of an activation; every dimension is 1 or more. */
typedef struct {
    int32_t batches;
    int32_t height;
    int32_t width;
    int32_t channels;
} tflnest_shape;

/* A pair of a vertical and a horizontal extent.
 *
 * Of a window that moves over an image, filter, stride and dilation are 1 or more; padding is what lies above and left
 * of the image, 0 or more. */
typedef struct {
    int32_t height;
    int32_t width;
} tflnest_extent;

/* One field of packed codes (FORMAT.md, section 5): groups of 16 codes, 4-byte aligned. */
typedef struct {
    const uint8_t *codes;
    uint8_t bits;  /* of one code: 4, 2 or 1 */
    uint8_t shift; /* left shift of a code on the int8 grid, 0 to 7 */
} tflnest_field;

/* The filter of an operator at one level, with what belongs to that level.
 *
 * A weight is the int8 in `values`, or, where `values` is NULL, the sum of `code << shift` over all fields plus
 * `offset`, taken modulo 256 as int8. Where `disjoint` is set (the `bucket` scheme) no two fields share a bit and
 * the offset does not carry: the sum of the fields is then their bitwise OR, and adding the offset is an
 * exclusive OR with it.
 */
typedef struct {
    const int8_t *values;        /* flat weights in tensor order, or NULL */
    const tflnest_field *fields; /* most significant first; NULL where `values` is given */
    uint8_t field_count;         /* 1 to 8; 0 where `values` is given */
    uint8_t offset;              /* added to every weight, modulo 256 */
    uint8_t disjoint;            /* 1: sums are bitwise, see above */
    uint8_t per_channel;         /* 1: one multiplier and shift per channel; 0: one for all */
    const int32_t *bias;         /* one per output channel, or NULL */
    const int32_t *multipliers;  /* Q0.31, 0 to 2^31 - 1 */
    const int8_t *shifts;        /* -31 to 30, positive = left */
} tflnest_filter;

/* Zero points and activation range of an operator that requantizes. */
typedef struct {
    int32_t input_zero_point;  /* -128 to 127 */
    int32_t output_zero_point; /* -128 to 127 */
    int32_t activation_min;    /* -128 to activation_max */
    int32_t activation_max;    /* activation_min to 127 */
} tflnest_requantization;

#ifdef __cplusplus
}
#endif

#endif
