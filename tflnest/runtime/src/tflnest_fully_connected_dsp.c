/* Activations are widened once: of each four, 0 and 2 in one word, 1 and 3 in the next, which is how UXTB16 takes
 * weights apart. Packed weights are multiplied as unsigned codes; what the offset of the filter contributes is
 * the same for all rows, the offset times the sum of the activations.
 */
#include "tflnest_fully_connected_dsp.h"

#if TFLNEST_VARIANT == TFLNEST_VARIANT_DSP

#include <string.h>

#include "tflnest_arithmetic.h"
#include "tflnest_decode.h"
#include "tflnest_fields.h"
#include "tflnest_tile.h"

/* Weights that are decoded at a time where there is no decoder of their own; a row is padded in it. */
#define CHUNK 64u

/* Activations that are widened at a time: longer rows are computed in pieces, and take no more scratch than that and a
 * sum for every output. A multiple of CHUNK. */
#define PIECE 1024u

/* Fields of a filter that are multiplied as they are. */
#define MAX_FIELDS 5u

/* What multiplies a row; it knows where the members lie. The pointers to codes are moved on. */
typedef struct {
    const int16_t *operands;
    const int16_t *operands_end;
    const void *codes[MAX_FIELDS];
    uint32_t mixed; /* which fields `multiply_mixed` multiplies */
} row;

typedef int32_t multiply_row(row *);

/* ------------------------------------------------------------------------------------- one row of products
 *
 * r0 sum, r1 operands, r2 to r4 codes, r5 to r8 codes or weights, r9 to r12 operands, lr free.
 */

/* Weights of two words, taken apart by `widen`, with the operands of eight activations. */
#define MULTIPLY_WORDS(widen, first, second)      \
    "    ldmia.w r1!, {r9, r10, r11, r12}\n"      \
    "    " widen " lr, " first "\n"               \
    "    " widen " " first ", " first ", ror #8\n" \
    "    smlad r0, lr, r9, r0\n"                  \
    "    " widen " lr, " second "\n"              \
    "    smlad r0, " first ", r10, r0\n"          \
    "    " widen " " second ", " second ", ror #8\n" \
    "    smlad r0, lr, r11, r0\n"                 \
    "    smlad r0, " second ", r12, r0\n"

/* `high` gets the upper bits of the units of both words, `low` the lower ones. */
#define INTERLEAVE(high, low, shift, mask)                          \
    "    eor lr, " high ", " low ", lsr #" shift "\n"               \
    "    and lr, lr, #" mask "\n"                                   \
    "    eor " high ", " high ", lr\n"                              \
    "    eor " low ", " low ", lr, lsl #" shift "\n"

#define INTERLEAVE_NIBBLES INTERLEAVE("r5", "r7", "4", "0x0F0F0F0F") INTERLEAVE("r6", "r8", "4", "0x0F0F0F0F")

#define MULTIPLY_CODES MULTIPLY_WORDS("uxtb16", "r5", "r7") MULTIPLY_WORDS("uxtb16", "r6", "r8")

#define GROUP_4_2_2                               \
    "    ldrd r5, r6, [r2], #8\n"                 \
    "    ldr r7, [r3], #4\n"                      \
    "    ldr r8, [r4], #4\n"                      \
    INTERLEAVE("r7", "r8", "2", "0x33333333") INTERLEAVE_NIBBLES MULTIPLY_CODES

#define GROUP_4_2                                 \
    "    ldrd r5, r6, [r2], #8\n"                 \
    "    ldr r7, [r3], #4\n"                      \
    "    lsl r8, r7, #2\n"                        \
    "    and r7, r7, #0xCCCCCCCC\n"               \
    "    and r8, r8, #0xCCCCCCCC\n" INTERLEAVE_NIBBLES MULTIPLY_CODES

#define GROUP_4_4                                 \
    "    ldrd r5, r6, [r2], #8\n"                 \
    "    ldrd r7, r8, [r3], #8\n" INTERLEAVE_NIBBLES MULTIPLY_CODES

#define GROUP_FLAT                                \
    "    ldmia.w r2!, {r5, r6, r7, r8}\n" MULTIPLY_WORDS("sxtb16", "r5", "r6") MULTIPLY_WORDS("sxtb16", "r7", "r8")

