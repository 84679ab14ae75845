/* The flash of the STM32F405 series (RM0090, section 3), from its first sector of 128 KiB on. */
#include "port_driver.h"

#define FLASH_ACR PORT_REGISTER(0x40023C00u)
#define FLASH_KEYR PORT_REGISTER(0x40023C04u)
#define FLASH_SR PORT_REGISTER(0x40023C0Cu)
#define FLASH_CR PORT_REGISTER(0x40023C10u)

#define ACR_DATA_CACHE PORT_BIT(10)
#define ACR_DATA_CACHE_RESET PORT_BIT(12)
#define SR_ERRORS_AND_END 0xF3u /* cleared by writing ones */
#define SR_BUSY PORT_BIT(16)
#define CR_PROGRAM PORT_BIT(0)
#define CR_ERASE PORT_BIT(1)
#define CR_SECTOR(number) ((uint32_t)(number) << 3)
#define CR_BY_WORDS (2u << 8) /* at 2.7 V or more */
#define CR_START PORT_BIT(16)
#define CR_LOCK PORT_BIT(31)

/* Sectors 0 to 4 share the first 128 KiB; all others have as many. */
#define SECTORS_BEFORE 4u

#include "port_flash_stm32.h"

void port_flash_erase_sector(uintptr_t sector)
{
    const uint32_t number = SECTORS_BEFORE + (uint32_t)(sector - PORT_FLASH_BASE) / PORT_FLASH_SECTOR_BYTES;

    port_flash_unlock();
    FLASH_CR = CR_ERASE | CR_SECTOR(number) | CR_BY_WORDS;
    FLASH_CR = CR_ERASE | CR_SECTOR(number) | CR_BY_WORDS | CR_START;
    port_flash_wait();
    FLASH_CR = CR_LOCK;
    /* The cache may hold what was there before. */
    FLASH_ACR &= ~ACR_DATA_CACHE;
    FLASH_ACR |= ACR_DATA_CACHE_RESET;
    FLASH_ACR &= ~ACR_DATA_CACHE_RESET;
    FLASH_ACR |= ACR_DATA_CACHE;
}

void port_flash_program_unit(uintptr_t to, const uint32_t words[2])
{
    port_flash_unlock();
    FLASH_CR = CR_PROGRAM | CR_BY_WORDS;
    for (uint32_t i = 0; i < 2u; i++) {
        PORT_FLASH_CELL(uint32_t, to + 4u * i) = words[i];
        port_flash_wait();
    }
    FLASH_CR = CR_LOCK;
}
