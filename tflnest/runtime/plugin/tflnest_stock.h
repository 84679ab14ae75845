/* The mode `speed`: nested operators become the stock operators that they are at a level. */
#ifndef TFLNEST_STOCK_H
#define TFLNEST_STOCK_H

#include "tflnest_operator.h"

/* Turn a node into a stock operator whose filter and bias are constants.
 *
 * The runtime's delegates then take it as if the file held it so. What no delegate takes is computed by the kernels of
 * this runtime, from the same expanded weights.
 *
 * operator Was read from the node; its weights are expanded into memory that it owns.
 *
 * Returns NULL, or what is wrong in words; the node is then as it was.
 */
const char *tflnest_stock_convert(tflnest_operator *operator, tfl_context *context, tfl_node *node,
                                  tfl_registration *registration);

#endif
