/* Which variant of the kernels is compiled, and what follows from it.
 *
 * The narrow portable form keeps decoded weights and pixels as int8: it needs the least memory and suits cores
 * without SIMD. The wide forms keep them as int16 with the zero point taken off: their multiplications take
 * pairs of int16 (SMLAD, PMADDWD).
 */
#ifndef TFLNEST_VARIANT_H
#define TFLNEST_VARIANT_H

#include <stdint.h>

#define TFLNEST_VARIANT_NARROW 0 /* portable C, int8 operands */
#define TFLNEST_VARIANT_WIDE 1   /* portable C, int16 operands */

/* Define TFLNEST_VARIANT to choose one, or TFLNEST_PORTABLE to keep to portable C. */
#ifndef TFLNEST_VARIANT
#if defined(__x86_64__) || defined(__aarch64__)
#define TFLNEST_VARIANT TFLNEST_VARIANT_WIDE
#else
#define TFLNEST_VARIANT TFLNEST_VARIANT_NARROW
#endif
#endif

#if TFLNEST_VARIANT == TFLNEST_VARIANT_NARROW
typedef int8_t tflnest_operand;
#define TFLNEST_OPERANDS_CENTRED 0 /* whether operands have the zero point taken off */
#else
typedef int16_t tflnest_operand;
#define TFLNEST_OPERANDS_CENTRED 1
#endif

/* Operands of a row of weights or of a pixel are filled up to a multiple of this. */
#define TFLNEST_OPERAND_GROUP 1

/* Pixels that are gathered before they are multiplied. */
#define TFLNEST_PIXEL_BLOCK 2

#endif
