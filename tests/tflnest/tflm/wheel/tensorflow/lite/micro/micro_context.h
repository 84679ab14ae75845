/* The part of TFLM's micro_context.h that the component uses, over functions that the wheel exports. */
#ifndef TFLNEST_TEST_MICRO_CONTEXT_H
#define TFLNEST_TEST_MICRO_CONTEXT_H

#include "tensorflow/lite/micro/micro_common.h"

namespace tflite {
namespace micro {

/* The class that every context of an interpreter is; it has no virtual functions here, and needs none. */
class MicroInterpreterContext {
  public:
    void DeallocateTempTfLiteTensor(TfLiteTensor *tensor);
};

class MicroContext {
  public:
    TfLiteTensor *AllocateTempInputTensor(const TfLiteNode *node, int index);
    TfLiteTensor *AllocateTempOutputTensor(const TfLiteNode *node, int index);
    void DeallocateTempTfLiteTensor(TfLiteTensor *tensor)
    {
        reinterpret_cast<MicroInterpreterContext *>(this)->DeallocateTempTfLiteTensor(tensor);
    }
};

inline MicroContext *GetMicroContext(const TfLiteContext *context)
{
    return static_cast<MicroContext *>(context->impl_);
}

}  // namespace micro
}  // namespace tflite

#endif
