/* The APB UART of Arm's Cortex-M System Design Kit, as on the MPS2 and MPS3 boards. */
#include "port_driver.h"

#define DATA PORT_REGISTER(PORT_UART_BASE + 0x00u)
#define STATE PORT_REGISTER(PORT_UART_BASE + 0x04u)
#define CTRL PORT_REGISTER(PORT_UART_BASE + 0x08u)
#define INTERRUPT PORT_REGISTER(PORT_UART_BASE + 0x0Cu)
#define BAUDDIV PORT_REGISTER(PORT_UART_BASE + 0x10u)

#define STATE_TX_FULL 1u
#define STATE_RX_FULL 2u
#define STATE_RX_OVERRUN 8u
#define CTRL_TX_RX_AND_RX_INTERRUPT 0x0Bu
#define INTERRUPT_RX 2u

void port_uart_init(void)
{
    BAUDDIV = (PORT_UART_CLOCK_HZ + PORT_UART_BAUD / 2u) / PORT_UART_BAUD;
    CTRL = CTRL_TX_RX_AND_RX_INTERRUPT;
    (void)DATA; /* QEMU looks for waiting input when this register is read, and not when RX is enabled */
    port_enable_interrupt(PORT_UART_IRQ);
}

void port_uart_send(uint8_t byte)
{
    while (STATE & STATE_TX_FULL) {
    }
    DATA = byte;
}

void port_uart_resume(void)
{
    /* Bytes for which there is no room are lost: there is nothing to go on with. */
}

PORT_HANDLER void port_uart_handler(void)
{
    INTERRUPT = INTERRUPT_RX;
    if (STATE & STATE_RX_OVERRUN) {
        STATE = STATE_RX_OVERRUN;
        port_lost(1u);
    }
    while (STATE & STATE_RX_FULL) {
        port_received((uint8_t)DATA);
    }
}
