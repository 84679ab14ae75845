/* Regions within a region. */
#include "port.h"

int main(void)
{
    port_mark_start(5u); /* never ends */
    port_mark_start(0u);
    port_mark_start(1023u);
    __asm volatile("nop\n nop\n nop\n");
    port_mark_stop(1023u);
    port_mark_start(1023u);
    port_mark_stop(1023u);
    port_mark_stop(0u);
    port_mark_stop(6u); /* never began */
    port_exit(0u);
}
