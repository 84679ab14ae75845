/* What the component shares with the Python wheel of TFLM, restated: memory layout and exported functions.
 *
 * Read from micro_common.h of October 2026, when its names moved into `tflite::micro`; the wheel brings no headers.
 * Only what is used has a type. The global aliases that TFLM can leave out are left out.
 */
#ifndef TFLNEST_TEST_MICRO_COMMON_H
#define TFLNEST_TEST_MICRO_COMMON_H

#include <cstddef>
#include <cstdint>

namespace tflite {
namespace micro {

enum TfLiteType : int { kTfLiteInt32 = 2, kTfLiteUInt8 = 3, kTfLiteInt8 = 9 };

enum TfLiteAllocationType : int { kTfLiteMmapRo = 1 };

enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 };

struct TfLiteContext;

struct TfLiteIntArray {
    int size;
    int data[];
};

union TfLitePtrUnion {
    int32_t *i32;
    uint8_t *uint8;
    int8_t *int8;
    void *data;
};

struct TfLiteTensor {
    struct {
        int type;
        void *params;
    } quantization;
    struct {
        float scale;
        int32_t zero_point;
    } params;
    TfLitePtrUnion data;
    TfLiteIntArray *dims;
    size_t bytes;
    TfLiteType type;
    TfLiteAllocationType allocation_type;
    bool is_variable;
};

struct TfLiteEvalTensor {
    TfLitePtrUnion data;
    TfLiteIntArray *dims;
    TfLiteType type;
};

struct TfLiteNode {
    TfLiteIntArray *inputs;
    TfLiteIntArray *outputs;
    TfLiteIntArray *intermediates;
    void *user_data;
    void *builtin_data;
    const void *custom_initial_data;
    int custom_initial_data_size;
};

struct TFLMRegistration {
    void *(*init)(TfLiteContext *context, const char *buffer, size_t length);
    void (*free)(TfLiteContext *context, void *buffer);
    TfLiteStatus (*prepare)(TfLiteContext *context, TfLiteNode *node);
    TfLiteStatus (*invoke)(TfLiteContext *context, TfLiteNode *node);
    void (*reset)(TfLiteContext *context, void *buffer);
    int32_t builtin_code;
    const char *custom_name;
};

void *MicroContextAllocatePersistentBuffer(TfLiteContext *context, size_t bytes);
TfLiteStatus MicroContextRequestScratchBufferInArena(TfLiteContext *context, size_t bytes, int *index);
void *MicroContextGetScratchBuffer(TfLiteContext *context, int index);
TfLiteEvalTensor *MicroContextGetEvalTensor(const TfLiteContext *context, int index);

struct TfLiteContext {
    void *impl_;

    void *AllocatePersistentBuffer(TfLiteContext *context, size_t bytes)
    {
        return MicroContextAllocatePersistentBuffer(context, bytes);
    }
    TfLiteStatus RequestScratchBufferInArena(TfLiteContext *context, size_t bytes, int *index)
    {
        return MicroContextRequestScratchBufferInArena(context, bytes, index);
    }
    void *GetScratchBuffer(TfLiteContext *context, int index)
    {
        return MicroContextGetScratchBuffer(context, index);
    }
    TfLiteEvalTensor *GetEvalTensor(const TfLiteContext *context, int index)
    {
        return MicroContextGetEvalTensor(context, index);
    }
};

static_assert(sizeof(void *) == 4 || sizeof(TfLiteTensor) == 64, "as TFLM reports it for x86-64");
static_assert(sizeof(void *) == 4 || sizeof(TfLiteEvalTensor) == 24, "as TFLM reports it for x86-64");
static_assert(sizeof(TfLiteNode) == 7 * sizeof(void *) && sizeof(TFLMRegistration) == 7 * sizeof(void *), "words");

}  // namespace micro
}  // namespace tflite

using ::tflite::micro::TFLMRegistration;

#endif