/* Upper nibbles into r0, lower ones into r4; r7 and r8 are masks. */
#define MULTIPLY_NIBBLES(word)                    \
    "    ldmia.w r1!, {r9, r10, r11, r12}\n"      \
    "    and lr, r7, " word "\n"                  \
    "    smlad r0, lr, r9, r0\n"                  \
    "    and lr, r7, " word ", lsr #8\n"          \
    "    smlad r0, lr, r10, r0\n"                 \
    "    and lr, r8, " word "\n"                  \
    "    smlad r4, lr, r11, r4\n"                 \
    "    and lr, r8, " word ", lsr #8\n"          \
    "    smlad r4, lr, r12, r4\n"

#define GROUP_4                                   \
    "    ldrd r5, r6, [r2], #8\n" MULTIPLY_NIBBLES("r5") MULTIPLY_NIBBLES("r6")

/* Whole groups of a row, two by two; an odd number starts in the middle. */
#define MULTIPLY_ROW(prepare, group, end)         \
    __asm volatile(                               \
        "    push {r0, r4-r11, lr}\n"             \
        "    ldmia.w r0, {r1, r2, r3, r4, r5}\n"  \
        "    push {r2}\n"                         \
        "    sub lr, r2, r1\n"                    \
        "    mov r2, r3\n"                        \
        "    mov r3, r4\n"                        \
        "    mov r4, r5\n"                        \
        "    mov r0, #0\n" prepare                \
        "    tst lr, #32\n"                       \
        "    bne 2f\n"                            \
        "1:\n" group                              \
        "2:\n" group                              \
        "    ldr lr, [sp]\n"                      \
        "    cmp r1, lr\n"                        \
        "    bne 1b\n"                            \
        "    ldr lr, [sp, #4]\n" end              \
        "    add sp, #8\n"                        \
        "    pop {r4-r11, pc}\n" ::: "memory")

#define KEEP_CODES                                \
    "    add lr, #8\n"                            \
    "    stmia.w lr, {r2, r3, r4}\n"

__attribute__((naked, noinline)) static int32_t multiply_4_2_2(row *work __attribute__((unused)))
{
    MULTIPLY_ROW("", GROUP_4_2_2, KEEP_CODES);
}

__attribute__((naked, noinline)) static int32_t multiply_4_2(row *work __attribute__((unused)))
{
    MULTIPLY_ROW("", GROUP_4_2, KEEP_CODES);
}

__attribute__((naked, noinline)) static int32_t multiply_4_4(row *work __attribute__((unused)))
{
    MULTIPLY_ROW("", GROUP_4_4, KEEP_CODES);
}

__attribute__((naked, noinline)) static int32_t multiply_flat(row *work __attribute__((unused)))
{
    MULTIPLY_ROW("", GROUP_FLAT, KEEP_CODES);
}

__attribute__((naked, noinline)) static int32_t multiply_4(row *work __attribute__((unused)))
{
    MULTIPLY_ROW("    mov r4, #0\n    mov r7, #0x00F000F0\n    mov r8, #0x000F000F\n", GROUP_4,
                 "    str r2, [lr, #8]\n    add r0, r0, r4, lsl #4\n");
}

/* ------------------------------------------------------------------------------------- fields of 1 bit among them
 *
 * The heads bring the codes of a group into words of digits of two bits, r5 to r8 from the top; where the upper one is
 * a field of four bits, r5 and r6 are its words. r2 to r4, r9 and r10 codes.
 */

/* The 16 bits of a field of one bit become the lower bits of digits. */
#define SPREAD(bits)                              \
    "    orr " bits ", " bits ", " bits ", lsl #8\n" \
    "    and " bits ", " bits ", #0x00FF00FF\n"  \
    "    orr " bits ", " bits ", " bits ", lsl #4\n" \
    "    and " bits ", " bits ", #0x0F0F0F0F\n"  \
    "    orr " bits ", " bits ", " bits ", lsl #2\n" \
    "    and " bits ", " bits ", #0x33333333\n"  \
    "    orr " bits ", " bits ", " bits ", lsl #1\n" \
    "    and " bits ", " bits ", #0x55555555\n"

