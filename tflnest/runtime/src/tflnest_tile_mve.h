/* Operands of the MVE variant, and its requantization of four channels. */
#ifndef TFLNEST_TILE_MVE_H
#define TFLNEST_TILE_MVE_H

#include <stdint.h>

#include "tflnest_variant.h"

#if TFLNEST_VARIANT == TFLNEST_VARIANT_MVE

#include <arm_mve.h>

typedef int8_t tflnest_operand;

#define TFLNEST_CHANNEL_GROUP 4u

/* Rows of weights and pixels are multiplied by vectors of 16, so only whole vectors are read in place. */
#define TFLNEST_INPUT_IS_BLOCK(depth) ((depth) % 16 == 0)

/* The parameters of four channels, which take the place of four `tflnest_channel`. */
typedef struct {
    int32_t bias[4];
    int32_t left[4]; /* left shift, 0 or more */
    int32_t multiplier[4];
    int32_t right[4]; /* right shift, 0 or less */
} tflnest_mve_channels;

/* What an accumulator is brought to, before the zero point of the output is added. */
static inline int32x4_t tflnest_mve_requantize(int32x4_t acc, int32x4_t left, int32x4_t multiplier, int32x4_t right)
{
    const int32x4_t high = vqrdmulhq_s32(vshlq_s32(acc, left), multiplier);
    /* The rounding shift takes ties up; a negative number less one goes the other way. */
    const int32x4_t less = vshrq_n_s32(vandq_s32(high, right), 31);
    return vrshlq_s32(vqaddq_s32(high, less), right);
}

#endif

#endif
