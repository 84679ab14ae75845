/* The receive buffer between interrupt and application, and what the drivers have in common. */
#include "port_driver.h"

#define MASK (PORT_RING_BYTES - 1u)

/* One writer (the interrupt, `received`) and one reader (the application, `taken`): counters, not positions. */
static volatile uint8_t port_ring[PORT_RING_BYTES] __attribute__((aligned(4))); /* no variable shares its last word */
static volatile uint32_t port_ring_received;
static volatile uint32_t port_ring_taken;
static volatile uint32_t port_lost_bytes;

void port_init(void)
{
    port_chip_init();
    port_uart_init();
    port_timer_init();
}

PORT_HANDLER int port_is_full(void)
{
    return port_ring_received - port_ring_taken == PORT_RING_BYTES;
}

PORT_HANDLER void port_received(uint8_t byte)
{
    uint32_t received = port_ring_received;

    if (port_is_full()) {
        port_lost_bytes++;
        return;
    }
    port_ring[received & MASK] = byte;
    port_ring_received = received + 1u;
}

PORT_HANDLER void port_lost(uint32_t count)
{
    port_lost_bytes += count;
}

uint32_t port_overruns(void)
{
    return port_lost_bytes;
}

uint32_t port_read(uint8_t *to, uint32_t limit)
{
    uint32_t taken = port_ring_taken;
    uint32_t count = port_ring_received - taken;

    if (count > limit) {
        count = limit;
    }
    for (uint32_t i = 0; i < count; i++) {
        to[i] = port_ring[(taken + i) & MASK];
    }
    port_ring_taken = taken + count;
    port_uart_resume();
    return count;
}

void port_write(const uint8_t *from, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        port_uart_send(from[i]);
    }
}

/* An interrupt between the check and the sleep stays pending while interrupts are off, and ends the sleep. */
void port_wait(void)
{
    uint32_t primask = port_lock();

    if (port_ring_received == port_ring_taken) {
        __asm volatile("dsb\n wfi" : : : "memory");
    }
    port_unlock(primask);
}
