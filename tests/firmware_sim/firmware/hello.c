/* Says one line and ends. */
#include "port.h"

int main(void)
{
    port_init();
    port_write((const uint8_t *)"hello\n", 6u);
    port_exit(3u);
}
