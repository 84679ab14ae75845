/* $heading */
#include <stdio.h>

#include "selftest.h"

static void print(const char *text)
{
    (void)fputs(text, stdout);
}

void app_main(void)
{
    (void)selftest(print);
}
