/* Runs calls of kernels without weights that a host has put into memory, and tells how many bytes are wrong. */
#include <string.h>

#include "numbers.h"
#include "port.h"

#define GUARD_VALUE 0x5A

/* One call, as the host lays it out. */
typedef struct {
    uint32_t kernel; /* index in `operator_kernels` */
    const void *params;
    const void *first;
    const void *second;     /* NULL where there is no second input */
    uint32_t output_offset; /* in the output buffer */
    const uint8_t *expected; /* start of the output buffer after the last call of an operator, else NULL */
    uint32_t expected_bytes;
} operator_call;

/* Generated: calls each kernel with an array of pointers. */
extern void (*const operator_kernels[])(void *const *);

static uint8_t output[OUTPUT_BYTES] __attribute__((aligned(16)));

static void run(const operator_call *item)
{
    void *pointers[4];
    uint32_t count = 0;
    pointers[count++] = (void *)(uintptr_t)item->params;
    pointers[count++] = (void *)(uintptr_t)item->first;
    if (item->second != NULL) {
        pointers[count++] = (void *)(uintptr_t)item->second;
    }
    pointers[count] = output + item->output_offset;
    port_mark_start(0);
    operator_kernels[item->kernel](pointers);
    port_mark_stop(0);
}

int main(void)
{
    const uint32_t *head = (const uint32_t *)CASES_ADDRESS;
    const operator_call *calls = (const operator_call *)(head + 1);
    port_init();
    memset(output, GUARD_VALUE, sizeof output);
    for (uint32_t i = 0; i < head[0]; i++) {
        run(&calls[i]);
        if (calls[i].expected != NULL) {
            uint32_t wrong = 0;
            for (uint32_t byte = 0; byte < calls[i].expected_bytes; byte++) {
                wrong += output[byte] != calls[i].expected[byte];
            }
            send_number(wrong, '\n');
            memset(output, GUARD_VALUE, sizeof output);
        }
    }
    port_exit(0);
    return 0;
}
