/* MAXIMUM and MINIMUM of the stored values, int8. */
#ifndef TFLNEST_EXTREMUM_H
#define TFLNEST_EXTREMUM_H

#include "tflnest/tflnest_loops.h"
#include "tflnest/tflnest_types.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What is fixed of an extremum. */
typedef struct {
    tflnest_broadcast broadcast;
    int32_t largest; /* 1: MAXIMUM, 0: MINIMUM */
} tflnest_extremum_params;

/* Check parameters once, before `tflnest_extremum_s8` is called with them. */
tflnest_status tflnest_extremum_check(const tflnest_extremum_params *params);

/* The larger or the smaller of two values.
 *
 * first, second  int8, walked over as params->broadcast says.
 * output         int8; may be an input that has the output's shape. */
void tflnest_extremum_s8(const tflnest_extremum_params *params, const int8_t *first, const int8_t *second,
                         int8_t *output);

#ifdef __cplusplus
}
#endif

#endif
