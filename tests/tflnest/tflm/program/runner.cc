/* An application of TFLM with a nested model: runs the int8 model, then follows a script with the nested one.
 *
 * `models.S` brings the files, inputs, page images and the script along. Compiled with BOARD, it is firmware of an
 * emulated board.
 */
#include <stdint.h>
#include <string.h>

#include <new>

#include "tensorflow/lite/micro/debug_log.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_log.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/schema/schema_generated.h"
#include "tflnest_tflm.h"

#ifdef BOARD
extern "C" {
#include "port.h"
}
#else
#include <stdio.h>
#endif

/* What a step does. Offsets are those in `nested`, `inputs` and `images`. */
enum { kRun, kSetLevel, kPageOut, kPageInFile, kPageIn, kSpoil };

struct Step {
    uint32_t what, first, second, third;
};

extern "C" {
extern const uint8_t stock_start[], inputs_start[], images_start[];
extern uint8_t nested_start[], nested_end[];
extern const Step script_start[], script_end[];
}

namespace {

alignas(16) uint8_t arena[ARENA_BYTES];
alignas(tflite::MicroInterpreter) uint8_t room[sizeof(tflite::MicroInterpreter)];

void Write(const char *text)
{
#ifdef BOARD
    port_write(reinterpret_cast<const uint8_t *>(text), strlen(text));
#else
    fputs(text, stdout);
#endif
}

void WriteNumber(const char *name, uint32_t number)
{
    char digits[12];
    char *at = digits + sizeof digits;
    *--at = 0;
    do {
        *--at = static_cast<char>('0' + number % 10);
        number /= 10;
    } while (number != 0);
    Write(name);
    Write(" ");
    Write(at);
    Write("\n");
}

void WriteBytes(const int8_t *values, size_t count)
{
    static const char digits[] = "0123456789abcdef";
    Write("output ");
    for (size_t i = 0; i < count; i++) {
        const auto value = static_cast<uint8_t>(values[i]);
        const char text[] = {digits[value >> 4], digits[value & 15], 0};
        Write(text);
    }
    Write("\n");
}

void Mark(uint32_t id, bool is_start)
{
#ifdef BOARD
    is_start ? port_mark_start(id) : port_mark_stop(id);
#else
    (void)id;
    (void)is_start;
#endif
}

using Resolver = tflite::MicroMutableOpResolver<13>;

alignas(Resolver) uint8_t resolver_room[sizeof(Resolver)]; /* it is never destroyed */

TfLiteStatus AddAll(Resolver &resolver)
{
    TfLiteStatus status = tflnest::AddOperators(resolver);
    resolver.AddConv2D();
    resolver.AddDepthwiseConv2D();
    resolver.AddFullyConnected();
    resolver.AddAveragePool2D();
    resolver.AddReshape();
    resolver.AddSoftmax();
    resolver.AddAdd();
    resolver.AddPad();
    resolver.AddTranspose();
    resolver.AddMean();
    return status;
}

/* Run a model once; returns whether it ran. */
bool RunOnce(tflite::MicroInterpreter *interpreter, const uint8_t *input, uint32_t mark)
{
    memcpy(interpreter->input(0)->data.int8, input, interpreter->input(0)->bytes);
    Mark(mark, true);
    const TfLiteStatus status = interpreter->Invoke();
    Mark(mark, false);
    if (status != kTfLiteOk) {
        return false;
    }
    WriteBytes(interpreter->output(0)->data.int8, interpreter->output(0)->bytes);
    return true;
}

tflnest_status Change(tflnest_tflm *nested, const Step &step)
{
    switch (step.what) {
        case kSetLevel:
            return tflnest_tflm_set_level(nested, step.first);
        case kPageOut:
            return tflnest_tflm_page_out(nested, step.first);
        case kPageInFile:
            return tflnest_tflm_page_in(nested, step.first, nullptr, 0);
        case kPageIn:
            return tflnest_tflm_page_in(nested, step.first, images_start + step.second, step.third);
        default:
            memset(nested_start + step.first, 0xA5, step.second);
            return TFLNEST_OK;
    }
}

/* Follow the script; returns whether every invoke ran. */
bool Follow(tflite::MicroInterpreter *interpreter, tflnest_tflm *nested)
{
    uint32_t mark = 1;
    for (const Step *step = script_start; step < script_end; step++) {
        if (step->what != kRun) {
            WriteNumber("status", static_cast<uint32_t>(-Change(nested, *step)));
        } else if (!RunOnce(interpreter, inputs_start + step->first, mark++)) {
            return false;
        }
    }
    return true;
}

int RunAll()
{
    static tflnest_tflm nested;
    auto &resolver = *new (resolver_room) Resolver();
    if (AddAll(resolver) != kTfLiteOk) {
        return 1;
    }
    auto *stock = new (room) tflite::MicroInterpreter(tflite::GetModel(stock_start), resolver, arena, sizeof arena);
    if (stock->AllocateTensors() != kTfLiteOk) {
        return 2;
    }
    WriteNumber("stock", static_cast<uint32_t>(stock->arena_used_bytes()));
    if (!RunOnce(stock, inputs_start, 0)) {
        return 3;
    }
    stock->~MicroInterpreter();
    if (tflnest_tflm_open(&nested, nested_start, static_cast<size_t>(nested_end - nested_start)) != TFLNEST_OK) {
        return 4;
    }
    auto *interpreter =
        new (room) tflite::MicroInterpreter(tflite::GetModel(nested_start), resolver, arena, sizeof arena);
    if (interpreter->AllocateTensors() != kTfLiteOk) {
        return 5;
    }
    interpreter->~MicroInterpreter();
    interpreter = new (room) tflite::MicroInterpreter(tflite::GetModel(nested_start), resolver, arena, sizeof arena);
    if (tflnest_tflm_operators(&nested) != 0 || interpreter->AllocateTensors() != kTfLiteOk) {
        return 5;
    }
    WriteNumber("nested", static_cast<uint32_t>(interpreter->arena_used_bytes()));
    WriteNumber("operators", tflnest_tflm_operators(&nested));
    if (!Follow(interpreter, &nested)) {
        return 6;
    }
    interpreter->~MicroInterpreter();
    WriteNumber("left", tflnest_tflm_operators(&nested));
    tflnest_tflm_close(&nested);
#ifdef BOARD
    WriteNumber("stack", port_stack_peak());
#endif
    return 0;
}

}  // namespace

int main()
{
#ifdef BOARD
    port_init();
    const int status = RunAll();
    port_exit(static_cast<uint32_t>(status));
    return status;
#else
    return RunAll();
#endif
}

#ifdef BOARD
/* What TFLM and C++ ask of a platform: nothing lies on a heap. */
extern "C" {
void abort(void)
{
    port_exit(255);
    while (true) {
    }
}

void DebugLog(const char *format, va_list)
{
    Write(format);
}

int DebugVsnprintf(char *buffer, size_t size, const char *, va_list)
{
    if (size > 0) {
        buffer[0] = 0;
    }
    return 0;
}
}

void operator delete(void *) noexcept {}
void operator delete(void *, size_t) noexcept {}
#endif
