/* Waits for a host on the serial port: pages come and go, levels are chosen, the model is run.
 *
 * The protocol answers whatever arrives; in between the processor sleeps.
 */
#include <stdint.h>

#include "model.h"
#include "model_protocol.h"
#include "port.h"
#include "port_config.h"
#include "tflnest/tflnest_protocol.h"

static uint8_t frame[MODEL_FRAME_BYTES];
static tflnest_protocol protocol;

/* Both survive a reset, as the pages do: a transfer goes on where it was. */
static tflnest_protocol_transfer transfer __attribute__((section(".noinit")));

static void send(void *context, const uint8_t *bytes, uint32_t count)
{
    (void)context;
    port_write(bytes, count);
}

static uint32_t milliseconds(void *context)
{
    (void)context;
    return port_milliseconds();
}

static void reset(void *context)
{
    (void)context;
    port_reset();
}

static const tflnest_protocol_config config = {
    .model = &model_protocol,
    .board = MODEL_BOARD,
    .frame = frame,
    .frame_bytes = sizeof frame,
    .window_bytes = sizeof frame + PORT_RING_BYTES,
    .stall_milliseconds = 1000u,
    .transfer = &transfer,
    .context = NULL,
    .send = send,
    .milliseconds = milliseconds,
    .reset = reset,
};

int main(void)
{
    uint8_t bytes[32];

    port_init();
    (void)model_start(); /* where it fails no page is resident, and the protocol says so */
    (void)tflnest_protocol_start(&protocol, &config);
    for (;;) {
        const uint32_t count = port_read(bytes, sizeof bytes);

        if (count == 0u) {
            protocol.statistics.overruns = port_overruns();
            protocol.statistics.stack_peak = port_stack_peak();
            port_wait();
        }
        tflnest_protocol_receive(&protocol, bytes, count);
    }
}
