/* Runs cases of the kernels with weights that a host has put into memory, and tells how many outputs are wrong. */
#include <string.h>

#include "numbers.h"
#include "port.h"
#include "tflnest/tflnest_conv.h"
#include "tflnest/tflnest_depthwise_conv.h"
#include "tflnest/tflnest_fully_connected.h"

#define GUARD_BYTES 16u
#define GUARD_VALUE 0x5A

/* One case, as the host lays it out. */
typedef struct {
    uint32_t kernel; /* 0 conv, 1 depthwise conv, 2 fully connected */
    const void *params;
    const tflnest_filter *filter;
    const int8_t *input;
    const int8_t *expected;
    uint32_t outputs;
} weight_case;

static int8_t output[OUTPUT_BYTES + GUARD_BYTES] __attribute__((aligned(8)));
static uint8_t scratch[SCRATCH_BYTES + GUARD_BYTES] __attribute__((aligned(8)));

static uint32_t scratch_bytes(const weight_case *item)
{
    switch (item->kernel) {
    case 0:
        return tflnest_conv_get_buffer_size(item->params);
    case 1:
        return tflnest_depthwise_conv_get_buffer_size(item->params);
    default:
        return tflnest_fully_connected_get_buffer_size(item->params);
    }
}

static tflnest_status check(const weight_case *item)
{
    switch (item->kernel) {
    case 0:
        return tflnest_conv_check(item->params, item->filter);
    case 1:
        return tflnest_depthwise_conv_check(item->params, item->filter);
    default:
        return tflnest_fully_connected_check(item->params, item->filter);
    }
}

#define RUN(kernel, type)                                                                                          \
    static void run_##kernel(const weight_case *item)                                                              \
    {                                                                                                              \
        const type *params = item->params;                                                                         \
        if (params->tile_channels > 0) {                                                                           \
            port_mark_start(0);                                                                                    \
            tflnest_##kernel##_s8(params, item->filter, item->input, output, scratch);                             \
            port_mark_stop(0);                                                                                     \
        } else {                                                                                                   \
            port_mark_start(0);                                                                                    \
            tflnest_##kernel##_unbuffered_s8(params, item->filter, item->input, output);                           \
            port_mark_stop(0);                                                                                     \
        }                                                                                                          \
    }

RUN(conv, tflnest_conv_params)
RUN(depthwise_conv, tflnest_depthwise_conv_params)
RUN(fully_connected, tflnest_fully_connected_params)

static void run(const weight_case *item)
{
    static void (*const kernels[])(const weight_case *) = {run_conv, run_depthwise_conv, run_fully_connected};
    kernels[item->kernel](item);
}

/* Wrong outputs; a write beyond output or scratch makes all of them wrong. */
static uint32_t count_wrong(const weight_case *item, uint32_t size)
{
    uint32_t wrong = 0;
    if (check(item) != TFLNEST_OK || size > SCRATCH_BYTES || item->outputs > OUTPUT_BYTES) {
        return item->outputs;
    }
    memset(output, GUARD_VALUE, sizeof output);
    memset(scratch, GUARD_VALUE, sizeof scratch);
    run(item);
    for (uint32_t i = 0; i < item->outputs; i++) {
        wrong += output[i] != item->expected[i];
    }
    for (uint32_t i = 0; i < GUARD_BYTES; i++) {
        const int is_whole = output[item->outputs + i] == GUARD_VALUE && scratch[size + i] == GUARD_VALUE;
        wrong = is_whole ? wrong : item->outputs;
    }
    return wrong;
}

int main(void)
{
    const uint32_t *count = (const uint32_t *)CASES_ADDRESS;
    const weight_case *cases = (const weight_case *)(count + 1);
    port_init();
    for (uint32_t i = 0; i < *count; i++) {
        const uint32_t size = scratch_bytes(&cases[i]);
        send_number(count_wrong(&cases[i], size), ' ');
        send_number(size, '\n');
    }
    port_exit(0);
    return 0;
}
