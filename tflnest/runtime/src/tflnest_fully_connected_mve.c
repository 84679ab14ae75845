/* Blocks of 64 weights, four groups of codes, are decoded at a time: word t of all four groups lands in one vector.
 * Activations are put into the same order once. With u = weight + 128 (less the middle of a bucket) and
 * v = activation + 128, both unsigned,
 *
 *   sum of weight * (activation - zero point) = sum of u * v - o * sum of v - z * sum of u + inputs * o * z
 *
 * where o is what the offset of the filter takes off and z = zero point + 128. The third term needs sums of rows;
 * behind a RELU z is mostly 0, and they are left out.
 */
#include "tflnest_fully_connected_mve.h"

#if TFLNEST_VARIANT == TFLNEST_VARIANT_MVE

#include <string.h>

#include "tflnest_arithmetic.h"
#include "tflnest_decode.h"
#include "tflnest_fields.h"
#include "tflnest_tile.h"

#define BLOCK 64u
#define GROUPS (BLOCK / TFLNEST_GROUP)

/* Rows that are multiplied before they are requantized; a multiple of 4. */
#define ROWS 12u

/* What multiplies rows; it knows where the members lie. The pointers are moved on. */
typedef struct {
    const uint8_t *operands;
    const void *codes[3];
    int32_t *sums;           /* filled: one per row */
    uint32_t *sums_of_codes; /* filled where they are needed */
    uint32_t blocks;         /* per row */
    uint32_t count;          /* of rows */
} rows;

typedef void multiply_function(rows *);

/* ------------------------------------------------------------------------------------- rows of products
 *
 * r0 sum, r1 operands, r2 sum of codes, r3 to r5 codes, r6 and r7 where the sums go, r8 blocks, r9 operands, r10 rows. q0 and q1 codes of 4 bits, q2 and q3 the lower ones, q4 and
 * q5 free, q6 a mask.
 */

#define LOAD_FOURS                          \
    "    vld20.32 {q0, q1}, [r3]\n"         \
    "    vld21.32 {q0, q1}, [r3]!\n"

/* The upper bits of the units of q2 and q3 into q2, the lower ones into q3. */
#define INTERLEAVE_PAIRS                    \
    "    vshr.u8 q4, q3, #2\n"              \
    "    veor q4, q4, q2\n"                 \
    "    vand q4, q4, q6\n"                 \
    "    veor q2, q2, q4\n"                 \
    "    vshl.i8 q4, q4, #2\n"              \
    "    veor q3, q3, q4\n"

#define MULTIPLY_VECTOR(weights, sum)              \
    "    vldrb.8 q5, [r1], #16\n"           \
    "    vmladava.u8 r0, " weights ", q5\n" \
    sum(weights)

#define WITH_SUM(weights) "    vaddva.u8 r2, " weights "\n"
#define WITHOUT_SUM(weights)

/* Nibbles of `high` and `low` become two vectors of bytes. */
#define MULTIPLY_NIBBLES(high, low, sum)    \
    "    vmov q4, " high "\n"               \
    "    vsri.8 q4, " low ", #4\n"          \
    "    vsli.8 " low ", " high ", #4\n"    \
    MULTIPLY_VECTOR("q4", sum) MULTIPLY_VECTOR(low, sum)

#define BLOCK_4_2_2(sum)                    \
    LOAD_FOURS                              \
    "    vldrw.32 q2, [r4], #16\n"          \
    "    vldrw.32 q3, [r5], #16\n"          \
    INTERLEAVE_PAIRS MULTIPLY_NIBBLES("q0", "q2", sum) MULTIPLY_NIBBLES("q1", "q3", sum)

#define BLOCK_4_2(sum)                      \
    LOAD_FOURS                              \
    "    vldrw.32 q2, [r4], #16\n"          \
    "    vshl.i8 q3, q2, #2\n"              \
    "    vbic q2, q2, q6\n"                 \
    "    vbic q3, q3, q6\n"                 \
    MULTIPLY_NIBBLES("q0", "q2", sum) MULTIPLY_NIBBLES("q1", "q3", sum)

