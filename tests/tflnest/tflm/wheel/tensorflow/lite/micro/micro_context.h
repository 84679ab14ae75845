/* The part of TFLM's micro_context.h that the component uses, over functions that the wheel exports. */
#ifndef TFLNEST_TEST_MICRO_CONTEXT_H
#define TFLNEST_TEST_MICRO_CONTEXT_H

#include "tensorflow/lite/micro/micro_common.h"

namespace tflite {
namespace micro {

class MicroInterpreterContext;
class MicroGraph;
class MicroProfilerInterface;
class DecodeState;

class MicroContext {
  public:
    /* The wheel's, read from its machine code; TFLM's pull requests #3216 and #3687 had the others. */
#if !defined(TFLNEST_TEST_HOOK) || TFLNEST_TEST_HOOK == 1
    struct CustomDecodeRegistration {
        DecodeState *(*create_state)(const CustomDecodeRegistration *, const TfLiteContext *,
                                     MicroProfilerInterface *);
        uint8_t type;
    };
#elif TFLNEST_TEST_HOOK == 2
    struct CustomDecodeRegistration {
        DecodeState *(*create_state)(const CustomDecodeRegistration &, const TfLiteContext &,
                                     MicroProfilerInterface *);
        uint8_t type;
    };
#elif TFLNEST_TEST_HOOK == 3
    struct CustomDecodeRegistration {
        uint8_t type;
        uint8_t reserved1;
        uint8_t reserved2;
        uint8_t reserved3;
        DecodeState *(*func)(const TfLiteContext *, MicroProfilerInterface *);
    };
#endif

    TfLiteTensor *AllocateTempInputTensor(const TfLiteNode *node, int index);
    TfLiteTensor *AllocateTempOutputTensor(const TfLiteNode *node, int index);
    inline void DeallocateTempTfLiteTensor(TfLiteTensor *tensor);
    inline MicroGraph &graph();
};

/* The class that every context of an interpreter is; it has no virtual functions here, and needs none. */
class MicroInterpreterContext {
  public:
    void DeallocateTempTfLiteTensor(TfLiteTensor *tensor);
    MicroGraph &graph();
#if !defined(TFLNEST_TEST_HOOK) || TFLNEST_TEST_HOOK > 0
    TfLiteStatus SetCustomDecodeRegistrations(const MicroContext::CustomDecodeRegistration *registrations,
                                              size_t count);
#endif
};

inline void MicroContext::DeallocateTempTfLiteTensor(TfLiteTensor *tensor)
{
    reinterpret_cast<MicroInterpreterContext *>(this)->DeallocateTempTfLiteTensor(tensor);
}

inline MicroGraph &MicroContext::graph()
{
    return reinterpret_cast<MicroInterpreterContext *>(this)->graph();
}

inline MicroContext *GetMicroContext(const TfLiteContext *context)
{
    return static_cast<MicroContext *>(context->impl_);
}

}  // namespace micro
}  // namespace tflite

#endif
