#include "Arduino.h"

Port Serial;

int main()
{
    setup();
    return 0;
}
