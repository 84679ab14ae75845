/* Runs the self-test of a component on a board. */
#include "port.h"
#include "selftest.h"

static void print(const char *text)
{
    uint32_t count = 0;

    while (text[count] != '\0') {
        count++;
    }
    port_write((const uint8_t *)text, count);
}

int main(void)
{
    port_init();
    port_exit((uint32_t)selftest(print));
}
