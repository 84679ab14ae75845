/* Adds the component's operators to the resolver of the wheel, which looks this function up by its name. */
#include "tflnest_tflm.h"

namespace {

/* `MicroMutableOpResolver<200>`, whose functions the compiler put into the wheel only where the wheel calls them. */
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

}  // namespace

extern "C" bool tflnest_add_operators(void *resolver)
{
    return tflnest::AddOperators(*static_cast<Resolver *>(resolver)) == 0;
}
