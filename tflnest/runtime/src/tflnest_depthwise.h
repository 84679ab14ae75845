/* Depthwise convolution by table.
 *
 * The addresses of all taps of a window stand in a table, and what lies outside the image is read from a blank
 * pixel. So every window is computed by one loop without conditions, and the zero point of the input goes into
 * the bias. A table holds addresses, or, for windows inside the image, distances from the first tap.
 */
#ifndef TFLNEST_DEPTHWISE_H
#define TFLNEST_DEPTHWISE_H

#include "tflnest_tile.h"
#include "tflnest_variant.h"

/* Windows of up to so many taps are computed by table. */
#define TFLNEST_TABLE_TAPS 25

/* One tile of a depthwise convolution by table. */
typedef struct {
    tflnest_tile tile;     /* parameters of the channels; its weights are not used */
    const int8_t *weights; /* of the tile's first channel, tap by tap */
    uint32_t pitch;        /* from the weights of one tap to those of the next */
    uint32_t taps;
    void *room;            /* `tflnest_depthwise_room` bytes for weights */
    uint32_t channels;     /* of the operator: from one pixel of input or output to the next */
} tflnest_depthwise;

/* Some windows side by side. */
typedef struct {
    const uintptr_t *table;
    uintptr_t base; /* added to the table's entries for the first window */
    uintptr_t step; /* from the base of a window to that of the next */
    uint32_t count;
    int8_t *output; /* of the first window, the tile's first channel */
} tflnest_windows;

/* Entries of a table: the extra ones are filled with that of the first tap. */
uint32_t tflnest_depthwise_entries(uint32_t taps);

/* Bytes of scratch for the weights of a tile; a multiple of 8. */
uint32_t tflnest_depthwise_room(uint32_t channels, uint32_t taps);

/* Output channels of the next tile, of at most `channels`. */
uint32_t tflnest_depthwise_tile(uint32_t channels);

/* Decode the weights of channels first to first + channels - 1. */
void tflnest_depthwise_decode(tflnest_depthwise *work, const tflnest_filter *filter, uint32_t first,
                              uint32_t channels);

/* Compute windows. */
void tflnest_depthwise_run(const tflnest_depthwise *work, const tflnest_windows *windows);

#endif
