/* The part of TFLM's resolver that examples use, declared: they are compiled, not linked. */
#ifndef TFLNEST_TEST_RESOLVER_H
#define TFLNEST_TEST_RESOLVER_H

#include "tensorflow/lite/micro/micro_common.h"

namespace tflite {
namespace micro {

template <unsigned int kCapacity>
class MicroMutableOpResolver {
  public:
    TfLiteStatus AddDecode();
    TfLiteStatus AddCustom(const char *name, const TFLMRegistration *registration);
};

}  // namespace micro
}  // namespace tflite

#endif
