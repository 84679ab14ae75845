#define vTaskDelay(ticks) ((void)(ticks))
