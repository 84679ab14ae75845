/* $heading */
#include <stdio.h>

#include "selftest.h"

static void print(const char *text)
{
    (void)fputs(text, stdout);
}

int main(void)
{
    return selftest(print) == 0 ? 0 : 1;
}
