/* Tiles with the DSP extension.
 *
 * Operands are int16, so that SMLAD takes two products at a time. Four int8 become two words by SXTB16, the even
 * ones and the odd ones, for weights and pixels alike, so nothing has to be put in order. Two channels, and two
 * pixels, lie in turns of four operands: one load-multiple fetches what belongs together.
 *
 *   weights of a pair of channels: 0: w0 w2 | w1 w3   1: w0 w2 | w1 w3   0: w4 w6 | w5 w7   1: ...
 *   pixels of a block, likewise
 */
#include "tflnest_tile_dsp.h"

#include "tflnest_tile.h"

#if TFLNEST_VARIANT == TFLNEST_VARIANT_DSP

#include <string.h>

#include "tflnest_decode.h"
#include "tflnest_fields.h"

/* Operands of a row that are in turns with those of the other one. */
#define QUAD 4u

/* Words from one quad of a row to its next one. */
#define QUAD_WORDS 4u

static uint32_t quads_of(uint32_t products)
{
    return (products + QUAD - 1) / QUAD;
}

uint32_t tflnest_tile_weight_bytes(uint32_t channels, uint32_t products)
{
    return (channels + 1) / 2 * quads_of(products) * QUAD_WORDS * 4;
}

uint32_t tflnest_block_bytes(uint32_t products)
{
    return quads_of(products) * QUAD_WORDS * 4;
}

int tflnest_block_needs_whole(uint32_t depth)
{
    return depth % QUAD != 0;
}

/* ----------------------------------------------------------------------------------------------- widening */

static inline uint32_t load_word(const void *from)
{
    uint32_t word;
    memcpy(&word, from, sizeof word);
    return word;
}

/* Bytes 0 and 2, or 1 and 3, as int16. */
static inline uint32_t even_bytes(uint32_t word)
{
    uint32_t result;
    __asm("sxtb16 %0, %1" : "=r"(result) : "r"(word));
    return result;
}

static inline uint32_t odd_bytes(uint32_t word)
{
    uint32_t result;
    __asm("sxtb16 %0, %1, ror #8" : "=r"(result) : "r"(word));
    return result;
}

/* The same plus two int16. */
static inline uint32_t even_bytes_plus(uint32_t addends, uint32_t word)
{
    uint32_t result;
    __asm("sxtab16 %0, %1, %2" : "=r"(result) : "r"(addends), "r"(word));
    return result;
}

static inline uint32_t odd_bytes_plus(uint32_t addends, uint32_t word)
{
    uint32_t result;
    __asm("sxtab16 %0, %1, %2, ror #8" : "=r"(result) : "r"(addends), "r"(word));
    return result;
}

static inline uint32_t *widen(uint32_t *to, uint32_t word)
{
    to[0] = even_bytes(word);
    to[1] = odd_bytes(word);
    return to + QUAD_WORDS;
}

/* Widen quads of activations, and add two int16 to every pair. */
static void widen_quads(uint32_t *to, const int8_t *from, uint32_t quads, uint32_t addends)
{
    if (((uintptr_t)from & 3u) == 0 && quads >= 4) {
        uint32_t blocks = quads / 4;
        __asm volatile(
            "1:\n"
            "    ldmia %[from]!, {r4, r5, r6, r8}\n"
            "    sxtab16 r9, %[addends], r4\n"
            "    sxtab16 r4, %[addends], r4, ror #8\n"
            "    strd r9, r4, [%[to]]\n"
            "    sxtab16 r9, %[addends], r5\n"
            "    sxtab16 r5, %[addends], r5, ror #8\n"
            "    strd r9, r5, [%[to], #16]\n"
            "    sxtab16 r9, %[addends], r6\n"
            "    sxtab16 r6, %[addends], r6, ror #8\n"
            "    strd r9, r6, [%[to], #32]\n"
            "    sxtab16 r9, %[addends], r8\n"
            "    sxtab16 r8, %[addends], r8, ror #8\n"
            "    strd r9, r8, [%[to], #48]\n"
            "    add %[to], #64\n"
            "    subs %[blocks], #1\n"
            "    bne 1b\n"
            : [to] "+r"(to), [from] "+r"(from), [blocks] "+r"(blocks)
            : [addends] "r"(addends)
            : "r4", "r5", "r6", "r8", "r9", "cc", "memory");
        quads &= 3u;
    }
    for (; quads > 0; quads--) {
        const uint32_t word = load_word(from);
        to[0] = even_bytes_plus(addends, word);
        to[1] = odd_bytes_plus(addends, word);
        to += QUAD_WORDS;
        from += QUAD;
    }
}

