/* The flash of the STM32F100 series (PM0063: STM32F100xx flash programming). */
#include "port_driver.h"

#define FLASH_KEYR PORT_REGISTER(0x40022004u)
#define FLASH_SR PORT_REGISTER(0x4002200Cu)
#define FLASH_CR PORT_REGISTER(0x40022010u)
#define FLASH_AR PORT_REGISTER(0x40022014u)

#define SR_BUSY PORT_BIT(0)
#define SR_ERRORS_AND_END 0x34u /* PGERR, WRPRTERR, EOP: cleared by writing ones */
#define CR_PROGRAM PORT_BIT(0)
#define CR_ERASE PORT_BIT(1)
#define CR_START PORT_BIT(6)
#define CR_LOCK PORT_BIT(7)

#include "port_flash_stm32.h"

void port_flash_erase_sector(uintptr_t sector)
{
    port_flash_unlock();
    FLASH_CR = CR_ERASE;
    FLASH_AR = (uint32_t)sector;
    FLASH_CR = CR_ERASE | CR_START;
    port_flash_wait();
    FLASH_CR = CR_LOCK;
}

/* Half-words: the controller takes nothing else. */
void port_flash_program_unit(uintptr_t to, const uint32_t words[2])
{
    port_flash_unlock();
    FLASH_CR = CR_PROGRAM;
    for (uint32_t i = 0; i < 4u; i++) {
        PORT_FLASH_CELL(uint16_t, to + 2u * i) = (uint16_t)(words[i / 2u] >> (16u * (i % 2u)));
        port_flash_wait();
    }
    FLASH_CR = CR_LOCK;
}
