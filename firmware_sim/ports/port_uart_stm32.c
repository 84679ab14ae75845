/* The USART of STM32F1, F2 and F4. */
#include "port_driver.h"

#define SR PORT_REGISTER(PORT_UART_BASE + 0x00u)
#define DR PORT_REGISTER(PORT_UART_BASE + 0x04u)
#define BRR PORT_REGISTER(PORT_UART_BASE + 0x08u)
#define CR1 PORT_REGISTER(PORT_UART_BASE + 0x0Cu)

#define SR_OVERRUN 0x08u
#define SR_RECEIVED 0x20u
#define SR_TX_EMPTY 0x80u
#define CR1_ENABLE_TX_RX_AND_RX_INTERRUPT 0x202Cu

void port_uart_init(void)
{
    BRR = (PORT_UART_CLOCK_HZ + PORT_UART_BAUD / 2u) / PORT_UART_BAUD;
    CR1 = CR1_ENABLE_TX_RX_AND_RX_INTERRUPT;
    port_enable_interrupt(PORT_UART_IRQ);
}

void port_uart_send(uint8_t byte)
{
    while ((SR & SR_TX_EMPTY) == 0u) {
    }
    DR = byte;
}

void port_uart_resume(void)
{
    port_enable_interrupt(PORT_UART_IRQ);
}

/* A byte for which there is no room stays in the receiver, without interrupts: they must not keep the application from
 * making room, however fast bytes come. An overrun keeps the older byte; reading SR, then DR, clears the flag. */
PORT_HANDLER void port_uart_handler(void)
{
    uint32_t status;

    if (port_is_full()) {
        port_disable_interrupt(PORT_UART_IRQ);
        return;
    }
    status = SR;
    if (status & SR_OVERRUN) {
        port_lost(1u);
    }
    if (status & (SR_RECEIVED | SR_OVERRUN)) {
        port_received((uint8_t)DR);
    }
}
