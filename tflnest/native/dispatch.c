/* Calls of kernels through arrays of pointers, for engines on desktops.
 *
 * Written by tflnest.native.dispatch.
 */
#include <stddef.h>
#include "tflnest/tflnest_add.h"
#include "tflnest/tflnest_conv.h"
#include "tflnest/tflnest_copy.h"
#include "tflnest/tflnest_depthwise_conv.h"
#include "tflnest/tflnest_extremum.h"
#include "tflnest/tflnest_fully_connected.h"
#include "tflnest/tflnest_l2_normalization.h"
#include "tflnest/tflnest_lookup.h"
#include "tflnest/tflnest_mul.h"
#include "tflnest/tflnest_narrow.h"
#include "tflnest/tflnest_pool.h"
#include "tflnest/tflnest_quantize.h"
#include "tflnest/tflnest_reduce.h"
#include "tflnest/tflnest_resize.h"
#include "tflnest/tflnest_softmax.h"
#include "tflnest/tflnest_transpose_conv.h"

void call_tflnest_add_s8(void *const *a)
{
    tflnest_add_s8(a[0], a[1], a[2], a[3]);
}

void call_tflnest_arg_max_s8(void *const *a)
{
    tflnest_arg_max_s8(a[0], a[1], a[2]);
}

void call_tflnest_average_pool_s8(void *const *a)
{
    tflnest_average_pool_s8(a[0], a[1], a[2]);
}

void call_tflnest_conv_s8(void *const *a)
{
    tflnest_conv_s8(a[0], a[1], a[2], a[3], a[4]);
}

void call_tflnest_conv_unbuffered_s8(void *const *a)
{
    tflnest_conv_unbuffered_s8(a[0], a[1], a[2], a[3]);
}

void call_tflnest_copy_bytes(void *const *a)
{
    tflnest_copy_bytes(a[0], a[1], a[2]);
}

void call_tflnest_depthwise_conv_s8(void *const *a)
{
    tflnest_depthwise_conv_s8(a[0], a[1], a[2], a[3], a[4]);
}

void call_tflnest_depthwise_conv_unbuffered_s8(void *const *a)
{
    tflnest_depthwise_conv_unbuffered_s8(a[0], a[1], a[2], a[3]);
}

void call_tflnest_extremum_s8(void *const *a)
{
    tflnest_extremum_s8(a[0], a[1], a[2], a[3]);
}

void call_tflnest_fully_connected_s8(void *const *a)
{
    tflnest_fully_connected_s8(a[0], a[1], a[2], a[3], a[4]);
}

void call_tflnest_fully_connected_unbuffered_s8(void *const *a)
{
    tflnest_fully_connected_unbuffered_s8(a[0], a[1], a[2], a[3]);
}

void call_tflnest_l2_normalization_s8(void *const *a)
{
    tflnest_l2_normalization_s8(a[0], a[1], a[2]);
}

void call_tflnest_lookup_s8(void *const *a)
{
    tflnest_lookup_s8(a[0], a[1], a[2]);
}

void call_tflnest_lookup_wide_s16(void *const *a)
{
    tflnest_lookup_wide_s16(a[0], a[1], a[2]);
}

void call_tflnest_lookup_wide_s32(void *const *a)
{
    tflnest_lookup_wide_s32(a[0], a[1], a[2]);
}

void call_tflnest_max_pool_s8(void *const *a)
{
    tflnest_max_pool_s8(a[0], a[1], a[2]);
}

void call_tflnest_mul_s8(void *const *a)
{
    tflnest_mul_s8(a[0], a[1], a[2], a[3]);
}

void call_tflnest_narrow_s8(void *const *a)
{
    tflnest_narrow_s8(a[0], a[1], a[2]);
}

void call_tflnest_prelu_s8(void *const *a)
{
    tflnest_prelu_s8(a[0], a[1], a[2], a[3]);
}

void call_tflnest_quantize_s16(void *const *a)
{
    tflnest_quantize_s16(a[0], a[1], a[2]);
}

void call_tflnest_quantize_s32(void *const *a)
{
    tflnest_quantize_s32(a[0], a[1], a[2]);
}

void call_tflnest_resize_bilinear_s8(void *const *a)
{
    tflnest_resize_bilinear_s8(a[0], a[1], a[2]);
}

void call_tflnest_resize_nearest_bytes(void *const *a)
{
    tflnest_resize_nearest_bytes(a[0], a[1], a[2]);
}

void call_tflnest_softmax_s16(void *const *a)
{
    tflnest_softmax_s16(a[0], a[1], a[2]);
}

void call_tflnest_softmax_s8(void *const *a)
{
    tflnest_softmax_s8(a[0], a[1], a[2]);
}

void call_tflnest_sum_s8(void *const *a)
{
    tflnest_sum_s8(a[0], a[1], a[2]);
}

void call_tflnest_transpose_conv_s8(void *const *a)
{
    tflnest_transpose_conv_s8(a[0], a[1], a[2]);
}

#ifndef TFLNEST_KEY
#define TFLNEST_KEY ""
#endif

/* What the runtime was built from. */
const char *tflnest_key(void)
{
    return TFLNEST_KEY;
}

typedef struct {
    void (*call)(void *const *arguments);
    void *const *arguments;
} tflnest_step;

void tflnest_run(const tflnest_step *steps, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        steps[i].call(steps[i].arguments);
    }
}