#define MULTIPLY_WORD(word)                       \
    "    ldrd r11, r12, [r1], #8\n"              \
    "    uxtb16 lr, " word "\n"                  \
    "    uxtb16 " word ", " word ", ror #8\n"    \
    "    smlad r0, lr, r11, r0\n"                \
    "    smlad r0, " word ", r12, r0\n"

__attribute__((naked, noinline)) static int32_t multiply_mixed(row *work __attribute__((unused)))
{
    __asm volatile(
        "    push {r0, r4-r11, lr}\n"
        "    ldr r6, [r0, #28]\n"
        "    ldr r5, [r0, #4]\n"
        "    push {r5, r6}\n"
        "    ldr r1, [r0]\n"
        "    ldrd r2, r3, [r0, #8]\n"
        "    ldrd r4, r9, [r0, #16]\n"
        "    ldr r10, [r0, #24]\n"
        "    mov r0, #0\n"
        "1:\n"
        "    ldr lr, [sp, #4]\n"
        "    tbb [pc, lr]\n"
        "2:\n"
        "    .byte (10f-2b)/2, (11f-2b)/2, (12f-2b)/2, (13f-2b)/2, (14f-2b)/2, (15f-2b)/2\n"
        /* 4, 1 */
        "10:\n"
        "    ldrd r5, r6, [r2], #8\n"
        "    ldrh r7, [r3], #2\n" SPREAD("r7")
        "    lsl r7, r7, #1\n"
        "    mov r8, #0\n"
        "    b 5f\n"
        /* 4, 1, 1 */
        "11:\n"
        "    mov r8, #0\n"
        "    b 3f\n"
        /* 4, 1, 1, 2 */
        "12:\n"
        "    ldr r8, [r9], #4\n"
        "3:\n"
        "    ldrd r5, r6, [r2], #8\n"
        "    ldrh r7, [r3], #2\n" SPREAD("r7")
        "    ldrh r11, [r4], #2\n" SPREAD("r11")
        "    orr r7, r11, r7, lsl #1\n"
        "    b 5f\n"
        /* 2, 1 */
        "13:\n"
        "    ldr r5, [r2], #4\n"
        "    ldrh r6, [r3], #2\n" SPREAD("r6")
        "    lsl r6, r6, #1\n"
        "    mov r7, #0\n"
        "    mov r8, #0\n"
        "    b 4f\n"
        /* 2, 1, 2, 1 */
        "14:\n"
        "    mov r8, #0\n"
        "    b 3f\n"
        /* 2, 1, 2, 1, 2 */
        "15:\n"
        "    ldr r8, [r10], #4\n"
        "3:\n"
        "    ldr r5, [r2], #4\n"
        "    ldrh r6, [r3], #2\n" SPREAD("r6")
        "    ldr r7, [r4], #4\n"
        "    ldrh r11, [r9], #2\n" SPREAD("r11")
        "    and lr, r7, #0xAAAAAAAA\n"
        "    lsr lr, lr, #1\n"
        "    orr r6, lr, r6, lsl #1\n"
        "    and r7, r7, #0x55555555\n"
        "    orr r7, r11, r7, lsl #1\n"
        "4:\n" INTERLEAVE("r5", "r6", "2", "0x33333333")
        "5:\n" INTERLEAVE("r7", "r8", "2", "0x33333333") INTERLEAVE_NIBBLES
        MULTIPLY_WORD("r5") MULTIPLY_WORD("r7") MULTIPLY_WORD("r6") MULTIPLY_WORD("r8")
        "    ldr lr, [sp]\n"
        "    cmp r1, lr\n"
        "    bne 1b\n"
        "    ldr lr, [sp, #8]\n"
        "    strd r2, r3, [lr, #8]\n"
        "    strd r4, r9, [lr, #16]\n"
        "    str r10, [lr, #24]\n"
        "    add sp, #12\n"
        "    pop {r4-r11, pc}\n" ::: "memory");
}

/* A number for bits and shift of a field, and for a list of them. */
#define FIELD(bits, shift) ((uint32_t)(bits) * 8u + (uint32_t)(shift))
#define FIELDS(list, field) ((list) * 64u + (field))

