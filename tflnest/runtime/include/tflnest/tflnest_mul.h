/* MUL and PRELU, int8. */
#ifndef TFLNEST_MUL_H
#define TFLNEST_MUL_H

#include "tflnest/tflnest_loops.h"
#include "tflnest/tflnest_types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What is fixed of a product: the output is
 * (first - first_zero_point) * (second - second_zero_point) * multiplier / 2^31 * 2^shift + output_zero_point. */
typedef struct {
    tflnest_broadcast broadcast;
    int32_t first_zero_point;  /* -128 to 127 */
    int32_t second_zero_point; /* -128 to 127 */
    int32_t multiplier;        /* Q0.31, 0 to 2^31 - 1 */
    int32_t shift;             /* -31 to 30, positive = left; a left shift wraps at 32 bits */
    int32_t output_zero_point; /* -128 to 127 */
    int32_t activation_min;    /* -128 to activation_max */
    int32_t activation_max;    /* activation_min to 127 */
} tflnest_mul_params;

/* Check parameters once, before `tflnest_mul_s8` is called with them. */
tflnest_status tflnest_mul_check(const tflnest_mul_params *params);

/* Multiply.
 *
 * first, second  int8, walked over as params->broadcast says.
 * output         int8; may be an input that has the output's shape. */
void tflnest_mul_s8(const tflnest_mul_params *params, const int8_t *first, const int8_t *second, int8_t *output);

/* What is fixed of a PRELU. The first input is x, the second alpha: where x reaches its zero point, the output
 * is x brought to the output's scale, elsewhere the product of both. */
typedef struct {
    tflnest_broadcast broadcast;
    int32_t first_zero_point;    /* -128 to 127 */
    int32_t second_zero_point;   /* -128 to 127 */
    int32_t identity_multiplier; /* Q0.31, of x at and above its zero point */
    int32_t identity_shift;      /* -31 to 30 */
    int32_t slope_multiplier;    /* Q0.31, of the product below */
    int32_t slope_shift;         /* -31 to 30 */
    int32_t output_zero_point;   /* -128 to 127 */
} tflnest_prelu_params;

/* Check parameters once, before `tflnest_prelu_s8` is called with them. */
tflnest_status tflnest_prelu_check(const tflnest_prelu_params *params);

/* Apply the PRELU.
 *
 * first, second  int8, walked over as params->broadcast says.
 * output         int8; may be an input that has the output's shape. */
void tflnest_prelu_s8(const tflnest_prelu_params *params, const int8_t *first, const int8_t *second,
                      int8_t *output);

#ifdef __cplusplus
}
#endif

#endif
