/* Weights from any fields that share no bits. */
#ifndef TFLNEST_DIGITS_H
#define TFLNEST_DIGITS_H

#include "tflnest/tflnest_types.h"

/* Decode whole groups of a filter whose fields share no bits.
 *
 * start   The first group.
 * count   Groups.
 * weights Filled, 16 bytes per group, any alignment.
 */
void tflnest_digits_decode(const tflnest_filter *filter, uint32_t start, uint32_t count, int8_t *weights);

#endif
