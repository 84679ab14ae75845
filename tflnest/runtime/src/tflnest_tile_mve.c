/* Tiles with MVE.
 *
 * Weights lie in groups of four channels, which take turns every 16 weights. Rows are filled up with zeros to whole
 * vectors, so that what a block holds behind a pixel does not matter. The zero point of the input goes into the bias.
 */
#include "tflnest_tile_mve.h"

#include "tflnest_tile.h"

#if TFLNEST_VARIANT == TFLNEST_VARIANT_MVE

#include <string.h>

#include "tflnest_decode.h"
#include "tflnest_fields.h"

#define VECTOR 16u

/* Bytes from one vector of a row to its next one. */
#define TURN (VECTOR * TFLNEST_CHANNEL_GROUP)

static uint32_t vectors_of(uint32_t products)
{
    return (products + VECTOR - 1) / VECTOR;
}

uint32_t tflnest_tile_weight_bytes(uint32_t channels, uint32_t products)
{
    return (channels + 3u) / 4u * vectors_of(products) * TURN;
}

uint32_t tflnest_block_bytes(uint32_t products)
{
    return TFLNEST_BLOCK_PIXELS * vectors_of(products) * VECTOR;
}

int tflnest_block_needs_whole(uint32_t depth)
{
    (void)depth;
    return 0;
}

void tflnest_block_load(const tflnest_tile *tile, tflnest_operand *block, uint32_t pixel, uint32_t position,
                        const int8_t *input, uint32_t count)
{
    int8_t *to = block + pixel * vectors_of(tile->products) * VECTOR + position;
    if (input == NULL) {
        const int8x16_t blank = vdupq_n_s8((int8_t)tile->requantization->input_zero_point);
        for (int32_t left = (int32_t)count; left > 0; left -= 16) {
            vstrbq_p_s8(to, blank, vctp8q((uint32_t)left));
            to += 16;
        }
        return;
    }
    __asm volatile(
        "    wlstp.8 lr, %[count], 2f\n"
        "1:\n"
        "    vldrb.8 q0, [%[from]], #16\n"
        "    vstrb.8 q0, [%[to]], #16\n"
        "    letp lr, 1b\n"
        "2:\n"
        : [to] "+r"(to), [from] "+r"(input)
        : [count] "r"(count)
        : "lr", "q0", "cc", "memory");
}

/* ----------------------------------------------------------------------------------------------- decoding */

/* What decodes whole groups of weights to one row; it knows where the members lie. */
typedef struct {
    const uint8_t *fours;
    const uint8_t *lower[2]; /* the other fields; the upper and lower halves of groups where they have 4 bits */
    int8_t *row;
    uint32_t groups;
    uint32_t fill; /* a byte of the fields that are not there */
} group_work;

/* Four groups at a time: word t of all of them in one vector. r3 and r4 the halves of groups of 4 bits, r5 and r6
 * lower fields, r7 row, r8 fill, r1 the sign bit, r0 sum; q6 a mask, q7 and q5 where groups and vectors lie. */
#define LOAD_FOURS(words0, words1, half0, half1)    \
    "    vldrw.u32 " words0 ", [" half0 ", q7]\n"   \
    "    vldrw.u32 " words1 ", [" half1 ", q7]\n"   \
    "    add " half0 ", #32\n"                      \
    "    add " half1 ", #32\n"

/* The upper bits of the units of q2 and q3 into q2, the lower ones into q3. */
#define INTERLEAVE_PAIRS                            \
    "    vshr.u8 q4, q3, #2\n"                      \
    "    veor q4, q4, q2\n"                         \
    "    vand q4, q4, q6\n"                         \
    "    veor q2, q2, q4\n"                         \
    "    vshl.i8 q4, q4, #2\n"                      \
    "    veor q3, q3, q4\n"

#define STORE_WORDS(words, next)                    \
    "    vadd.i8 " words ", " words ", r1\n"        \
    "    vstrw.32 " words ", [r7, q5]\n"            \
    "    add r7, #" next "\n"                       \
    "    vaddva.s8 r0, " words "\n"

/* Nibbles of `high` and `low` become two words of every group. */
#define STORE_NIBBLES(high, low, next)              \
    "    vmov q4, " high "\n"                       \
    "    vsri.8 q4, " low ", #4\n"                  \
    "    vsli.8 " low ", " high ", #4\n"            \
    STORE_WORDS("q4", "4") STORE_WORDS(low, next)

