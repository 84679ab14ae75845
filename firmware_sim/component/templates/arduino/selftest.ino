/* $heading
 *
 * Runs every level on input that is always the same, and says whether the outputs are the expected ones.
 */
#include <$name.h>

#include "selftest.h"

static void print(const char *text)
{
    Serial.print(text);
}

void setup()
{
    Serial.begin(115200);
    while (!Serial) {
    }
    selftest(print);
}

void loop()
{
}
