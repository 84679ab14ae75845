/* Adds the component's operators to the resolver of the wheel, which looks this function up by its name. */
#include "resolver.h"
#include "tflnest_tflm.h"

extern "C" bool tflnest_add_operators(void *resolver)
{
    return tflnest::AddOperators(*static_cast<Resolver *>(resolver)) == 0;
}
