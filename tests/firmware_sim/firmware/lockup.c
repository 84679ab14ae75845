/* A fault within the handler of a fault. */
#include "port.h"
#include "port_config.h"

#define NOWHERE ((volatile uint32_t *)(uintptr_t)(PORT_SRAM_BASE + PORT_SRAM_BYTES))

void port_fault_entry(void);

void port_fault_entry(void)
{
    *NOWHERE = 1u; /* the second fault */
}

int main(void)
{
    port_init();
    *NOWHERE = 0u;
}
