/* Numbers as text, for the host that reads what a board says. */
#ifndef NUMBERS_H
#define NUMBERS_H

#include <stdint.h>

#include "port.h"

/* Send a decimal number and what follows it. */
static inline void send_number(uint32_t number, char end)
{
    char text[11];
    uint32_t at = sizeof text;
    text[--at] = end;
    do {
        text[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    port_write((const uint8_t *)text + at, (uint32_t)sizeof text - at);
}

#endif
