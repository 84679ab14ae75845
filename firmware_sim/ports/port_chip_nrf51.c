/* nRF51822: the crystal, since the internal oscillator is too coarse for a serial port. */
#include "port_driver.h"

#define HFCLKSTART PORT_REGISTER(0x40000000u)
#define HFCLKSTARTED PORT_REGISTER(0x40000100u)

void port_chip_init(void)
{
    HFCLKSTARTED = 0;
    HFCLKSTART = 1u;
    for (uint32_t i = 0; i < PORT_WAIT_LIMIT && HFCLKSTARTED == 0u; i++) {
    }
}
