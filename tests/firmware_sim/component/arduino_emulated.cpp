/* Stands in for what QEMU 7.2 lacks of boards for Arduino. The linker puts __wrap_NAME in the place of NAME. */
#include <Arduino.h>

#if defined(ARDUINO_ARCH_STM32)

/* No clock tree: waiting for an oscillator would end in an error. The core lets sketches replace this function. */
extern "C" void SystemClock_Config(void)
{
}

/* No interrupt when a byte was sent. */
extern "C" HAL_StatusTypeDef __wrap_HAL_UART_Transmit_IT(UART_HandleTypeDef *uart, const uint8_t *data, uint16_t size)
{
    for (uint16_t i = 0; i < size; i++) {
        uart->Instance->DR = data[i];
    }
    HAL_UART_TxCpltCallback(uart);
    return HAL_OK;
}

#elif defined(NRF51)

/* No real-time counter. */
extern "C" void __wrap_delay(uint32_t)
{
}

#endif
