/* STM32F100: 24 MHz from the internal oscillator, USART1 on PA9 and PA10 (RM0041, sections 6 and 7). */
#include "port_driver.h"

#define RCC_CR PORT_REGISTER(0x40021000u)
#define RCC_CFGR PORT_REGISTER(0x40021004u)
#define RCC_APB2ENR PORT_REGISTER(0x40021018u)
#define GPIOA_CRH PORT_REGISTER(0x40010804u)

#define CR_PLL_ON PORT_BIT(24)
#define CR_PLL_READY PORT_BIT(25)
#define CFGR_PLL_TIMES_6 (4u << 18) /* of the 8 MHz oscillator halved */
#define CFGR_USE_PLL 2u
#define CFGR_PLL_USED (2u << 2)
#define APB2ENR_GPIOA PORT_BIT(2)
#define APB2ENR_USART1 PORT_BIT(14)

void port_chip_init(void)
{
    RCC_CFGR = CFGR_PLL_TIMES_6;
    RCC_CR |= CR_PLL_ON;
    for (uint32_t i = 0; i < PORT_WAIT_LIMIT && (RCC_CR & CR_PLL_READY) == 0u; i++) {
    }
    RCC_CFGR = CFGR_PLL_TIMES_6 | CFGR_USE_PLL;
    for (uint32_t i = 0; i < PORT_WAIT_LIMIT && (RCC_CFGR & CFGR_PLL_USED) == 0u; i++) {
    }
    RCC_APB2ENR |= APB2ENR_GPIOA | APB2ENR_USART1;
    /* PA9: alternate push-pull output, 50 MHz; PA10: input with pull-up or floating. */
    GPIOA_CRH = (GPIOA_CRH & ~0x00000FF0u) | 0x000004B0u;
}
