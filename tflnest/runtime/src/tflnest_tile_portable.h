/* Operands of the portable variants. */
#ifndef TFLNEST_TILE_PORTABLE_H
#define TFLNEST_TILE_PORTABLE_H

#include <stdint.h>

#include "tflnest_variant.h"

#if TFLNEST_VARIANT == TFLNEST_VARIANT_NARROW
typedef int8_t tflnest_operand;
#define TFLNEST_CHANNEL_GROUP 2u
#define TFLNEST_INPUT_IS_BLOCK(depth) 1 /* whether pixels that lie side by side are a block as they are */
#elif TFLNEST_VARIANT == TFLNEST_VARIANT_WIDE
typedef int16_t tflnest_operand;
#define TFLNEST_CHANNEL_GROUP 2u
#define TFLNEST_INPUT_IS_BLOCK(depth) 0
#endif

#endif
