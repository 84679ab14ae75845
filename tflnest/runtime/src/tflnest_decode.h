/* Weights from packed planes. */
#ifndef TFLNEST_DECODE_H
#define TFLNEST_DECODE_H

#include "tflnest/tflnest_types.h"

/* Codes that are packed together. */
#define TFLNEST_GROUP 16u

/* Whether the kernels can read a filter of so many output channels. */
tflnest_status tflnest_filter_check(const tflnest_filter *filter, uint32_t channels);

/* Weights first to first + count - 1 of a filter, in tensor order.
 *
 * weights Filled, `count` bytes, any alignment.
 */
void tflnest_decode(const tflnest_filter *filter, uint32_t first, uint32_t count, int8_t *weights);

#endif
