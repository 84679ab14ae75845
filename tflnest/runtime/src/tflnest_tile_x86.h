/* Operands of the x86 variant. */
#ifndef TFLNEST_TILE_X86_H
#define TFLNEST_TILE_X86_H

#include <stdint.h>

#include "tflnest_variant.h"

#if TFLNEST_VARIANT == TFLNEST_VARIANT_X86
#if defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#define TFLNEST_X86_VNNI 1
typedef uint8_t tflnest_operand; /* pixels plus 128; weights are the same bytes, signed */
#else
#define TFLNEST_X86_VNNI 0
typedef int16_t tflnest_operand;
#endif
#define TFLNEST_CHANNEL_GROUP 2u
#define TFLNEST_INPUT_IS_BLOCK(depth) 0
#define TFLNEST_BLOCK_PIXELS 24u
#endif

#endif