/* The number of a filter's fields in the order of the heads of `multiply_mixed`; -1 where it has none. */
static int32_t mixed_fields_of(const tflnest_filter *filter)
{
    static const uint32_t known[] = {
        FIELDS(FIELD(4, 4), FIELD(1, 3)),
        FIELDS(FIELDS(FIELD(4, 4), FIELD(1, 3)), FIELD(1, 2)),
        FIELDS(FIELDS(FIELDS(FIELD(4, 4), FIELD(1, 3)), FIELD(1, 2)), FIELD(2, 0)),
        FIELDS(FIELD(2, 6), FIELD(1, 5)),
        FIELDS(FIELDS(FIELDS(FIELD(2, 6), FIELD(1, 5)), FIELD(2, 3)), FIELD(1, 2)),
        FIELDS(FIELDS(FIELDS(FIELDS(FIELD(2, 6), FIELD(1, 5)), FIELD(2, 3)), FIELD(1, 2)), FIELD(2, 0)),
    };
    uint32_t list = 0;
    if (!filter->disjoint || filter->offset < 128 || filter->field_count > MAX_FIELDS) {
        return -1;
    }
    for (uint32_t i = 0; i < filter->field_count; i++) {
        list = FIELDS(list, FIELD(filter->fields[i].bits, filter->fields[i].shift));
    }
    for (int32_t i = 0; i < (int32_t)(sizeof known / sizeof known[0]); i++) {
        if (list == known[i]) {
            return i;
        }
    }
    return -1;
}

/* --------------------------------------------------------------------------------------------- all rows */

/* A fully connected operator on one batch. */
typedef struct {
    const tflnest_fully_connected_params *params;
    const tflnest_filter *filter;
    const int16_t *operands;
    row next;
    multiply_row *multiply; /* NULL where weights are decoded to `chunk` first */
    int32_t addend;         /* to the sums of all rows */
    int8_t chunk[CHUNK + TFLNEST_GROUP] __attribute__((aligned(4)));
} dense;

static uint32_t padded(uint32_t inputs)
{
    return (inputs + TFLNEST_GROUP - 1) / TFLNEST_GROUP * TFLNEST_GROUP;
}

uint32_t tflnest_fully_connected_dsp_bytes(const tflnest_fully_connected_params *params)
{
    const uint32_t inputs = (uint32_t)params->inputs;
    if (inputs > PIECE) {
        return PIECE * (uint32_t)sizeof(int16_t) + (uint32_t)params->outputs * (uint32_t)sizeof(int32_t);
    }
    return padded(inputs) * (uint32_t)sizeof(int16_t);
}

/* Widen four activations less their zero point, `offset` in both halves, and add them to a sum. */
static inline int32_t load_quad(uint32_t *operands, uint32_t word, uint32_t offset, int32_t sum)
{
    uint32_t even, odd;
    __asm("sxtab16 %0, %1, %2" : "=r"(even) : "r"(offset), "r"(word));
    __asm("sxtab16 %0, %1, %2, ror #8" : "=r"(odd) : "r"(offset), "r"(word));
    operands[0] = even;
    operands[1] = odd;
    __asm("smlad %0, %1, %2, %0" : "+r"(sum) : "r"(even), "r"(UINT32_C(0x00010001)));
    __asm("smlad %0, %1, %2, %0" : "+r"(sum) : "r"(odd), "r"(UINT32_C(0x00010001)));
    return sum;
}

/* Widen activations, and return their sum. */
static int32_t load_operands(const tflnest_fully_connected_params *params, const int8_t *input, uint32_t count,
                             void *scratch)
{
    const uint32_t zero_point = (uint32_t)params->requantization.input_zero_point & 0xFFu;
    const uint32_t offset = ((0u - (uint32_t)params->requantization.input_zero_point) & 0xFFFFu) * UINT32_C(0x00010001);
    uint32_t *operands = scratch;
    uint32_t *end = operands + padded(count) / 2;
    int32_t sum = 0;
    uint32_t left = count;
    for (; operands < end; operands += 2) {
        uint32_t word = zero_point * UINT32_C(0x01010101);
        if (left >= 4) {
            memcpy(&word, input, sizeof word);
            input += 4;
            left -= 4;
        } else if (left > 0) {
            memcpy(&word, input, left);
            left = 0;
        }
        sum = load_quad(operands, word, offset, sum);
    }
    return sum;
}