/* The last one to three bytes of a row, filled up with zeros. */
static void widen_tail(uint32_t *to, const int8_t *from, uint32_t count, uint32_t addends)
{
    uint32_t word = 0;
    memcpy(&word, from, count);
    to[0] = even_bytes_plus(addends, word);
    to[1] = odd_bytes_plus(addends, word);
}

static void widen_run(uint32_t *to, const int8_t *from, uint32_t count, uint32_t addends)
{
    const uint32_t quads = count / QUAD;
    widen_quads(to, from, quads, addends);
    if (count % QUAD > 0) {
        widen_tail(to + quads * QUAD_WORDS, from + quads * QUAD, count % QUAD, addends);
    }
}

/* ----------------------------------------------------------------------------------------------- decoding */

/* Decode whole groups of weights into one row of a pair of channels. */
static inline void decode_groups(tflnest_field_list list, const tflnest_filter *filter, uint32_t group, uint32_t count,
                                 uint32_t *row)
{
    const uint32_t sign = (filter->offset >> 7) * UINT32_C(0x88888888);
    const uint32_t fill = (filter->offset & 15u) * UINT32_C(0x11111111);
    const uint8_t *fours = filter->fields[0].codes + 8 * group;
    const uint8_t *low_fours = list == TFLNEST_FIELDS_4_4 ? filter->fields[1].codes + 8 * group : NULL;
    const uint8_t *twos = list == TFLNEST_FIELDS_4_2 || list == TFLNEST_FIELDS_4_2_2 ? filter->fields[1].codes + 4 * group : NULL;
    const uint8_t *low_twos = list == TFLNEST_FIELDS_4_2_2 ? filter->fields[2].codes + 4 * group : NULL;
    for (; count > 0; count--) {
        uint32_t a = load_word(fours) ^ sign, b = load_word(fours + 4) ^ sign;
        uint32_t low_a = fill, low_b = fill;
        fours += 8;
        if (list == TFLNEST_FIELDS_4_4) {
            low_a = load_word(low_fours);
            low_b = load_word(low_fours + 4);
            low_fours += 8;
        } else if (list == TFLNEST_FIELDS_4_2 || list == TFLNEST_FIELDS_4_2_2) {
            low_a = load_word(twos);
            twos += 4;
            if (list == TFLNEST_FIELDS_4_2_2) {
                low_b = load_word(low_twos);
                low_twos += 4;
            } else {
                low_b = (filter->offset & 3u) * UINT32_C(0x55555555);
            }
            TFLNEST_INTERLEAVE(low_a, low_b, 2, TFLNEST_PAIRS);
        }
        TFLNEST_INTERLEAVE(a, low_a, 4, TFLNEST_NIBBLES);
        TFLNEST_INTERLEAVE(b, low_b, 4, TFLNEST_NIBBLES);
        row = widen(row, a);
        row = widen(row, low_a);
        row = widen(row, b);
        row = widen(row, low_b);
    }
}

/* Weights that are decoded before they are widened. */
#define CHUNK 64u

static void decode_row(const tflnest_filter *filter, tflnest_field_list list, uint32_t first, uint32_t count, uint32_t *row)
{
    const uint32_t group = first / TFLNEST_GROUP, groups = count / TFLNEST_GROUP;
    if (filter->values != NULL) {
        widen_run(row, filter->values + first, count, 0);
    } else if (list == TFLNEST_FIELDS_4_2_2) {
        decode_groups(TFLNEST_FIELDS_4_2_2, filter, group, groups, row);
    } else if (list == TFLNEST_FIELDS_4_2) {
        decode_groups(TFLNEST_FIELDS_4_2, filter, group, groups, row);
    } else if (list == TFLNEST_FIELDS_4) {
        decode_groups(TFLNEST_FIELDS_4, filter, group, groups, row);
    } else if (list == TFLNEST_FIELDS_4_4) {
        decode_groups(TFLNEST_FIELDS_4_4, filter, group, groups, row);
    } else {
        int8_t chunk[CHUNK] __attribute__((aligned(4)));
        for (uint32_t i = 0; i < count; i += CHUNK) {
            const uint32_t part = count - i < CHUNK ? count - i : CHUNK;
            tflnest_decode(filter, first + i, part, chunk);
            widen_run(row + i, chunk, part, 0);
        }
    }
}

