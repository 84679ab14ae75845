/* Lets the wheel decode nested filters. Its interpreter is made and prepared in one go, so the type is registered in the
 * first function that gets its context: the initialization of an operator. */
#include <cstring>

#include "resolver.h"
#include "tflnest_tflm_decode.h"

namespace {

using namespace tflite::micro;

void *SetTypes(TfLiteContext *context, const char *, size_t)
{
    auto *interpreter = static_cast<MicroInterpreterContext *>(context->impl_);
    (void)tflnest::RegisterDecode(*interpreter); /* refused for all operators but the first: it is done then */
    return nullptr;
}

}  // namespace

extern "C" bool tflnest_add_decoders(void *resolver)
{
    auto &own = *static_cast<Resolver *>(resolver);
    for (unsigned int i = 0; i < own.count; i++) {
        const char *name = own.registrations[i].custom_name;
        if (name != nullptr && std::strcmp(name, "TFLM_DECODE") == 0) {
            own.registrations[i].init = SetTypes;
            return true;
        }
    }
    return false;
}
