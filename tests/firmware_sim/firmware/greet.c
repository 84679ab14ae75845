/* Answers what comes within a moment, marks that, and ends. */
#include "port.h"

int main(void)
{
    uint8_t bytes[8];
    uint32_t count = 0;

    port_init();
    while (count < 5u && port_milliseconds() < 300u) {
        count += port_read(bytes + count, 5u - count);
    }
    port_mark_start(1u);
    port_write(bytes, count);
    port_mark_stop(1u);
    if (count == 0u) {
        port_exit(0u);
    }
    for (;;) {
        port_wait();
    }
}
