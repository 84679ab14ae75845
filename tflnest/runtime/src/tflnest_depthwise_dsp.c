/* Four channels at a time. Their weights lie group by group, tap by tap, as int16 and doubled: channels 0 and 2,
 * then 1 and 3, which is how SXTB16 widens activations. Doubled sums are what SMMULR takes.
 */
#include "tflnest_depthwise_dsp.h"

#if TFLNEST_VARIANT == TFLNEST_VARIANT_DSP

#include <string.h>

#include "tflnest_decode.h"

#define GROUP_CHANNELS 4u

int tflnest_depthwise_dsp_fits(const tflnest_tile *tile)
{
    if (tile->channels % GROUP_CHANNELS != 0) {
        return 0;
    }
    for (uint32_t i = 0; i < tile->channels; i++) {
        if (tile->parameters[i].shift == 0) {
            return 0;
        }
    }
    return 1;
}

/* Two int16 sums. */
static inline uint32_t add_pairs(uint32_t a, uint32_t b)
{
    uint32_t result;
    __asm("sadd16 %0, %1, %2" : "=r"(result) : "r"(a), "r"(b));
    return result;
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

/* Double the bias of a channel, and take the zero point of the input off, by the sum of its doubled weights. */
static void correct_bias(const tflnest_tile *tile, tflnest_channel *channel, int32_t sum)
{
    const int32_t offset = -tile->requantization->input_zero_point * sum;
    channel->bias = tflnest_add_wrapping(tflnest_multiply_wrapping(channel->bias, 2), offset);
}

/* Decode the weights of one group of channels; `first` is the place of the first one in the filter. */
static void decode_group(const tflnest_depthwise *work, const tflnest_filter *filter, uint32_t first,
                         tflnest_channel *channels, uint32_t *packed)
{
    uint32_t even_sum = 0, odd_sum = 0;
    for (uint32_t tap = 0; tap < work->taps; tap++) {
        uint32_t word;
        if (filter->values != NULL) {
            memcpy(&word, filter->values + first, sizeof word);
        } else {
            int8_t weights[GROUP_CHANNELS];
            tflnest_decode(filter, first, GROUP_CHANNELS, weights);
            memcpy(&word, weights, sizeof word);
        }
        const uint32_t even = even_bytes(word), odd = odd_bytes(word);
        packed[0] = add_pairs(even, even);
        packed[1] = add_pairs(odd, odd);
        even_sum = add_pairs(even_sum, packed[0]);
        odd_sum = add_pairs(odd_sum, packed[1]);
        packed += 2;
        first += work->channels;
    }
    for (uint32_t tap = work->taps; tap < tflnest_depthwise_dsp_taps(work->taps); tap++) {
        packed[0] = packed[1] = 0;
        packed += 2;
    }
    correct_bias(&work->tile, &channels[0], (int16_t)even_sum);
    correct_bias(&work->tile, &channels[1], (int16_t)odd_sum);
    correct_bias(&work->tile, &channels[2], (int32_t)even_sum >> 16);
    correct_bias(&work->tile, &channels[3], (int32_t)odd_sum >> 16);
}

void tflnest_depthwise_dsp_decode(tflnest_depthwise *work, const tflnest_filter *filter, uint32_t first)
{
    const uint32_t pitch = tflnest_depthwise_dsp_taps(work->taps) * 2;
    uint32_t *packed = work->room;
    for (uint32_t i = 0; i < work->tile.channels; i += GROUP_CHANNELS) {
        decode_group(work, filter, first + i, &work->tile.parameters[i], packed);
        packed += pitch;
    }
}

/* What `multiply_windows` works on; it knows where the members lie. */
typedef struct {
    const uintptr_t *table;
    uint32_t skipped; /* bytes of its loop that the first pass leaves out */
    const uintptr_t *table_end;
    const tflnest_channel *next; /* parameters of the next group */
    const tflnest_channel *parameters_end;
    int8_t *output;
    uint32_t count;
    uintptr_t base;
    uintptr_t step;
    uint32_t output_step; /* from the end of the channels of a window to the next window */
    const tflnest_channel *parameters;
    const int16_t *weights;
} multiplication;

/* Pairs of taps in the body of the loop of `multiply_windows`, and bytes of code for each. */
#define UNROLLED 4u
#define PAIR_CODE_BYTES 64u

/* r0 table, r1 weights, lr base, r2 to r5 sums. */
#define MULTIPLY_TAPS                     \
    "    ldrd r10, r11, [r0], #8\n"       \
    "    ldmia.w r1!, {r6, r7, r8, r9}\n" \
    "    ldr.w r10, [lr, r10]\n"          \
    "    ldr.w r11, [lr, r11]\n"          \
    "    sxtb16 r12, r10\n"               \
    "    sxtb16 r10, r10, ror #8\n"       \
    "    smlabb r2, r12, r6, r2\n"        \
    "    smlatt r4, r12, r6, r4\n"        \
    "    smlabb r3, r10, r7, r3\n"        \
    "    smlatt r5, r10, r7, r5\n"        \
    "    sxtb16 r12, r11\n"               \
    "    sxtb16 r11, r11, ror #8\n"       \
    "    smlabb r2, r12, r8, r2\n"        \
    "    smlatt r4, r12, r8, r4\n"        \
    "    smlabb r3, r11, r9, r3\n"        \
    "    smlatt r5, r11, r9, r5\n"

/* Add the bias, `tflnest_requantize_right`, clamp to int8; the sum and the bias are doubled. */
#define REQUANTIZE(acc)                   \
    "    ldmia.w r0!, {r6, r7, r8, r9}\n" \
    "    add " acc ", r6\n"               \
    "    smmulr " acc ", " acc ", r7\n"   \
    "    add r8, r8, " acc ", asr #31\n"  \
    "    add " acc ", r8\n"               \
    "    asr " acc ", r9\n"               \
    "    ssat " acc ", #8, " acc "\n"

__attribute__((naked, noinline)) static void multiply_windows(const multiplication *work __attribute__((unused)))
{
    __asm volatile(
        "    push {r4-r11, lr}\n"
        "    sub sp, #52\n"
        "    mov r12, sp\n"
        "    ldmia.w r0!, {r1-r6}\n"
        "    adr.w r7, 3f\n"
        "    add r2, r7\n"
        "    orr r2, #1\n"
        "    stmia.w r12!, {r1-r6}\n"
        "    ldmia.w r0, {r1-r6}\n"
        "    stmia.w r12, {r1-r6}\n"
        /* The next window. */
        "1:\n"
        "    ldr lr, [sp, #28]\n"
        "    ldrd r12, r1, [sp, #40]\n"
        "    str r12, [sp, #12]\n"
        /* The next group of channels: its first tap, then pairs of taps. */
        "2:\n"
        "    ldr r0, [sp]\n"
        "    ldrd r6, r7, [r1], #8\n"
        "    ldr r10, [r0], #4\n"
        "    ldr.w r10, [lr, r10]\n"
        "    sxtb16 r12, r10\n"
        "    sxtb16 r10, r10, ror #8\n"
        "    smulbb r2, r12, r6\n"
        "    smultt r4, r12, r6\n"
        "    smulbb r3, r10, r7\n"
        "    smultt r5, r10, r7\n"
        "    ldr r6, [sp, #4]\n"
        "    bx r6\n"
        "    .balign 4\n"
        "3:\n" MULTIPLY_TAPS MULTIPLY_TAPS MULTIPLY_TAPS MULTIPLY_TAPS
        "    ldr r6, [sp, #8]\n"
        "    cmp r0, r6\n"
        "    bne 3b\n"
        "    ldr r0, [sp, #12]\n" REQUANTIZE("r2") REQUANTIZE("r3") REQUANTIZE("r4") REQUANTIZE("r5")
        "    str r0, [sp, #12]\n"
        "    ldrd r6, r10, [sp, #16]\n"
        "    strb r2, [r10], #1\n"
        "    strb r3, [r10], #1\n"
        "    strb r4, [r10], #1\n"
        "    strb r5, [r10], #1\n"
        "    str r10, [sp, #20]\n"
        "    add lr, #4\n"
        "    cmp r0, r6\n"
        "    bne 2b\n"
        "    ldrd r2, r3, [sp, #24]\n"
        "    ldrd r4, r5, [sp, #32]\n"
        "    add r3, r4\n"
        "    add r10, r5\n"
        "    str r10, [sp, #20]\n"
        "    subs r2, #1\n"
        "    strd r2, r3, [sp, #24]\n"
        "    bne 1b\n"
        "    add sp, #52\n"
        "    pop {r4-r11, pc}\n"
        ::: "memory");
}

static void clamp_outputs(const tflnest_depthwise *work, const tflnest_windows *windows)
{
    const int32_t low = work->tile.requantization->activation_min, high = work->tile.requantization->activation_max;
    if (low == INT8_MIN && high == INT8_MAX) {
        return;
    }
    for (uint32_t i = 0; i < windows->count; i++) {
        for (uint32_t c = 0; c < work->tile.channels; c++) {
            int8_t *output = windows->output + i * work->channels + c;
            *output = (int8_t)tflnest_clamp(*output, low, high);
        }
    }
}

void tflnest_depthwise_dsp_run(const tflnest_depthwise *work, const tflnest_windows *windows)
{
    const uint32_t taps = tflnest_depthwise_dsp_taps(work->taps);
    const multiplication all = {
        .table = windows->table,
        .skipped = (0u - taps / 2) % UNROLLED * PAIR_CODE_BYTES,
        .table_end = windows->table + taps,
        .parameters_end = work->tile.parameters + work->tile.channels,
        .output = windows->output,
        .count = windows->count,
        .base = windows->base,
        .step = windows->step,
        .output_step = work->channels - work->tile.channels,
        .parameters = work->tile.parameters,
        .weights = work->room,
    };
    multiply_windows(&all);
    clamp_outputs(work, windows);
}

#endif
