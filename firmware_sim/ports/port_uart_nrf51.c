/* The UART of the nRF51 series. */
#include "port_driver.h"

#define STARTRX PORT_REGISTER(PORT_UART_BASE + 0x000u)
#define STARTTX PORT_REGISTER(PORT_UART_BASE + 0x008u)
#define RXDRDY PORT_REGISTER(PORT_UART_BASE + 0x108u)
#define TXDRDY PORT_REGISTER(PORT_UART_BASE + 0x11Cu)
#define ERROR PORT_REGISTER(PORT_UART_BASE + 0x124u)
#define INTENSET PORT_REGISTER(PORT_UART_BASE + 0x304u)
#define ERRORSRC PORT_REGISTER(PORT_UART_BASE + 0x480u)
#define ENABLE PORT_REGISTER(PORT_UART_BASE + 0x500u)
#define PSELTXD PORT_REGISTER(PORT_UART_BASE + 0x50Cu)
#define PSELRXD PORT_REGISTER(PORT_UART_BASE + 0x514u)
#define RXD PORT_REGISTER(PORT_UART_BASE + 0x518u)
#define TXD PORT_REGISTER(PORT_UART_BASE + 0x51Cu)
#define BAUDRATE PORT_REGISTER(PORT_UART_BASE + 0x524u)

#define GPIO_OUTSET PORT_REGISTER(0x50000508u)
#define GPIO_DIRSET PORT_REGISTER(0x50000518u)
#define GPIO_CONFIGURE(pin) PORT_REGISTER(0x50000700u + 4u * (pin))

#define ERROR_OVERRUN 1u

static uint32_t port_uart_busy;

void port_uart_init(void)
{
    GPIO_OUTSET = PORT_BIT(PORT_UART_TX_PIN);
    GPIO_DIRSET = PORT_BIT(PORT_UART_TX_PIN);
    GPIO_CONFIGURE(PORT_UART_RX_PIN) = 0; /* an input whose buffer is connected */
    PSELTXD = PORT_UART_TX_PIN;
    PSELRXD = PORT_UART_RX_PIN;
    /* The rate as a share of the clock in 32 bits, rounded to the register's upper 20. */
    BAUDRATE = ((uint32_t)(((uint64_t)PORT_UART_BAUD << 32) / PORT_UART_CLOCK_HZ) + 0x800u) & 0xFFFFF000u;
    ENABLE = 4u;
    port_uart_busy = 0;
    STARTTX = 1u;
    STARTRX = 1u;
    INTENSET = PORT_BIT(2) | PORT_BIT(9); /* received, error */
    port_enable_interrupt(PORT_UART_IRQ);
}

void port_uart_send(uint8_t byte)
{
    if (port_uart_busy) {
        while (TXDRDY == 0u) {
        }
    }
    TXDRDY = 0;
    port_uart_busy = 1u;
    TXD = byte;
}

void port_uart_resume(void)
{
    /* Bytes for which there is no room are lost: there is nothing to go on with. */
}

PORT_HANDLER void port_uart_handler(void)
{
    if (ERROR) {
        ERROR = 0;
        if (ERRORSRC & ERROR_OVERRUN) {
            port_lost(1u);
        }
        ERRORSRC = ERRORSRC;
    }
    while (RXDRDY) {
        RXDRDY = 0;
        port_received((uint8_t)RXD);
    }
}