#define DECODE_ROW(name, load)                                                             \
    __attribute__((naked, noinline)) static int32_t name(const group_work *work __attribute__((unused)))           \
    {                                                                                      \
        __asm volatile(                                                                    \
            "    push {r4-r8, lr}\n"                                                      \
            "    vpush {d8-d15}\n"                                                        \
            "    ldmia.w r0, {r3, r5, r6, r7, r12}\n"                                     \
            "    ldr r8, [r0, #20]\n"                                                     \
            "    mov r2, #0\n"                                                            \
            "    vidup.u32 q7, r2, #8\n"                                                  \
            "    vshl.i32 q5, q7, #3\n"                                                   \
            "    vmov.i8 q6, #0x33\n"                                                     \
            "    add r4, r3, #4\n"                                                        \
            "    mov r0, #0\n"                                                            \
            "    mov r1, #0x80\n"                                                         \
            "    wlstp.32 lr, r12, 2f\n"                                                  \
            "1:\n"                                                                        \
            LOAD_FOURS("q0", "q1", "r3", "r4") load                                        \
            STORE_NIBBLES("q0", "q2", "4") STORE_NIBBLES("q1", "q3", "244")                \
            "    letp lr, 1b\n"                                                           \
            "2:\n"                                                                        \
            "    vpop {d8-d15}\n"                                                         \
            "    pop {r4-r8, pc}\n" ::: "memory");                                        \
    }

DECODE_ROW(decode_4, "    vdup.8 q2, r8\n    vdup.8 q3, r8\n")
DECODE_ROW(decode_4_2, "    vldrw.u32 q2, [r5], #16\n    vdup.8 q3, r8\n" INTERLEAVE_PAIRS)
DECODE_ROW(decode_4_2_2, "    vldrw.u32 q2, [r5], #16\n    vldrw.u32 q3, [r6], #16\n" INTERLEAVE_PAIRS)
DECODE_ROW(decode_4_4, LOAD_FOURS("q2", "q3", "r5", "r6"))

/* Decode whole groups of weights to one row; returns their sum. */
static int32_t decode_groups(tflnest_field_list list, const tflnest_filter *filter, uint32_t group, uint32_t count,
                             int8_t *row)
{
    static int32_t (*const functions[])(const group_work *) = {NULL, decode_4, decode_4_2, decode_4_2_2, decode_4_4};
    const tflnest_field *fields = filter->fields;
    const uint32_t bits = filter->offset & 15u;
    group_work work;
    work.fours = fields[0].codes + 8 * group;
    work.lower[0] = work.lower[1] = NULL;
    if (list == TFLNEST_FIELDS_4_4) {
        work.lower[0] = fields[1].codes + 8 * group;
        work.lower[1] = work.lower[0] + 4;
    } else if (list != TFLNEST_FIELDS_4) {
        work.lower[0] = fields[1].codes + 4 * group;
        work.lower[1] = list == TFLNEST_FIELDS_4_2_2 ? fields[2].codes + 4 * group : NULL;
    }
    work.row = row;
    work.groups = count;
    work.fill = list == TFLNEST_FIELDS_4_2 ? (bits & 3u) * 0x55u : bits * 0x11u;
    return functions[list](&work);
}

/* Weights that are decoded to int8 at a time. */
#define CHUNK 64u

/* Lay out weights that are int8 in one row; returns their sum. */
static int32_t place_weights(const int8_t *weights, uint32_t count, int8_t *row)
{
    int32_t sum = 0;
    for (int32_t left = (int32_t)count; left > 0; left -= (int32_t)VECTOR) {
        const int8x16_t vector = vldrbq_z_s8(weights, vctp8q((uint32_t)left));
        vstrbq_s8(row, vector);
        sum = vaddvaq_s8(sum, vector);
        weights += VECTOR;
        row += TURN;
    }
    return sum;
}

