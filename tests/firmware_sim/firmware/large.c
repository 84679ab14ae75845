/* A variable of LARGE_BYTES, so that the SRAM's limit can be met to the byte. */
#include "port.h"

static volatile uint8_t large[LARGE_BYTES];

int main(void)
{
    port_init();
    large[LARGE_BYTES - 1u] = 1u;
    port_exit(large[LARGE_BYTES - 1u]);
}
