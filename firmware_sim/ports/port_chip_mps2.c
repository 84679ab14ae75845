/* Arm MPS2 and MPS3: the FPGA image sets up clock and pins. */
#include "port_driver.h"

void port_chip_init(void)
{
}