void tflnest_tile_decode_rows(tflnest_tile *tile, const tflnest_filter *filter, uint32_t first)
{
    const uint32_t products = tile->products, pair_words = quads_of(products) * QUAD_WORDS;
    const int by_groups = filter->values == NULL && products % TFLNEST_GROUP == 0;
    const tflnest_field_list list = by_groups ? tflnest_fields_of(filter) : TFLNEST_FIELDS_OTHER;
    uint32_t *weights = (void *)tile->weights;
    for (uint32_t i = 0; i < tile->channels; i++) {
        uint32_t *row = weights + (i / 2) * pair_words + (i & 1u) * 2;
        decode_row(filter, list, (first + i) * products, products, row);
    }
    if (tile->channels & 1u) {
        uint32_t *row = weights + (tile->channels / 2) * pair_words + 2;
        for (uint32_t i = 0; i < pair_words; i += QUAD_WORDS) {
            row[i] = row[i + 1] = 0;
        }
    }
}

void tflnest_block_load(const tflnest_tile *tile, tflnest_operand *block, uint32_t pixel, uint32_t position,
                        const int8_t *input, uint32_t count)
{
    uint32_t *to = (uint32_t *)(void *)block + position + pixel * 2;
    if (input == NULL) {
        for (uint32_t i = 0; i < count; i += QUAD) {
            to[i] = to[i + 1] = 0;
        }
        return;
    }
    const uint32_t zero_point = (uint32_t)tile->requantization->input_zero_point;
    widen_run(to, input, count, ((0u - zero_point) & 0xFFFFu) * UINT32_C(0x00010001));
}

/* -------------------------------------------------------------------------------------------- multiplying */

/* What `multiply_pairs` works on; it knows where the members lie. */
typedef struct {
    const uint32_t *block;
    uint32_t skipped; /* bytes of its loop that the first pass leaves out */
    const tflnest_channel *parameters;
    const uint32_t *weights_end;
    int8_t *outputs[2]; /* of the two pixels */
    const uint32_t *block_end;
    const tflnest_tile *tile;
    const uint32_t *weights;
} multiplication;

/* Quads in the body of the loop of `multiply_pairs`, and bytes of code for each. */
#define UNROLLED 8u
#define QUAD_CODE_BYTES 40u

/* Outputs of a pair of channels that `tflnest_requantize_right` does not fit.
 *
 * next The parameters of the following pair.
 * sums Channel 0 of both pixels, channel 1 of both pixels; replaced by the outputs.
 */
__attribute__((used)) void tflnest_tile_dsp_finish(const tflnest_tile *tile, const tflnest_channel *next, int32_t *sums);

void tflnest_tile_dsp_finish(const tflnest_tile *tile, const tflnest_channel *next, int32_t *sums)
{
    const uint32_t channel = (uint32_t)(next - tile->parameters) - 2;
    sums[0] = tflnest_tile_finish(tile, channel, sums[0]);
    sums[1] = tflnest_tile_finish(tile, channel, sums[1]);
    sums[2] = tflnest_tile_finish(tile, channel + 1, sums[2]);
    sums[3] = tflnest_tile_finish(tile, channel + 1, sums[3]);
}

/* r0 weights, r1 block, r2 to r5 sums: channel 0 of pixels 0 and 1, channel 1 of both. */
#define MULTIPLY_QUAD                        \
    "    ldmia.w r0!, {r6, r7, r8, r9}\n"    \
    "    ldmia.w r1!, {r10, r11, r12, lr}\n" \
    "    smlad r2, r6, r10, r2\n"            \
    "    smlad r3, r6, r12, r3\n"            \
    "    smlad r4, r8, r10, r4\n"            \
    "    smlad r5, r8, r12, r5\n"            \
    "    smlad r2, r7, r11, r2\n"            \
    "    smlad r3, r7, lr, r3\n"             \
    "    smlad r4, r9, r11, r4\n"            \
    "    smlad r5, r9, lr, r5\n"

/* `tflnest_requantize_right` and a clamp to int8; the doubled high product is that of the doubled accumulator. */
#define REQUANTIZE(acc, multiplier, rounding, shift)         \
    "    lsls " acc ", " acc ", #1\n"                        \
    "    smmulr " acc ", " acc ", " multiplier "\n"          \
    "    add r6, " rounding ", " acc ", asr #31\n"           \
    "    add " acc ", " acc ", r6\n"                         \
    "    asr " acc ", " acc ", " shift "\n"                  \
    "    ssat " acc ", #8, " acc "\n"

