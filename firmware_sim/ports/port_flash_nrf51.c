/* The flash of the nRF51 series (nRF51 Series Reference Manual, Non-Volatile Memory Controller). */
#include "port_driver.h"

#define READY PORT_REGISTER(0x4001E400u)
#define CONFIG PORT_REGISTER(0x4001E504u)
#define ERASEPAGE PORT_REGISTER(0x4001E508u)

#define CONFIG_READ 0u
#define CONFIG_WRITE 1u
#define CONFIG_ERASE 2u

static void port_flash_finish(void)
{
    for (uint32_t i = 0; i < PORT_FLASH_WAIT_LIMIT && READY == 0u; i++) {
    }
    CONFIG = CONFIG_READ;
}

void port_flash_erase_sector(uintptr_t sector)
{
    CONFIG = CONFIG_ERASE;
    ERASEPAGE = (uint32_t)sector;
    port_flash_finish();
}

void port_flash_program_unit(uintptr_t to, const uint32_t words[2])
{
    CONFIG = CONFIG_WRITE;
    for (uint32_t i = 0; i < 2u; i++) {
        PORT_FLASH_CELL(uint32_t, to + 4u * i) = words[i];
        for (uint32_t j = 0; j < PORT_FLASH_WAIT_LIMIT && READY == 0u; j++) {
        }
    }
    port_flash_finish();
}
