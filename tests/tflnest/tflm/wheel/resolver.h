/* The resolver of the wheel: `MicroMutableOpResolver<200>`, whose functions the compiler put into the wheel only where the
 * wheel calls them. */
#ifndef TFLNEST_TEST_WHEEL_RESOLVER_H
#define TFLNEST_TEST_WHEEL_RESOLVER_H

#include "tensorflow/lite/micro/micro_common.h"

struct Resolver {
    void *functions;
    TFLMRegistration registrations[200];
    unsigned int count;

    int AddCustom(const char *name, const TFLMRegistration *registration)
    {
        if (count >= 200) {
            return 1;
        }
        registrations[count] = *registration;
        registrations[count].builtin_code = 32;
        registrations[count].custom_name = name;
        count++;
        return 0;
    }
};

#endif