#define BLOCK_4(sum)                        \
    LOAD_FOURS                              \
    "    vshl.i8 q2, q0, #4\n"              \
    "    vbic q0, q0, q6\n"                 \
    MULTIPLY_VECTOR("q0", sum) MULTIPLY_VECTOR("q2", sum) \
    "    vshl.i8 q3, q1, #4\n"              \
    "    vbic q1, q1, q6\n"                 \
    MULTIPLY_VECTOR("q1", sum) MULTIPLY_VECTOR("q3", sum)

#define BLOCK_4_4(sum)                      \
    LOAD_FOURS                              \
    "    vld20.32 {q2, q3}, [r4]\n"         \
    "    vld21.32 {q2, q3}, [r4]!\n"        \
    MULTIPLY_NIBBLES("q0", "q2", sum) MULTIPLY_NIBBLES("q1", "q3", sum)

/* Weights as they are; the sum is that of the weights plus 128. */
#define BLOCK_FLAT(sum)                     \
    "    vld40.32 {q0, q1, q2, q3}, [r3]\n" \
    "    vld41.32 {q0, q1, q2, q3}, [r3]\n" \
    "    vld42.32 {q0, q1, q2, q3}, [r3]\n" \
    "    vld43.32 {q0, q1, q2, q3}, [r3]!\n" \
    "    veor q0, q0, q6\n"                 \
    "    veor q1, q1, q6\n"                 \
    "    veor q2, q2, q6\n"                 \
    "    veor q3, q3, q6\n"                 \
    MULTIPLY_VECTOR("q0", sum) MULTIPLY_VECTOR("q1", sum) MULTIPLY_VECTOR("q2", sum) MULTIPLY_VECTOR("q3", sum)

#define MULTIPLY_ROWS(name, block, mask, store)                              \
    __attribute__((naked, noinline)) static void name(rows *work __attribute__((unused)))            \
    {                                                                        \
        __asm volatile(                                                      \
            "    push {r0, r4-r10, lr}\n"                                   \
            "    sub sp, #4\n"                                              \
            "    vpush {d8-d13}\n"                                          \
            "    vmov.i8 q6, #" mask "\n"                                   \
            "    ldmia.w r0, {r1, r3-r8, r10}\n"                            \
            "    mov r9, r1\n"                                              \
            "1:\n"                                                          \
            "    mov r1, r9\n"                                              \
            "    mov r0, #0\n"                                              \
            "    mov r2, #0\n"                                              \
            "    dls lr, r8\n"                                              \
            "2:\n" block                                                    \
            "    le lr, 2b\n"                                               \
            "    str r0, [r6], #4\n" store                                  \
            "    subs r10, #1\n"                                            \
            "    bne 1b\n"                                                  \
            "    vpop {d8-d13}\n"                                           \
            "    add sp, #4\n"                                              \
            "    ldr r0, [sp]\n"                                            \
            "    strd r3, r4, [r0, #4]\n"                                   \
            "    str r5, [r0, #12]\n"                                       \
            "    pop {r0, r4-r10, pc}\n" ::: "memory");                     \
    }

#define MULTIPLY(name, block, mask) MULTIPLY_ROWS(name, block(WITHOUT_SUM), mask, "")
#define MULTIPLY_AND_SUM(name, block, mask) MULTIPLY_ROWS(name, block(WITH_SUM), mask, "    str r2, [r7], #4\n")

MULTIPLY(multiply_4, BLOCK_4, "0x0F")
MULTIPLY(multiply_4_2, BLOCK_4_2, "0x33")
MULTIPLY(multiply_4_2_2, BLOCK_4_2_2, "0x33")
MULTIPLY(multiply_4_4, BLOCK_4_4, "0x00")
MULTIPLY(multiply_flat, BLOCK_FLAT, "0x80")
MULTIPLY_AND_SUM(multiply_4_and_sum, BLOCK_4, "0x0F")
MULTIPLY_AND_SUM(multiply_4_2_and_sum, BLOCK_4_2, "0x33")
MULTIPLY_AND_SUM(multiply_4_2_2_and_sum, BLOCK_4_2_2, "0x33")
MULTIPLY_AND_SUM(multiply_4_4_and_sum, BLOCK_4_4, "0x00")
MULTIPLY_AND_SUM(multiply_flat_and_sum, BLOCK_FLAT, "0x80")

