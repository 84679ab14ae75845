/* A board port: start-up, serial port, clock, faults and stack of one microcontroller board.
 *
 * Addresses, sizes and interrupt numbers come from port_config.h, which is generated from the board's profile.
 */
#ifndef PORT_H
#define PORT_H

#include <stdint.h>

/* What the last fault left behind, in the words of the Armv7-M Architecture Reference Manual.
 *
 * exception: 3 HardFault, 4 MemManage, 5 BusFault, 6 UsageFault.
 * cfsr, hfsr: the fault status registers; 0 on Armv6-M, which has none.
 * address: the data address that faulted, where the processor knows it; else 0.
 * pc, lr: where it happened; both 0 where the exception frame could not be stored, as after a stack overflow.
 * sp: the stack pointer at the fault.
 */
typedef struct {
    uint32_t exception;
    uint32_t cfsr;
    uint32_t hfsr;
    uint32_t address;
    uint32_t pc;
    uint32_t lr;
    uint32_t sp;
} port_fault;

/* Set up clock, pins, serial port and millisecond clock. Called once, first. The start-up code has armed the
 * faults, painted the stack and enabled floating point and vector instructions before main(). */
void port_init(void);

/* Take received bytes without waiting: at most `limit`; returns how many. */
uint32_t port_read(uint8_t *to, uint32_t limit);

/* Send `count` bytes; returns when the last one is in the transmitter. */
void port_write(const uint8_t *from, uint32_t count);

/* Sleep until an interrupt, unless received bytes are waiting. Returns at least every 50 ms. */
void port_wait(void);

/* Milliseconds since port_init(), modulo 2^32. */
uint32_t port_milliseconds(void);

/* Reset the processor. Does not return. */
void port_reset(void);

/* Bytes of main's stack used so far, at their peak. 4-byte steps. */
uint32_t port_stack_peak(void);

/* Size of main's stack in bytes. */
uint32_t port_stack_size(void);

/* Flash sectors, on boards whose profile names a driver. Flash is read like memory; PORT_FLASH_SECTOR_BYTES are erased
 * to ones at once, and PORT_FLASH_UNIT_BYTES programmed, which only clears bits. Most processors stand still
 * meanwhile: milliseconds to seconds for a sector, microseconds for a unit, which must be aligned; `from` need not be.
 *
 * Both read what they did, and return 0 where it is right. */
#define PORT_FLASH_UNIT_BYTES 8u
int port_flash_erase(const uint8_t *sector);
int port_flash_program(const uint8_t *to, const uint8_t *from);

/* The fault before the last reset, or a null pointer. Survives the reset, but not the loss of power; reading
 * clears it: the record stays valid until the next fault, and the next call returns a null pointer. */
const port_fault *port_last_fault(void);

/* Received bytes that were lost since port_init(), because the buffer was full or the hardware overran. */
uint32_t port_overruns(void);

/* Begin and end of a region whose instructions are counted on an emulator; `id` below PORT_MARK_LIMIT names it.
 * Regions may nest. Three instructions without effect on real hardware. */
#define PORT_MARK_LIMIT 1024u
void port_mark_start(uint32_t id);
void port_mark_stop(uint32_t id);

/* Leave the emulator with an exit status (Arm semihosting). Without a debugger or emulator it is a fault. */
void port_exit(uint32_t status);

#endif
