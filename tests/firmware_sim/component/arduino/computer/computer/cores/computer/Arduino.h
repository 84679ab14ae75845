/* As much of the Arduino interface as a self-test needs. */
#ifndef ARDUINO_H
#define ARDUINO_H

#include <cstdio>

struct Port {
    void begin(long) {}
    explicit operator bool() const { return true; }
    void print(const char *text) { std::fputs(text, stdout); }
};

extern Port Serial;

void setup();
void loop();

#endif
