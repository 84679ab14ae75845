/* The millisecond clock on the core's SysTick, which runs at the core's clock. */
#include "port_driver.h"

#define CTRL PORT_REGISTER(0xE000E010u)
#define LOAD PORT_REGISTER(0xE000E014u)
#define VALUE PORT_REGISTER(0xE000E018u)
#define ICSR PORT_REGISTER(0xE000ED04u)

#define CTRL_CORE_CLOCK_INTERRUPT_ENABLE 7u
#define ICSR_SYSTICK_PENDING PORT_BIT(26)
#define PERIOD (PORT_CLOCK_HZ / 1000u * PORT_TICK_MS)

static volatile uint32_t port_ticks;

void port_timer_init(void)
{
    LOAD = PERIOD - 1u;
    VALUE = 0;
    CTRL = CTRL_CORE_CLOCK_INTERRUPT_ENABLE;
}

PORT_HANDLER void port_timer_handler(void)
{
    port_ticks++;
}

uint32_t port_milliseconds(void)
{
    uint32_t primask = port_lock();
    uint32_t left = VALUE;
    uint32_t ticks = port_ticks;

    if (ICSR & ICSR_SYSTICK_PENDING) { /* wrapped since interrupts are off, or just before */
        left = VALUE;
        ticks++;
    }
    port_unlock(primask);
    return ticks * PORT_TICK_MS + (left == 0u ? 0u : (PERIOD - left) / (PORT_CLOCK_HZ / 1000u));
}
