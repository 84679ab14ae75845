/* Filter scales from multipliers and shifts (FORMAT.md, section 7.3). */
#ifndef TFLNEST_SCALES_H
#define TFLNEST_SCALES_H

#include <stdint.h>

/* The filter scale that gives a multiplier and a shift; 0 where no float does.
 *
 * input, output Scales of the activations, positive and finite.
 * multiplier    Q0.31, 0 to 2^31 - 1.
 * shift         -31 to 30, positive = left.
 */
float tflnest_recover_scale(float input, float output, int32_t multiplier, int32_t shift);

#endif