/* Multiply two pixels by pairs of channels. The outputs are clamped to int8, whatever the activation range is. */
__attribute__((naked, noinline)) static void multiply_pairs(const multiplication *work __attribute__((unused)))
{
    __asm volatile(
        "    push {r4-r11, lr}\n"
        "    sub sp, #36\n"
        "    ldmia.w r0, {r1-r9}\n"
        "    adr.w r10, 2f\n"
        "    add r2, r10\n"
        "    orr r2, #1\n"
        "    stmia.w sp, {r1-r8}\n"
        "    mov r0, r9\n"
        /* The next pair of channels. */
        "1:\n"
        "    ldr r12, [sp, #8]\n"
        "    ldr r2, [r12]\n"
        "    ldr r4, [r12, #16]\n"
        "    mov r3, r2\n"
        "    mov r5, r4\n"
        "    ldrd r1, r6, [sp]\n"
        "    bx r6\n"
        "    .balign 4\n"
        "2:\n" MULTIPLY_QUAD MULTIPLY_QUAD MULTIPLY_QUAD MULTIPLY_QUAD MULTIPLY_QUAD MULTIPLY_QUAD MULTIPLY_QUAD
            MULTIPLY_QUAD
        "    ldr r6, [sp, #24]\n"
        "    cmp r1, r6\n"
        "    bne 2b\n"
        "    ldr r1, [sp, #8]\n"
        "    ldmia.w r1!, {r6-r12, lr}\n"
        "    str r1, [sp, #8]\n"
        "    cmp r9, #0\n"
        "    it ne\n"
        "    cmpne lr, #0\n"
        "    beq 4f\n" REQUANTIZE("r2", "r7", "r8", "r9") REQUANTIZE("r3", "r7", "r8", "r9")
            REQUANTIZE("r4", "r11", "r12", "lr") REQUANTIZE("r5", "r11", "r12", "lr")
        /* Pixel 1 before pixel 0: where there is only one pixel, both go to the same place. */
        "3:\n"
        "    ldrd r6, r10, [sp, #16]\n"
        "    strb r3, [r10], #1\n"
        "    strb r5, [r10], #1\n"
        "    strb r2, [r6], #1\n"
        "    strb r4, [r6], #1\n"
        "    strd r6, r10, [sp, #16]\n"
        "    ldr r7, [sp, #12]\n"
        "    cmp r0, r7\n"
        "    bne 1b\n"
        "    add sp, #36\n"
        "    pop {r4-r11, pc}\n"
        /* A pair that takes the general form. */
        "4:\n"
        "    str r0, [sp, #32]\n"
        "    ldr r0, [sp, #28]\n"
        "    push {r2-r5}\n"
        "    mov r2, sp\n"
        "    bl tflnest_tile_dsp_finish\n"
        "    pop {r2-r5}\n"
        "    ldr r0, [sp, #32]\n"
        "    b 3b\n"
        ::: "memory");
}

static void clamp_outputs(const tflnest_requantization *requantization, int8_t *output, uint32_t count)
{
    const int32_t low = requantization->activation_min, high = requantization->activation_max;
    if (low == INT8_MIN && high == INT8_MAX) {
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        output[i] = (int8_t)tflnest_clamp(output[i], low, high);
    }
}

/* Multiply two pixels, or one if both outputs are the same, by all pairs of channels, and by a last single one. */
static void multiply_pixels(const tflnest_tile *tile, const tflnest_operand *block, int8_t *output0, int8_t *output1)
{
    const uint32_t quads = quads_of(tile->products), pairs = tile->channels / 2;
    multiplication work = {
        .block = (const void *)block,
        .skipped = (0u - quads) % UNROLLED * QUAD_CODE_BYTES,
        .parameters = tile->parameters,
        .outputs = {output0, output1},
        .tile = tile,
        .weights = (const void *)tile->weights,
    };
    work.block_end = work.block + quads * QUAD_WORDS;
    work.weights_end = work.weights + pairs * quads * QUAD_WORDS;
    if (pairs > 0) {
        multiply_pairs(&work);
    }
    if (tile->channels & 1u) {
        int8_t last[2][2];
        work.parameters += 2 * pairs;
        work.weights = work.weights_end;
        work.weights_end += quads * QUAD_WORDS;
        work.outputs[0] = last[0];
        work.outputs[1] = last[1];
        multiply_pairs(&work);
        output1[2 * pairs] = last[1][0];
        output0[2 * pairs] = last[0][0];
    }
    clamp_outputs(tile->requantization, output0, tile->channels);
    if (output1 != output0) {
        clamp_outputs(tile->requantization, output1, tile->channels);
    }
}

void tflnest_tile_multiply(const tflnest_tile *tile, const tflnest_operand *block, uint32_t pixels, int8_t *output,
                           uint32_t output_stride)
{
    if (pixels > 0) {
        multiply_pixels(tile, block, output, pixels > 1 ? output + output_stride : output);
    }
}

#endif