/* Decode any weights to one row; returns their sum. */
static int32_t decode_any(const tflnest_filter *filter, uint32_t first, uint32_t count, int8_t *row)
{
    if (filter->values != NULL) {
        return place_weights(filter->values + first, count, row);
    }
    int32_t sum = 0;
    for (uint32_t i = 0; i < count; i += CHUNK) {
        int8_t chunk[CHUNK];
        const uint32_t part = count - i < CHUNK ? count - i : CHUNK;
        tflnest_decode(filter, first + i, part, chunk);
        sum += place_weights(chunk, part, row + i / VECTOR * TURN);
    }
    return sum;
}

static int32_t decode_row(const tflnest_filter *filter, tflnest_field_list list, uint32_t first, uint32_t count,
                          int8_t *row)
{
    if (list == TFLNEST_FIELDS_OTHER) {
        return decode_any(filter, first, count, row);
    }
    return decode_groups(list, filter, first / TFLNEST_GROUP, count / TFLNEST_GROUP, row);
}

/* Put the parameters of a group of channels into vectors, where they stand. */
__attribute__((noinline)) static void transpose_parameters(tflnest_channel *channels)
{
    tflnest_mve_channels vectors;
    for (uint32_t i = 0; i < 4; i++) {
        vectors.bias[i] = channels[i].bias;
        vectors.left[i] = tflnest_max(channels[i].rounding, 0);
        vectors.multiplier[i] = channels[i].multiplier;
        vectors.right[i] = tflnest_min(channels[i].rounding, 0);
    }
    memcpy((void *)channels, &vectors, sizeof vectors);
}

void tflnest_tile_decode_rows(tflnest_tile *tile, const tflnest_filter *filter, uint32_t first)
{
    const uint32_t products = tile->products, vectors = vectors_of(products);
    const tflnest_field_list list =
        filter->values == NULL && products % TFLNEST_GROUP == 0 ? tflnest_fields_of(filter) : TFLNEST_FIELDS_OTHER;
    for (uint32_t i = 0; i < tile->channels; i++) {
        int8_t *row = tile->weights + i / 4 * vectors * TURN + i % 4 * VECTOR;
        const int32_t sum = decode_row(filter, list, (first + i) * products, products, row);
        tflnest_channel *channel = &tile->parameters[i];
        channel->bias = tflnest_add_wrapping(channel->bias, -tile->requantization->input_zero_point * sum);
    }
    for (uint32_t i = 0; i < tile->channels; i += 4) {
        transpose_parameters(&tile->parameters[i]);
    }
}

/* -------------------------------------------------------------------------------------------- multiplying */

/* What `multiply_groups` works on; it knows where the members lie. */
typedef struct {
    const int8_t *pixels[2];
    uint32_t vectors; /* per pixel */
    const tflnest_channel *end; /* of the parameters */
    int8_t *outputs[2];
    int32_t zero_point; /* of the output */
    int32_t low;
    int32_t high;
    const tflnest_channel *parameters;
    const int8_t *weights;
} multiplication;

/* One vector of weights of one channel, times both pixels. */
#define MULTIPLY_CHANNEL(vector, sum0, sum1)        \
    "    vldrb.8 " vector ", [r1], #16\n"           \
    "    vmladava.s8 " sum0 ", " vector ", q0\n"    \
    "    vmladava.s8 " sum1 ", " vector ", q1\n"

/* `tflnest_mve_requantize`, zero point, activation range; q2 is free, q3 the right shift, q4 and q5 the range. */
#define REQUANTIZE(acc)                             \
    "    vand q2, " acc ", q3\n"                    \
    "    vshr.s32 q2, q2, #31\n"                    \
    "    vqadd.s32 " acc ", " acc ", q2\n"          \
    "    vrshl.s32 " acc ", " acc ", q3\n"          \
    "    vadd.i32 " acc ", " acc ", r9\n"           \
    "    vmax.s32 " acc ", " acc ", q4\n"           \
    "    vmin.s32 " acc ", " acc ", q5\n"

/* Multiply two pixels by groups of four channels. Sums lie in the even registers: pixel 0 r0, r2, r4, r6; pixel 1
 * r8, r10, r12, lr. r1 weights, r3 and r5 pixels, r7 count, r11 parameters. */
