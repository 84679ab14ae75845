/* $heading */
#include "selftest.h"

#include <stddef.h>
#include <stdint.h>

#include "${name}.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"
#include "tensorflow/lite/schema/schema_generated.h"
#include "tflnest/tflnest_crc32.h"

/* TensorFlow Lite Micro has its names in `tflite` until October 2026, and in `tflite::micro` since. */
namespace tflite {
namespace micro {}
}  // namespace tflite

namespace {

using namespace tflite;
using namespace tflite::micro;

struct Expectation {
    uint32_t level; /* bits */
    uint32_t crc32; /* of all outputs, one after another */
};

const Expectation expected[] = {
$rows
};

const size_t kLevels = sizeof expected / sizeof expected[0];

/* Plenty; the number that is printed is what is in use. */
alignas(16) uint8_t arena[$arena];

void PrintNumber(void (*print)(const char*), uint32_t value, uint32_t base, uint32_t digits)
{
    char text[11];
    size_t at = sizeof text - 1;

    text[at] = '\0';
    do {
        text[--at] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value > 0 || sizeof text - 1 - at < digits);
    print(&text[at]);
}

/* The highest bytes of a linear congruential generator, through all inputs one after another. */
void FillInputs(MicroInterpreter& interpreter)
{
    uint32_t state = $seed;

    for (size_t i = 0; i < interpreter.inputs_size(); i++) {
        uint8_t* bytes = interpreter.input(i)->data.uint8;

        for (size_t j = 0; j < interpreter.input(i)->bytes; j++) {
            state = state * 1664525u + 1013904223u;
            bytes[j] = static_cast<uint8_t>(state >> 24);
        }
    }
}

uint32_t OutputsCrc32(MicroInterpreter& interpreter)
{
    uint32_t crc = 0;

    for (size_t i = 0; i < interpreter.outputs_size(); i++) {
        crc = tflnest_crc32(crc, interpreter.output(i)->data.raw, interpreter.output(i)->bytes);
    }
    return crc;
}

int Run(void (*print)(const char*), MicroInterpreter& interpreter, const Expectation& expectation)
{
    print("level ");
    PrintNumber(print, expectation.level, 10, 1);
    FillInputs(interpreter);
    if (static_cast<int>(interpreter.Invoke()) != 0) {
        print(": failed\n");
        return 1;
    }
    const uint32_t crc = OutputsCrc32(interpreter);
    print(": outputs ");
    PrintNumber(print, crc, 16, 8);
    print(crc == expectation.crc32 ? ", as expected\n" : ", WRONG\n");
    return crc == expectation.crc32 ? 0 : 1;
}

}  // namespace

int selftest(void (*print)(const char* text))
{
    static tflnest_tflm nested;
    if (tflnest_tflm_open(&nested, model_tflite, model_tflite_size) != TFLNEST_OK) {
        print("the model is damaged\n");
        return 1;
    }
    static MicroMutableOpResolver<$count> resolver;
$adds
    static MicroInterpreter interpreter(GetModel(model_tflite), resolver, arena, sizeof arena);
    if (static_cast<int>(interpreter.AllocateTensors()) != 0) {
        print("AllocateTensors failed\n");
        return 1;
    }
    print("arena ");
    PrintNumber(print, static_cast<uint32_t>(interpreter.arena_used_bytes()), 10, 1);
    print(" bytes\n");

    int wrong = 0;
    for (size_t step = 0; step < 2 * kLevels - 1; step++) {
        const Expectation& next = expected[step < kLevels ? step : 2 * kLevels - 2 - step];
        if (tflnest_tflm_set_level(&nested, next.level) != TFLNEST_OK) {
            print("a level cannot be chosen\n");
            wrong++;
            continue;
        }
        wrong += Run(print, interpreter, next);
    }
    print(wrong == 0 ? "all is well\n" : "NOT the outputs that were expected\n");
    return wrong;
}
