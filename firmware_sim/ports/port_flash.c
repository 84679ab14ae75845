/* Flash sectors: what the drivers have in common. They report nothing: what counts is what can be read afterwards. */
#include <string.h>

#include "port_driver.h"

static int port_flash_has(uintptr_t address, uint32_t count)
{
    return address - PORT_FLASH_BASE <= PORT_FLASH_BYTES - count; /* modulo 2^32: not below the base either */
}

int port_flash_erase(const uint8_t *sector)
{
    const uintptr_t address = (uintptr_t)sector;

    if (!port_flash_has(address, PORT_FLASH_SECTOR_BYTES) ||
        (address - PORT_FLASH_BASE) % PORT_FLASH_SECTOR_BYTES != 0u) {
        return -1;
    }
    port_flash_erase_sector(address);
    for (uint32_t i = 0; i < PORT_FLASH_SECTOR_BYTES; i += 4u) {
        if (PORT_FLASH_CELL(const uint32_t, address + i) != 0xFFFFFFFFu) {
            return -1;
        }
    }
    return 0;
}

int port_flash_program(const uint8_t *to, const uint8_t *from)
{
    const uintptr_t address = (uintptr_t)to;
    uint32_t words[2];

    memcpy(words, from, sizeof words);
    if (!port_flash_has(address, PORT_FLASH_UNIT_BYTES) || address % PORT_FLASH_UNIT_BYTES != 0u) {
        return -1;
    }
    port_flash_program_unit(address, words);
    return PORT_FLASH_CELL(const uint32_t, address) == words[0] &&
                   PORT_FLASH_CELL(const uint32_t, address + 4u) == words[1]
               ? 0
               : -1;
}