/* What multiplies the packed rows of a filter; NULL where nothing does. */
static multiply_row *packed_multiply(const tflnest_filter *filter, uint32_t *mixed)
{
    static multiply_row *const functions[] = {NULL, multiply_4, multiply_4_2, multiply_4_2_2, multiply_4_4};
    const tflnest_field_list list = tflnest_fields_of(filter);
    const int32_t number = list == TFLNEST_FIELDS_OTHER ? mixed_fields_of(filter) : -1;
    if (number < 0) {
        return functions[list];
    }
    *mixed = (uint32_t)number;
    return multiply_mixed;
}

/* Choose what multiplies rows, and what is added to their sums. */
static void choose(dense *work)
{
    const tflnest_filter *filter = work->filter;
    int32_t addend = 0;
    work->multiply = NULL;
    if (work->params->inputs % (int32_t)TFLNEST_GROUP == 0) {
        if (filter->values == NULL) {
            work->multiply = packed_multiply(filter, &work->next.mixed);
            addend = work->multiply == NULL ? 0 : (filter->offset - 256) * work->addend;
        } else if (((uintptr_t)filter->values & 3u) == 0) {
            work->multiply = multiply_flat;
        }
    }
    work->addend = addend;
}

/* The sum of a row of at most CHUNK weights that are decoded first, several rows together. */
static int32_t multiply_short(dense *work, uint32_t index)
{
    const uint32_t inputs = (uint32_t)work->params->inputs, rows = CHUNK / inputs;
    int8_t aligned[CHUNK] __attribute__((aligned(4)));
    const int8_t *weights = work->chunk + index % rows * inputs;
    if (index % rows == 0) {
        const uint32_t left = (uint32_t)work->params->outputs - index;
        tflnest_decode(work->filter, index * inputs, (left < rows ? left : rows) * inputs, work->chunk);
    }
    if (inputs % 4 != 0) {
        memcpy(aligned, weights, padded(inputs));
        weights = aligned;
    }
    work->next.operands = work->operands;
    work->next.operands_end = work->operands + padded(inputs);
    work->next.codes[0] = weights;
    return multiply_flat(&work->next);
}

/* The sum of `inputs` weights from the one at `first`, which are decoded before, a chunk at a time. */
static int32_t multiply_long(dense *work, uint32_t first, uint32_t inputs)
{
    int32_t sum = 0;
    for (uint32_t i = 0; i < inputs; i += CHUNK) {
        const uint32_t count = inputs - i < CHUNK ? inputs - i : CHUNK;
        tflnest_decode(work->filter, first + i, count, work->chunk);
        work->next.operands = work->operands + i;
        work->next.operands_end = work->next.operands + padded(count);
        work->next.codes[0] = work->chunk;
        sum += multiply_flat(&work->next);
    }
    return sum;
}

/* Of its own, so that its 64-bit arithmetic stays out of the loops. */
__attribute__((noinline)) static int32_t requantize_any(int32_t acc, int32_t multiplier, int32_t shift)
{
    return tflnest_requantize(acc, multiplier, shift);
}

static inline int8_t requantize(const tflnest_requantization *requantization, int32_t acc, int32_t multiplier,
                                int32_t shift)
{
    const int32_t zero_point = requantization->output_zero_point;
    int32_t value;
    if (shift <= -1 && shift >= -23 && (uint32_t)acc + (UINT32_C(1) << 29) < UINT32_C(1) << 30) {
        const int32_t rounding = (2 * zero_point + 1) * (INT32_C(1) << (-shift - 1));
        value = tflnest_requantize_right(acc, multiplier, rounding, -shift);
    } else {
        value = tflnest_add_wrapping(requantize_any(acc, multiplier, shift), zero_point);
    }
    return (int8_t)tflnest_clamp(value, requantization->activation_min, requantization->activation_max);
}

/* Rows whose weights are decoded first. */
static void run_decoded(dense *work, int8_t *output)
{
    const tflnest_filter *filter = work->filter;
    const uint32_t inputs = (uint32_t)work->params->inputs;
    for (uint32_t i = 0; i < (uint32_t)work->params->outputs; i++) {
        const uint32_t scale = filter->per_channel ? i : 0;
        const int32_t sum = inputs <= CHUNK ? multiply_short(work, i) : multiply_long(work, i * inputs, inputs);
        const int32_t acc = tflnest_add_wrapping(sum, filter->bias == NULL ? 0 : filter->bias[i]);
        output[i] = requantize(&work->params->requantization, acc, filter->multipliers[scale], filter->shifts[scale]);
    }
}

