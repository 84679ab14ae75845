/* ADD and SUB, int8. */
#ifndef TFLNEST_ADD_H
#define TFLNEST_ADD_H

#include "tflnest/tflnest_loops.h"
#include "tflnest/tflnest_types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What is fixed of a sum or difference.
 *
 * Both inputs are brought to twice the larger of their scales, at 20 bits of fraction. For the input that has
 * the larger scale, which comes first here, that is exactly a product with half of 2^20. With
 *     a = (first - first_zero_point) * first_factor
 *     b = ((second - second_zero_point) << second_left) * second_multiplier / 2^31 / 2^second_right
 * the output is (a + second_sign * b) * output_multiplier / 2^31 / 2^output_right + output_zero_point, clamped. */
typedef struct {
    tflnest_broadcast broadcast;
    int32_t first_zero_point;   /* -128 to 127 */
    int32_t first_factor;       /* 2^19, or -2^19 where the first input is subtracted */
    int32_t second_zero_point;  /* -128 to 127 */
    int32_t second_left;        /* 20 or 21 */
    int32_t second_multiplier;  /* Q0.31, 0 to 2^31 - 1; up to 2^30 where second_left is 21 */
    int32_t second_right;       /* 1 to 31 */
    int32_t second_sign;        /* 1, or -1 where the second input is subtracted */
    int32_t output_multiplier;  /* Q0.31, 0 to 2^31 - 1 */
    int32_t output_right;       /* 0 to 31; fast from 1 to 22 */
    int32_t output_zero_point;  /* -128 to 127 */
    int32_t activation_min;     /* -128 to activation_max */
    int32_t activation_max;     /* activation_min to 127 */
} tflnest_add_params;

/* Check parameters once, before `tflnest_add_s8` is called with them. */
tflnest_status tflnest_add_check(const tflnest_add_params *params);

/* Add or subtract.
 *
 * first, second  int8, walked over as params->broadcast says.
 * output         int8; may be an input that has the output's shape. */
void tflnest_add_s8(const tflnest_add_params *params, const int8_t *first, const int8_t *second, int8_t *output);

#ifdef __cplusplus
}
#endif

#endif
