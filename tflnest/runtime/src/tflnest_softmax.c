#include "tflnest/tflnest_softmax.h"

#include "tflnest_fixedpoint.h"
#include "tflnest_ranges.h"

/* Integer bits of the sum of exponentials. */
#define SUM_BITS 12

/* The exponentials of a row and the reciprocal of their sum. */
typedef struct {
    int32_t largest;    /* value of the row */
    int32_t reciprocal; /* mantissa, Q0.31 */
    int32_t headroom;   /* leading zero bits of the sum */
} softmax_row;

tflnest_status tflnest_softmax_check(const tflnest_softmax_params *params)
{
    if (params->rows < 1 || !tflnest_is_between(params->depth, 1, TFLNEST_SOFTMAX_MAX_DEPTH) ||
        !tflnest_is_between(params->table_size, 1, 256) || params->exponentials == NULL ||
        params->exponentials[0] != INT32_MAX) {
        return TFLNEST_ERROR_ARGUMENT;
    }
    for (int32_t i = 0; i < params->table_size; i++) {
        if (params->exponentials[i] < 0) {
            return TFLNEST_ERROR_ARGUMENT;
        }
    }
    return TFLNEST_OK;
}

static int32_t exponential(const tflnest_softmax_params *params, int32_t difference)
{
    return difference < params->table_size ? params->exponentials[difference] : 0;
}

static softmax_row measure(const tflnest_softmax_params *params, const int8_t *input)
{
    softmax_row row = {INT8_MIN, 0, 0};
    uint32_t sum = 0;
    for (int32_t i = 0; i < params->depth; i++) {
        row.largest = tflnest_max(row.largest, input[i]);
    }
    for (int32_t i = 0; i < params->depth; i++) {
        const uint32_t value = (uint32_t)exponential(params, row.largest - input[i]);
        sum += (value + (1u << (SUM_BITS - 1))) >> SUM_BITS;
    }
    row.headroom = tflnest_leading_zeros(sum);
    row.reciprocal = tflnest_one_over_one_plus((int32_t)((sum << row.headroom) - UINT32_C(0x80000000)));
    return row;
}

/* One output as an unsigned value of so many bits, limited to its type. */
static int32_t divided(const tflnest_softmax_params *params, const softmax_row *row, int32_t value, int32_t bits)
{
    const int32_t high =
        tflnest_doubling_high_multiply(exponential(params, row->largest - value), row->reciprocal);
    const int32_t shift = SUM_BITS - row->headroom + 31 - bits;
    const uint32_t rounded = shift > 31 ? 0u : ((uint32_t)high + (UINT32_C(1) << shift >> 1)) >> shift;
    return tflnest_min((int32_t)rounded, (1 << bits) - 1);
}

void tflnest_softmax_s8(const tflnest_softmax_params *params, const int8_t *input, int8_t *output)
{
    for (int32_t rows = params->rows; rows > 0; rows--) {
        const softmax_row row = measure(params, input);
        for (int32_t i = 0; i < params->depth; i++) {
            output[i] = (int8_t)(divided(params, &row, input[i], 8) + INT8_MIN);
        }
        input += params->depth;
        output += params->depth;
    }
}

void tflnest_softmax_s16(const tflnest_softmax_params *params, const int8_t *input, int16_t *output)
{
    for (int32_t rows = params->rows; rows > 0; rows--) {
        const softmax_row row = measure(params, input);
        for (int32_t i = 0; i < params->depth; i++) {
            output[i] = (int16_t)(divided(params, &row, input[i], 16) + INT16_MIN);
        }
        input += params->depth;
        output += params->depth;
    }
}
