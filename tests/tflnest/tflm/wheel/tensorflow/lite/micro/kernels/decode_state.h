/* TFLM's class of decoders as its operator DECODE in the wheel calls it: Setup first, then Decode, then destructors. */
#ifndef TFLNEST_TEST_DECODE_STATE_H
#define TFLNEST_TEST_DECODE_STATE_H

#include "tensorflow/lite/micro/micro_common.h"

namespace tflite {
namespace micro {

class MicroProfilerInterface;

class DecodeState {
  public:
    DecodeState(const TfLiteContext *context, MicroProfilerInterface *profiler)
        : context_(context), micro_profiler_(profiler)
    {
    }
    virtual TfLiteStatus Setup(const TfLiteTensor &input, const TfLiteTensor &ancillary,
                               const TfLiteTensor &output) = 0;
    virtual TfLiteStatus Decode(const TfLiteEvalTensor &input, const TfLiteEvalTensor &ancillary,
                                const TfLiteEvalTensor &output) = 0;

  protected:
    virtual ~DecodeState() = default;

    const TfLiteContext *context_;
    MicroProfilerInterface *micro_profiler_;

  private:
    void operator delete(void *) {}
};

}  // namespace micro
}  // namespace tflite

#endif
