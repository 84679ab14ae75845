/* The millisecond clock on a timer of the nRF51 series, whose core has no SysTick: microseconds that start over
 * at every interrupt. */
#include "port_driver.h"

#define START PORT_REGISTER(PORT_TIMER_BASE + 0x000u)
#define STOP PORT_REGISTER(PORT_TIMER_BASE + 0x004u)
#define CLEAR PORT_REGISTER(PORT_TIMER_BASE + 0x00Cu)
#define CAPTURE1 PORT_REGISTER(PORT_TIMER_BASE + 0x044u)
#define COMPARE0 PORT_REGISTER(PORT_TIMER_BASE + 0x140u)
#define SHORTS PORT_REGISTER(PORT_TIMER_BASE + 0x200u)
#define INTENSET PORT_REGISTER(PORT_TIMER_BASE + 0x304u)
#define MODE PORT_REGISTER(PORT_TIMER_BASE + 0x504u)
#define BITMODE PORT_REGISTER(PORT_TIMER_BASE + 0x508u)
#define PRESCALER PORT_REGISTER(PORT_TIMER_BASE + 0x510u)
#define CC0 PORT_REGISTER(PORT_TIMER_BASE + 0x540u)
#define CC1 PORT_REGISTER(PORT_TIMER_BASE + 0x544u)

#define BITMODE_32 3u
#define PRESCALER_1MHZ 4u
#define PERIOD_US (PORT_TICK_MS * 1000u)

static volatile uint32_t port_ticks;

void port_timer_init(void)
{
    STOP = 1u;
    CLEAR = 1u;
    MODE = 0;
    BITMODE = BITMODE_32;
    PRESCALER = PRESCALER_1MHZ;
    CC0 = PERIOD_US;
    SHORTS = 1u; /* a match clears the timer */
    COMPARE0 = 0;
    INTENSET = PORT_BIT(16);
    port_enable_interrupt(PORT_TIMER_IRQ);
    START = 1u;
}

PORT_HANDLER void port_timer_handler(void)
{
    COMPARE0 = 0;
    (void)COMPARE0; /* the event must be gone before the handler returns */
    port_ticks++;
}

uint32_t port_milliseconds(void)
{
    uint32_t primask = port_lock();
    uint32_t ticks = port_ticks;
    uint32_t microseconds;

    CAPTURE1 = 1u;
    microseconds = CC1;
    if (COMPARE0) { /* matched since interrupts are off, or just before */
        CAPTURE1 = 1u;
        microseconds = CC1;
        ticks++;
    }
    port_unlock(primask);
    return ticks * PORT_TICK_MS + microseconds / 1000u;
}