__attribute__((naked, noinline)) static void multiply_groups(const multiplication *work __attribute__((unused)))
{
    __asm volatile(
        "    push {r4-r11, lr}\n"
        "    vpush {d8-d11}\n"
        "    sub sp, #28\n"
        "    ldmia.w r0!, {r1-r6}\n"
        "    stmia.w sp, {r1-r6}\n"
        "    ldmia.w r0, {r9, r10, r11, r12}\n"
        "    vdup.32 q4, r10\n"
        "    vdup.32 q5, r11\n"
        "    mov r11, r12\n"
        "    ldr r1, [r0, #16]\n"
        "1:\n"
        "    ldrd r3, r5, [sp]\n"
        "    ldr r7, [sp, #8]\n"
        "    ldrd r0, r2, [r11]\n"
        "    ldrd r4, r6, [r11, #8]\n"
        "    ldrd r8, r10, [r11]\n"
        "    ldrd r12, lr, [r11, #8]\n"
        "2:\n"
        "    vldrb.8 q0, [r3], #16\n"
        "    vldrb.8 q1, [r5], #16\n"
        MULTIPLY_CHANNEL("q2", "r0", "r8")
        MULTIPLY_CHANNEL("q3", "r2", "r10")
        MULTIPLY_CHANNEL("q2", "r4", "r12")
        MULTIPLY_CHANNEL("q3", "r6", "lr")
        "    subs r7, #1\n"
        "    bne 2b\n"
        "    vmov q0[2], q0[0], r0, r4\n"
        "    vmov q0[3], q0[1], r2, r6\n"
        "    vmov q1[2], q1[0], r8, r12\n"
        "    vmov q1[3], q1[1], r10, lr\n"
        "    vldrw.32 q2, [r11, #16]\n"
        "    vshl.s32 q0, q0, q2\n"
        "    vshl.s32 q1, q1, q2\n"
        "    vldrw.32 q2, [r11, #32]\n"
        "    vldrw.32 q3, [r11, #48]\n"
        "    vqrdmulh.s32 q0, q0, q2\n"
        "    vqrdmulh.s32 q1, q1, q2\n"
        REQUANTIZE("q0")
        REQUANTIZE("q1")
        "    ldrd r3, r5, [sp, #16]\n"
        "    ldr r7, [sp, #12]\n"
        "    add r11, #64\n"
        /* Pixel 1 before pixel 0: where there is only one pixel, both go to the same place. */
        "    vstrb.32 q1, [r5], #4\n"
        "    vstrb.32 q0, [r3], #4\n"
        "    strd r3, r5, [sp, #16]\n"
        "    cmp r11, r7\n"
        "    bne 1b\n"
        "    add sp, #28\n"
        "    vpop {d8-d11}\n"
        "    pop {r4-r11, pc}\n" ::: "memory");
}

/* The channels of a last group that is not whole. */
__attribute__((noinline)) static void multiply_rest(multiplication *work, const tflnest_tile *tile)
{
    const uint32_t whole = tile->channels & ~3u, rest = tile->channels & 3u;
    int8_t *output0 = work->outputs[0], *output1 = work->outputs[1];
    int8_t last[2][4];
    work->parameters = work->end;
    work->end += 4;
    work->weights += whole * work->vectors * VECTOR;
    work->outputs[0] = last[0];
    work->outputs[1] = last[1];
    multiply_groups(work);
    memcpy(output1 + whole, last[1], rest);
    memcpy(output0 + whole, last[0], rest);
}

void tflnest_tile_multiply(const tflnest_tile *tile, const tflnest_operand *block, uint32_t pixels, int8_t *output,
                           uint32_t output_stride)
{
    const uint32_t whole = tile->channels & ~3u;
    multiplication work;
    work.vectors = vectors_of(tile->products);
    work.zero_point = tile->requantization->output_zero_point;
    work.low = tile->requantization->activation_min;
    work.high = tile->requantization->activation_max;
    for (; pixels > 0; pixels -= pixels > 1 ? 2 : 1) {
        const uint32_t second = pixels > 1; /* where there is none, the first one is computed twice */
        work.pixels[0] = block;
        work.pixels[1] = block + second * work.vectors * VECTOR;
        work.outputs[0] = output;
        work.outputs[1] = output + second * output_stride;
        work.parameters = tile->parameters;
        work.end = tile->parameters + whole;
        work.weights = tile->weights;
        if (whole > 0) {
            multiply_groups(&work);
        }
        if (whole < tile->channels) {
            multiply_rest(&work, tile);
        }
        block += 2 * work.vectors * VECTOR;
        output += 2 * output_stride;
    }
}

#endif
