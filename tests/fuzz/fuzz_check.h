/* What the code under test promises: a broken promise ends the campaign. */
#ifndef FUZZ_CHECK_H
#define FUZZ_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "broken promise: %s, line %d\n", #condition, __LINE__); \
            abort(); \
        } \
    } while (0)

#endif
