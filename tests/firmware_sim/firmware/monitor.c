/* Test firmware: a byte names what to do, arguments and answers are 32-bit words, little-endian. */
#include <string.h>

#include "port.h"

#define REGION 7u

static uint8_t byte(void)
{
    uint8_t value;

    while (port_read(&value, 1u) == 0u) {
        port_wait();
    }
    return value;
}

static uint32_t word(void)
{
    uint32_t value = 0;

    for (uint32_t shift = 0; shift < 32u; shift += 8u) {
        value |= (uint32_t)byte() << shift;
    }
    return value;
}

static void answer(uint32_t value)
{
    uint8_t bytes[4];

    memcpy(bytes, &value, sizeof bytes);
    port_write(bytes, sizeof bytes);
}

static void echo(uint32_t count)
{
    uint8_t chunk[16];

    while (count > 0u) {
        uint32_t got = port_read(chunk, count < sizeof chunk ? count : (uint32_t)sizeof chunk);

        if (got == 0u) {
            port_wait();
        }
        port_write(chunk, got);
        count -= got;
    }
}

static volatile uint32_t sink;

/* Per turn one load, one store and two more instructions; then the return. */
__attribute__((naked, noinline)) static void work(uint32_t turns __attribute__((unused)))
{
    __asm volatile(".syntax unified\n"
                   "1: ldr r3, [sp]\n"
                   " str r3, [sp]\n"
                   " subs r0, #1\n"
                   " bne 1b\n"
                   " bx lr\n");
}

static void count(uint32_t turns)
{
    port_mark_start(REGION);
    work(turns);
    port_mark_stop(REGION);
}

__attribute__((noinline)) static uint32_t overflow(volatile uint32_t *above)
{
    volatile uint32_t here[8];

    here[0] = *above + 1u;
    return sink == 1u ? 0u : overflow(here) + here[0];
}

static void busy(uint32_t milliseconds)
{
    uint32_t start = port_milliseconds();

    while (port_milliseconds() - start < milliseconds) {
    }
}

static void deaf(uint32_t until_lost)
{
    while (port_overruns() < until_lost) {
    }
}

static void report_start(void)
{
    const port_fault *fault = port_last_fault();
    uint32_t words[7] = {0};

    if (fault != 0) {
        memcpy(words, fault, sizeof words);
    }
    port_write((const uint8_t *)"boot", 4u);
    for (uint32_t i = 0; i < 7u; i++) {
        answer(words[i]);
    }
}

static void obey(uint8_t command)
{
    volatile uint32_t *address;

    switch (command) {
    case 'e':
        echo(word());
        break;
    case 'r':
        port_reset();
        break;
    case 'l':
        address = (volatile uint32_t *)(uintptr_t)word();
        sink = *address; /* may fault */
        answer(sink);
        break;
    case 's':
        address = (volatile uint32_t *)(uintptr_t)word();
        *address = 0x12345678u; /* may fault */
        answer(*address);
        break;
    case 'f':
        answer(overflow(&sink));
        break;
    case 'm':
        answer(port_milliseconds());
        break;
    case 'k':
        answer(port_stack_peak());
        answer(port_stack_size());
        break;
    case 'o':
        answer(port_overruns());
        break;
    case 'b':
        busy(word());
        answer(0);
        break;
    case 'd':
        deaf(word());
        answer(0);
        break;
    case 'c':
        count(word());
        answer(0);
        break;
    case 'x':
        port_exit(word());
        break;
    default:
        answer(0xFFFFFFFFu);
        break;
    }
}

int main(void)
{
    port_init();
    report_start();
    for (;;) {
        obey(byte());
    }
}
