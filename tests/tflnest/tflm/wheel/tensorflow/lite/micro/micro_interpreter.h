/* The part of TFLM's interpreter that examples use, declared: they are compiled, not linked. */
#ifndef TFLNEST_TEST_INTERPRETER_H
#define TFLNEST_TEST_INTERPRETER_H

#include "tensorflow/lite/micro/micro_context.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"

namespace tflite {

struct Model;

namespace micro {

class MicroInterpreter {
  public:
    template <unsigned int kCapacity>
    MicroInterpreter(const Model *model, const MicroMutableOpResolver<kCapacity> &resolver, unsigned char *arena,
                     size_t arena_bytes);
#if !defined(TFLNEST_TEST_HOOK) || TFLNEST_TEST_HOOK > 0
    TfLiteStatus SetCustomDecodeRegistrations(const MicroContext::CustomDecodeRegistration *registrations,
                                              size_t count);
#endif
    TfLiteStatus AllocateTensors();
    TfLiteStatus Invoke();
};

}  // namespace micro
}  // namespace tflite

#endif
