/* Eight channels at a time, widened to int16. Products of the even channels and of the odd ones are summed in two
 * vectors, so their parameters are kept apart, too. Weights lie group by group, tap by tap.
 */
#include "tflnest_depthwise_mve.h"

#if TFLNEST_VARIANT == TFLNEST_VARIANT_MVE

#include <string.h>

#include "tflnest_decode.h"

#define GROUP_CHANNELS TFLNEST_DEPTHWISE_MVE_CHANNELS

/* Put the parameters of a group into vectors, where they stand: even channels, odd channels. */
__attribute__((noinline)) static void transpose_parameters(tflnest_channel *channels, int16x8_t sums, int32_t zero_point)
{
    tflnest_mve_channels vectors[2];
    int16_t sum[GROUP_CHANNELS];
    vst1q_s16(sum, sums);
    for (uint32_t i = 0; i < GROUP_CHANNELS; i++) {
        tflnest_mve_channels *half = &vectors[i % 2];
        half->bias[i / 2] = tflnest_add_wrapping(channels[i].bias, -zero_point * sum[i]);
        half->left[i / 2] = tflnest_max(channels[i].rounding, 0);
        half->multiplier[i / 2] = channels[i].multiplier;
        half->right[i / 2] = tflnest_min(channels[i].rounding, 0);
    }
    memcpy((void *)channels, vectors, sizeof vectors);
}

void tflnest_depthwise_mve_decode(tflnest_depthwise *work, const tflnest_filter *filter, uint32_t first)
{
    int8_t *packed = work->room;
    const uint32_t taps = tflnest_depthwise_mve_taps(work->taps);
    for (uint32_t i = 0; i < work->tile.channels; i += GROUP_CHANNELS) {
        int16x8_t sums = vdupq_n_s16(0);
        uint32_t start = first + i;
        for (uint32_t tap = 0; tap < work->taps; tap++) {
            int8_t decoded[GROUP_CHANNELS];
            const int8_t *from = decoded;
            if (filter->values != NULL) {
                from = filter->values + start;
            } else {
                tflnest_decode(filter, start, GROUP_CHANNELS, decoded);
            }
            const int16x8_t weights = vldrbq_s16(from);
            vstrbq_s16(packed, weights);
            sums = vaddq_s16(sums, weights);
            packed += GROUP_CHANNELS;
            start += work->channels;
        }
        for (uint32_t tap = work->taps; tap < taps; tap++) {
            vstrbq_s16(packed, vdupq_n_s16(0));
            packed += GROUP_CHANNELS;
        }
        transpose_parameters(&work->tile.parameters[i], sums, work->tile.requantization->input_zero_point);
    }
}

/* What `multiply_windows` works on; it knows where the members lie. */
typedef struct {
    const int8_t *weights;
    uintptr_t base;
    int8_t *output;
    const uintptr_t *table;
    uint32_t trips; /* through the taps, three at a time */
    int32_t zero_point; /* of the output */
    const tflnest_channel *end;
    const tflnest_channel *parameters;
    uint32_t count;
    int32_t low;
    int32_t high;
    uintptr_t step;
    uint32_t output_step; /* from the end of the channels of a window to the next window */
} multiplication;

/* One tap of eight channels, at r2 plus an entry of the table. */
#define MULTIPLY_TAP(entry)                \
    "    add " entry ", r2\n"              \
    "    vldrb.s16 q2, [" entry "]\n"      \
    "    vldrb.s16 q3, [r1], #8\n"         \
    "    vmullb.s16 q4, q2, q3\n"          \
    "    vmullt.s16 q2, q2, q3\n"          \
    "    vadd.i32 q0, q0, q4\n"            \
    "    vadd.i32 q1, q1, q2\n"

/* `tflnest_mve_requantize` of four channels, whose parameters begin `at` bytes behind r11. */
#define REQUANTIZE(acc, left, multiplier, right) \
    "    vldrw.32 q2, [r11, #" left "]\n"        \
    "    vshl.s32 " acc ", " acc ", q2\n"        \
    "    vldrw.32 q2, [r11, #" multiplier "]\n"  \
    "    vqrdmulh.s32 " acc ", " acc ", q2\n"    \
    "    vldrw.32 q2, [r11, #" right "]\n"       \
    "    vand q3, " acc ", q2\n"                 \
    "    vshr.s32 q3, q3, #31\n"                 \
    "    vqadd.s32 " acc ", " acc ", q3\n"       \
    "    vrshl.s32 " acc ", " acc ", q2\n"

/* r1 weights, r2 address of the channels in the first tap, r6 output, r11 parameters; q0 and q1 sums. */
__attribute__((naked, noinline)) static void multiply_windows(multiplication *work __attribute__((unused)))
{
    __asm volatile(
        "    push {r0, r4-r11, lr}\n"
        "    vpush {d8-d13}\n"
        "    ldr r1, [r0, #36]\n"
        "    vdup.16 q5, r1\n"
        "    ldr r1, [r0, #40]\n"
        "    vdup.16 q6, r1\n"
        "    ldmia.w r0, {r1, r2, r6-r12}\n"
        "1:\n"
        "    vldrw.32 q0, [r11]\n"
        "    vldrw.32 q1, [r11, #64]\n"
        "    mov r0, r7\n"
        "    dls lr, r8\n"
        "2:\n"
        "    ldmia.w r0!, {r3, r4, r5}\n"
        MULTIPLY_TAP("r3")
        MULTIPLY_TAP("r4")
        MULTIPLY_TAP("r5")
        "    le lr, 2b\n"
        REQUANTIZE("q0", "16", "32", "48")
        REQUANTIZE("q1", "80", "96", "112")
        "    vqmovnb.s32 q0, q0\n"
        "    vqmovnt.s32 q0, q1\n"
        "    vqadd.s16 q0, q0, r9\n"
        "    vmax.s16 q0, q0, q5\n"
        "    vmin.s16 q0, q0, q6\n"
        "    vstrb.16 q0, [r6], #8\n"
        "    add r2, #8\n"
        "    add r11, #128\n"
        "    cmp r11, r10\n"
        "    bne 1b\n"
        "    ldr r0, [sp, #48]\n"
        "    ldr r2, [r0, #4]\n"
        "    ldrd r3, r4, [r0, #44]\n"
        "    add r2, r3\n"
        "    str r2, [r0, #4]\n"
        "    add r6, r4\n"
        "    ldr r1, [r0]\n"
        "    ldr r11, [r0, #28]\n"
        "    subs r12, #1\n"
        "    bne 1b\n"
        "    vpop {d8-d13}\n"
        "    pop {r0, r4-r11, pc}\n" ::: "memory");
}

void tflnest_depthwise_mve_run(const tflnest_depthwise *work, const tflnest_windows *windows)
{
    const tflnest_requantization *requantization = work->tile.requantization;
    multiplication all;
    all.weights = work->room;
    all.base = windows->base;
    all.output = windows->output;
    all.table = windows->table;
    all.trips = tflnest_depthwise_mve_taps(work->taps) / 3;
    all.zero_point = requantization->output_zero_point;
    all.end = work->tile.parameters + work->tile.channels;
    all.parameters = work->tile.parameters;
    all.count = windows->count;
    all.low = requantization->activation_min;
    all.high = requantization->activation_max;
    all.step = windows->step;
    all.output_step = work->channels - work->tile.channels;
    multiply_windows(&all);
}

#endif
