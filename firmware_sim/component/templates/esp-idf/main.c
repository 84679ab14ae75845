/* $heading */
#include <stdio.h>

#include "freertos/FreeRTOS.h"
#include "freertos/task.h"
#include "selftest.h"

static void print(const char *text)
{
    (void)fputs(text, stdout);
    vTaskDelay(1); /* the idle task must run now and then, or the watchdog reports it */
}

void app_main(void)
{
    (void)selftest(print);
}
