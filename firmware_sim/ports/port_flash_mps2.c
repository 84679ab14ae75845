/* Arm MPS2 and MPS3 have memory where microcontrollers have flash. Here it follows the rules of flash: it is erased by
 * the sector, and programming only clears bits; in between it cannot be written where there is a protection unit. */
#include <string.h>

#include "port_driver.h"

#define MPU_CTRL PORT_REGISTER(0xE000ED94u)

static void port_flash_open(uint32_t is_open)
{
#ifdef PORT_MPU_REGIONS
    MPU_CTRL = 1u - is_open;
    __asm volatile("dsb\n isb" : : : "memory");
#else
    (void)is_open;
#endif
}

void port_flash_erase_sector(uintptr_t sector)
{
    port_flash_open(1u);
    memset((void *)sector, 0xFF, PORT_FLASH_SECTOR_BYTES);
    port_flash_open(0u);
}

void port_flash_program_unit(uintptr_t to, const uint32_t words[2])
{
    port_flash_open(1u);
    for (uint32_t i = 0; i < 2u; i++) {
        PORT_FLASH_CELL(uint32_t, to + 4u * i) &= words[i];
    }
    port_flash_open(0u);
}