/* Read codes or weights from the one at `first` on, the first of a group. */
static void seek(dense *work, uint32_t first)
{
    const tflnest_filter *filter = work->filter;
    if (filter->values != NULL) {
        work->next.codes[0] = filter->values + first;
    }
    for (uint32_t i = 0; i < filter->field_count; i++) {
        work->next.codes[i] = filter->fields[i].codes + first / TFLNEST_GROUP * 2 * filter->fields[i].bits;
    }
}

/* Rows that are multiplied as they are. */
static void run_packed(dense *work, int8_t *output)
{
    static const int32_t zero = 0;
    const tflnest_filter *filter = work->filter;
    const tflnest_requantization requantization = work->params->requantization;
    const uint32_t scale_step = filter->per_channel, bias_step = filter->bias != NULL;
    const int32_t *bias = filter->bias != NULL ? filter->bias : &zero;
    const int32_t *multiplier = filter->multipliers;
    const int8_t *shift = filter->shifts;
    const int8_t *end = output + work->params->outputs;
    const int32_t addend = work->addend;
    multiply_row *const multiply = work->multiply;
    seek(work, 0);
    while (output < end) {
        const int32_t acc = tflnest_add_wrapping(multiply(&work->next), tflnest_add_wrapping(addend, *bias));
        *output++ = requantize(&requantization, acc, *multiplier, *shift);
        bias += bias_step;
        multiplier += scale_step;
        shift += scale_step;
    }
}

/* Add what a piece of the input, already widened, contributes to the sums of all outputs. */
static void add_piece(dense *work, uint32_t first, uint32_t count, int32_t *sums)
{
    const uint32_t inputs = (uint32_t)work->params->inputs;
    choose(work);
    for (uint32_t i = 0; i < (uint32_t)work->params->outputs; i++) {
        const uint32_t start = i * inputs + first;
        int32_t sum;
        if (work->multiply != NULL) {
            seek(work, start);
            work->next.operands = work->operands;
            work->next.operands_end = work->operands + count;
            sum = work->multiply(&work->next) + work->addend;
        } else {
            sum = multiply_long(work, start, count);
        }
        sums[i] += sum;
    }
}

/* Long rows, piece by piece of the input. */
static void run_pieces(dense *work, const int8_t *input, int8_t *output, void *scratch)
{
    const tflnest_filter *filter = work->filter;
    const uint32_t inputs = (uint32_t)work->params->inputs, outputs = (uint32_t)work->params->outputs;
    int32_t *sums = (void *)((uint8_t *)scratch + PIECE * sizeof(int16_t));
    memset(sums, 0, outputs * sizeof(int32_t));
    for (uint32_t first = 0; first < inputs; first += PIECE) {
        const uint32_t count = inputs - first < PIECE ? inputs - first : PIECE;
        work->addend = load_operands(work->params, input + first, count, scratch);
        add_piece(work, first, count, sums);
    }
    for (uint32_t i = 0; i < outputs; i++) {
        const uint32_t scale = filter->per_channel ? i : 0;
        const int32_t acc = tflnest_add_wrapping(sums[i], filter->bias == NULL ? 0 : filter->bias[i]);
        output[i] = requantize(&work->params->requantization, acc, filter->multipliers[scale], filter->shifts[scale]);
    }
}

void tflnest_fully_connected_dsp_run(const tflnest_fully_connected_params *params, const tflnest_filter *filter,
                                     const int8_t *input, int8_t *output, void *scratch)
{
    dense work;
    work.params = params;
    work.filter = filter;
    work.operands = scratch;
    work.next.operands = scratch;
    work.next.operands_end = work.operands + params->inputs;
    if (params->inputs > (int32_t)PIECE) {
        run_pieces(&work, input, output, scratch);
        return;
    }
    work.addend = load_operands(params, input, (uint32_t)params->inputs, scratch);
    choose(&work);
    if (work.multiply != NULL) {
        run_packed(&work, output);
    } else {
        run_decoded(&work, output);
    }
}

#endif