/* --------------------------------------------------------------------------------------------- all rows */

/* Bytes of decoded weights where there is no function for their fields. */
#define CHUNK 64u

/* A fully connected operator on one batch. */
typedef struct {
    const tflnest_fully_connected_params *params;
    const tflnest_filter *filter;
    const int8_t *input;
    multiply_function *multiply; /* NULL where weights are decoded to int8 first */
    rows next;
    int32_t zero; /* zero point of the input, plus 128 */
    int32_t addend;
    int8_t chunk[CHUNK];
} dense;

uint32_t tflnest_fully_connected_mve_bytes(const tflnest_fully_connected_params *params)
{
    return params->inputs % (int32_t)BLOCK == 0 ? (uint32_t)params->inputs : 0;
}

/* Order activations like decoded weights; returns their sum. */
static int32_t load_operands(const int8_t *input, uint32_t count, uint8_t *operands)
{
    const uint8x16_t sign = vdupq_n_u8(0x80);
    uint32_t sum = 0;
    for (; count > 0; count -= BLOCK) {
        const uint32x4x4_t words = vld4q_u32((const void *)input);
        for (uint32_t i = 0; i < 4; i++) {
            const uint8x16_t bytes = veorq_u8(vreinterpretq_u8_u32(words.val[i]), sign);
            vst1q_u8(operands, bytes);
            sum = vaddvaq_u8(sum, bytes);
            operands += 16;
        }
        input += BLOCK;
    }
    return (int32_t)sum;
}

/* Choose how rows are multiplied, and what is added to all of them. */
__attribute__((noinline)) static void prepare(dense *work, void *scratch)
{
    static multiply_function *const packed[2][5] = {
        {NULL, multiply_4, multiply_4_2, multiply_4_2_2, multiply_4_4},
        {NULL, multiply_4_and_sum, multiply_4_2_and_sum, multiply_4_2_2_and_sum, multiply_4_4_and_sum},
    };
    const tflnest_filter *filter = work->filter;
    const uint32_t inputs = (uint32_t)work->params->inputs;
    int32_t offset = 128;
    if (inputs % BLOCK != 0 || work->params->tile_channels == 0) {
        return;
    }
    if (filter->values != NULL) {
        work->multiply = work->zero != 0 ? multiply_flat_and_sum : multiply_flat;
        work->next.codes[0] = filter->values;
    } else {
        work->multiply = packed[work->zero != 0][tflnest_fields_of(filter)];
        offset = 256 - filter->offset;
        for (uint32_t i = 0; i < filter->field_count && i < 3; i++) {
            work->next.codes[i] = filter->fields[i].codes;
        }
    }
    if (work->multiply != NULL) {
        const int32_t sum = load_operands(work->input, inputs, scratch);
        const int32_t corner = tflnest_multiply_wrapping((int32_t)inputs, offset * work->zero);
        work->addend = tflnest_add_wrapping(corner, -offset * sum);
        work->next.operands = scratch;
        work->next.blocks = inputs / BLOCK;
    }
}

/* The sum of a part of a row, decoded. */
static int32_t multiply_part(const dense *work, const int8_t *weights, const int8_t *input, uint32_t count)
{
    int32_t sum = 0, sum_of_weights = 0;
    for (int32_t left = (int32_t)count; left > 0; left -= 16) {
        const mve_pred16_t active = vctp8q((uint32_t)left);
        const int8x16_t w = vldrbq_z_s8(weights, active);
        sum = vmladavaq_s8(sum, w, vldrbq_z_s8(input, active));
        sum_of_weights = vaddvaq_s8(sum_of_weights, w);
        weights += 16;
        input += 16;
    }
    return sum - work->params->requantization.input_zero_point * sum_of_weights;
}

