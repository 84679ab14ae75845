/* What the flash controllers of the STM32F1 and F4 series have in common. A driver defines their registers and bits, and
 * then includes this. */
#ifndef PORT_FLASH_STM32_H
#define PORT_FLASH_STM32_H

#define KEY_1 0x45670123u
#define KEY_2 0xCDEF89ABu

static void port_flash_wait(void)
{
    for (uint32_t i = 0; i < PORT_FLASH_WAIT_LIMIT && (FLASH_SR & SR_BUSY) != 0u; i++) {
    }
}

static void port_flash_unlock(void)
{
    if ((FLASH_CR & CR_LOCK) != 0u) {
        FLASH_KEYR = KEY_1;
        FLASH_KEYR = KEY_2;
    }
    port_flash_wait();
    FLASH_SR = SR_ERRORS_AND_END;
}

#endif
