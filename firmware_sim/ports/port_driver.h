/* What the files of a port share. Not for applications. */
#ifndef PORT_DRIVER_H
#define PORT_DRIVER_H

#include <stdint.h>

#include "port.h"
#include "port_config.h"

/* Tests on a computer have these two of their own. */
#ifndef PORT_REGISTER
#define PORT_REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))
#define PORT_FLASH_CELL(type, address) (*(volatile type *)(address))
#endif
#define PORT_BIT(number) (1u << (number))

/* Everything that runs in a handler lies in one section: instruction counts leave it out, so that interrupts do
 * not disturb them. A handler therefore calls nothing but functions that have this attribute too. */
#define PORT_HANDLER __attribute__((section(".text.port_handlers"), noinline))

/* A flag of hardware that is not there, or not emulated, must not hang the board. */
#define PORT_WAIT_LIMIT 100000u

/* The same for erasing a large sector, which may take seconds. */
#define PORT_FLASH_WAIT_LIMIT 100000000u

/* The serial port stays silent about milliseconds: this many between two interrupts of the clock. */
#define PORT_TICK_MS 50u

/* Provided by the chip. */
void port_chip_init(void);

/* Provided by the driver of the serial port. */
void port_uart_init(void);
void port_uart_send(uint8_t byte);
void port_uart_handler(void);
void port_uart_resume(void); /* there is room again in the receive buffer, if there was none */

/* Provided by the driver of the clock. */
void port_timer_init(void);
void port_timer_handler(void);

/* Provided by the driver of the flash: erase a sector, program a unit of which `words` are little-endian. */
void port_flash_erase_sector(uintptr_t sector);
void port_flash_program_unit(uintptr_t to, const uint32_t words[2]);

/* Called by the drivers. */
int port_is_full(void);
void port_received(uint8_t byte);
void port_lost(uint32_t count);
void port_enable_interrupt(uint32_t number);
void port_disable_interrupt(uint32_t number); /* within its handler, too */

static inline uint32_t port_lock(void)
{
    uint32_t primask;
    __asm volatile(".syntax unified\n mrs %0, primask\n cpsid i" : "=r"(primask) : : "memory");
    return primask;
}

static inline void port_unlock(uint32_t primask)
{
    __asm volatile(".syntax unified\n msr primask, %0" : : "r"(primask) : "memory");
}

#endif
