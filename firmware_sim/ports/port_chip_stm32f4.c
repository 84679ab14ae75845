/* STM32F405: 168 MHz from the internal oscillator, USART1 on PA9 and PA10 (RM0090, sections 3, 7 and 8). */
#include "port_driver.h"

#define RCC_CR PORT_REGISTER(0x40023800u)
#define RCC_PLLCFGR PORT_REGISTER(0x40023804u)
#define RCC_CFGR PORT_REGISTER(0x40023808u)
#define RCC_AHB1ENR PORT_REGISTER(0x40023830u)
#define RCC_APB2ENR PORT_REGISTER(0x40023844u)
#define FLASH_ACR PORT_REGISTER(0x40023C00u)
#define GPIOA_MODER PORT_REGISTER(0x40020000u)
#define GPIOA_PUPDR PORT_REGISTER(0x4002000Cu)
#define GPIOA_AFRH PORT_REGISTER(0x40020024u)

#define CR_PLL_ON PORT_BIT(24)
#define CR_PLL_READY PORT_BIT(25)
/* 16 MHz / 16 * 336 / 2; the fourth divider, 7, is USB's. */
#define PLLCFGR_168MHZ (16u | (336u << 6) | (7u << 24))
/* Buses at a quarter (APB1, 42 MHz) and at half (APB2, 84 MHz) of the core's clock. */
#define CFGR_BUSES ((5u << 10) | (4u << 13))
#define CFGR_USE_PLL 2u
#define CFGR_PLL_USED (2u << 2)
#define FLASH_5_WAIT_STATES_AND_CACHES 0x705u

void port_chip_init(void)
{
    FLASH_ACR = FLASH_5_WAIT_STATES_AND_CACHES;
    RCC_PLLCFGR = PLLCFGR_168MHZ;
    RCC_CR |= CR_PLL_ON;
    for (uint32_t i = 0; i < PORT_WAIT_LIMIT && (RCC_CR & CR_PLL_READY) == 0u; i++) {
    }
    RCC_CFGR = CFGR_BUSES | CFGR_USE_PLL;
    for (uint32_t i = 0; i < PORT_WAIT_LIMIT && (RCC_CFGR & CFGR_PLL_USED) == 0u; i++) {
    }
    RCC_AHB1ENR |= PORT_BIT(0);
    RCC_APB2ENR |= PORT_BIT(4);
    (void)RCC_APB2ENR; /* two bus cycles until the clock arrives */
    GPIOA_AFRH = (GPIOA_AFRH & ~0x00000FF0u) | 0x00000770u;
    GPIOA_PUPDR = (GPIOA_PUPDR & ~0x00300000u) | 0x00100000u;
    GPIOA_MODER = (GPIOA_MODER & ~0x003C0000u) | 0x00280000u;
}
