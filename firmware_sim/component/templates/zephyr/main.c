/* $heading */
#include <zephyr/sys/printk.h>

#include "selftest.h"

static void print(const char *text)
{
    printk("%s", text);
}

int main(void)
{
    (void)selftest(print);
    return 0;
}
