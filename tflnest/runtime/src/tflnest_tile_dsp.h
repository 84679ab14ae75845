/* Operands of the DSP variant. */
#ifndef TFLNEST_TILE_DSP_H
#define TFLNEST_TILE_DSP_H

#include <stdint.h>

#include "tflnest_variant.h"

#if TFLNEST_VARIANT == TFLNEST_VARIANT_DSP
typedef int16_t tflnest_operand;
#define TFLNEST_CHANNEL_GROUP 2u
#define TFLNEST_INPUT_IS_BLOCK(depth) 0
#endif

#endif
