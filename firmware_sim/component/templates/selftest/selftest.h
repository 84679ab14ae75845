/* $heading */
#ifndef SELFTEST_H
#define SELFTEST_H

#ifdef __cplusplus
extern "C" {
#endif

/* Run every level on input that is always the same, upwards and down again, and compare the CRC-32 of the outputs with
 * what tflnest computed when it made this component.
 *
 * print  Takes a piece of text that ends with 0; lines end with "\n".
 *
 * Returns the number of levels that gave other outputs or no outputs; 0 when all is well.
 */
int selftest(void (*print)(const char *text));

#ifdef __cplusplus
}
#endif

#endif
