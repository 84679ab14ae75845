/* TFLM's log, which the wheel writes to stderr. */
#ifndef TFLNEST_TEST_MICRO_LOG_H
#define TFLNEST_TEST_MICRO_LOG_H

void MicroPrintf(const char *format, ...);

#endif