/* The sum of a row whose weights are decoded first; short rows several at a time. */
static int32_t multiply_decoded(dense *work, uint32_t index)
{
    const uint32_t inputs = (uint32_t)work->params->inputs;
    if (inputs <= CHUNK) {
        const uint32_t count = CHUNK / inputs, left = (uint32_t)work->params->outputs - index;
        if (index % count == 0) {
            tflnest_decode(work->filter, index * inputs, (left < count ? left : count) * inputs, work->chunk);
        }
        return multiply_part(work, work->chunk + index % count * inputs, work->input, inputs);
    }
    int32_t sum = 0;
    for (uint32_t i = 0; i < inputs; i += CHUNK) {
        const uint32_t part = inputs - i < CHUNK ? inputs - i : CHUNK;
        tflnest_decode(work->filter, index * inputs + i, part, work->chunk);
        sum += multiply_part(work, work->chunk, work->input + i, part);
    }
    return sum;
}

/* Sums of products and of codes of some rows. */
typedef struct {
    int32_t products[ROWS];
    uint32_t codes[ROWS];
} row_sums;

static void multiply_rows(dense *work, uint32_t first, uint32_t count, row_sums *sums)
{
    if (work->multiply == NULL) {
        for (uint32_t i = 0; i < count; i++) {
            sums->products[i] = multiply_decoded(work, first + i);
        }
        return;
    }
    work->next.sums = sums->products;
    work->next.sums_of_codes = sums->codes;
    work->next.count = count;
    work->multiply(&work->next);
}

/* Outputs of some rows. */
__attribute__((noinline)) static void requantize(const dense *work, uint32_t first, uint32_t count, const row_sums *sums, int8_t *output)
{
    const tflnest_filter *filter = work->filter;
    const tflnest_requantization *requantization = &work->params->requantization;
    const int32x4_t nothing = vdupq_n_s32(0);
    const int32x4_t low = vdupq_n_s32(requantization->activation_min);
    const int32x4_t high = vdupq_n_s32(requantization->activation_max);
    const int32_t zero_point = requantization->output_zero_point, addend = work->addend, zero = work->zero;
    const uint32_t step = filter->per_channel ? 4 : 0;
    const int8_t *shifts = filter->shifts + (filter->per_channel ? first : 0);
    const int32_t *multipliers = filter->multipliers + (filter->per_channel ? first : 0);
    int32x4_t shift = vdupq_n_s32(shifts[0]), multiplier = vdupq_n_s32(multipliers[0]);
    for (uint32_t i = 0; i < count; i += 4) {
        const mve_pred16_t active = vctp32q(count - i);
        int32x4_t acc = vaddq_n_s32(vldrwq_s32(sums->products + i), addend);
        acc = vsubq_s32(acc, vmulq_n_s32(vreinterpretq_s32_u32(vldrwq_u32(sums->codes + i)), zero));
        if (filter->bias != NULL) {
            acc = vaddq_s32(acc, vldrwq_z_s32(filter->bias + first + i, active));
        }
        if (step > 0) {
            shift = vldrbq_z_s32(shifts, active);
            multiplier = vldrwq_z_s32(multipliers, active);
            shifts += step;
            multipliers += step;
        }
        int32x4_t value =
            tflnest_mve_requantize(acc, vmaxq_s32(shift, nothing), multiplier, vminq_s32(shift, nothing));
        value = vminq_s32(vmaxq_s32(vaddq_n_s32(value, zero_point), low), high);
        vstrbq_p_s32(output + first + i, value, active);
    }
}

void tflnest_fully_connected_mve_run(const tflnest_fully_connected_params *params, const tflnest_filter *filter,
                                     const int8_t *input, int8_t *output, void *scratch)
{
    const uint32_t outputs = (uint32_t)params->outputs;
    row_sums sums;
    dense work;
    memset(&sums, 0, sizeof sums);
    work.params = params;
    work.filter = filter;
    work.input = input;
    work.multiply = NULL;
    work.zero = params->requantization.input_zero_point + 128;
    work.addend = 0;
    prepare(&work, scratch);
    for (uint32_t first = 0; first < outputs; first += ROWS) {
        const uint32_t count = outputs - first < ROWS ? outputs - first : ROWS;
        multiply_rows(&work, first, count, &sums);
        requantize(&work, first, count, &sums, output);
    }
}

#endif
