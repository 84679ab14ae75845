#include "tflnest_fully_connected_narrow.h"

#include "tflnest_decode.h"
#include "tflnest_tile.h"

#if TFLNEST_VARIANT == TFLNEST_VARIANT_NARROW

/* Weights that are decoded at a time; a row of any length takes no more scratch than this. */
#define CHUNK 256u

/* Products, and weights alone, of one row so far. */
typedef struct {
    int32_t products;
    int32_t weights;
} sums;

uint32_t tflnest_fully_connected_narrow_bytes(const tflnest_fully_connected_params *params)
{
    const uint32_t inputs = ((uint32_t)params->inputs + 7u) / 8u * 8u;
    return inputs < CHUNK ? inputs : CHUNK;
}

static sums multiply(sums so_far, const int8_t *weights, const int8_t *input, uint32_t count)
{
    int32_t products = so_far.products, total = so_far.weights;
    for (; count >= 4; count -= 4) {
        const int32_t first = weights[0], second = weights[1], third = weights[2], fourth = weights[3];
        products += first * input[0];
        total += first;
        products += second * input[1];
        total += second;
        products += third * input[2];
        total += third;
        products += fourth * input[3];
        total += fourth;
        weights += 4;
        input += 4;
    }
    for (; count > 0; count--) {
        products += *weights * *input++;
        total += *weights++;
    }
    return (sums){products, total};
}

/* The accumulator of a row whose weights begin at `first`. */
static int32_t row(const tflnest_filter *filter, uint32_t first, const int8_t *input, uint32_t inputs,
                   int32_t zero_point, int8_t *chunk)
{
    sums found = {0, 0};
    if (filter->values != NULL) {
        found = multiply(found, filter->values + first, input, inputs);
        inputs = 0;
    }
    while (inputs > 0) {
        /* All but the first piece start with a group. */
        const uint32_t whole = CHUNK - first % TFLNEST_GROUP;
        const uint32_t count = whole < inputs ? whole : inputs;
        tflnest_decode(filter, first, count, chunk);
        found = multiply(found, chunk, input, count);
        first += count;
        input += count;
        inputs -= count;
    }
    return found.products - zero_point * found.weights;
}

void tflnest_fully_connected_narrow_run(const tflnest_fully_connected_params *params, const tflnest_filter *filter,
                                        const int8_t *input, int8_t *output, void *scratch)
{
    const uint32_t inputs = (uint32_t)params->inputs;
    tflnest_channel parameters;
    tflnest_tile tile = {
        .parameters = &parameters, .products = inputs, .requantization = &params->requantization};
    for (uint32_t i = 0; i < (uint32_t)params->outputs; i++) {
        const int32_t acc = row(filter, i * inputs, input, inputs, params->requantization.input_zero_point, scratch);
        tflnest_tile_set_channel(&tile, 0, filter, i);
        output[i] = tflnest_tile_finish(&tile, 0, tflnest_add_wrapping(parameters.bias, acc));
    }
}

#endif
