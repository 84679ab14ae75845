/* $heading */
#include "selftest.h"

#include <stdint.h>

#include "${name}.h"
#include "tflnest/tflnest_crc32.h"

typedef struct {
    uint32_t level; /* bits */
    uint32_t crc32; /* of all outputs, one after another */
} expectation;

static const expectation expected[] = {
$rows
};

#define LEVELS (sizeof expected / sizeof expected[0])

static void print_number(void (*print)(const char *text), uint32_t value, uint32_t base, uint32_t digits)
{
    char text[11];
    uint32_t at = sizeof text - 1u;

    text[at] = '\0';
    do {
        text[--at] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value > 0u || sizeof text - 1u - at < digits);
    print(&text[at]);
}

/* The highest bytes of a linear congruential generator, through all inputs one after another. */
$inputs_and_outputs
static int run(void (*print)(const char *text), const expectation *expectation)
{
    tflnest_status status = tflnest_pager_set_level(&model_pager, expectation->level);
    uint32_t crc;

    print("level ");
    print_number(print, expectation->level, 10u, 1u);
    if (status == TFLNEST_ERROR_RESIDENT) {
        print(": its pages are not here yet\n");
        return 0;
    }
    if (status == TFLNEST_OK) {
        fill_inputs();
        status = tflnest_pager_invoke(&model_pager);
    }
    if (status != TFLNEST_OK) {
        print(": failed with status -");
        print_number(print, (uint32_t)-status, 10u, 1u);
        print("\n");
        return 1;
    }
    crc = outputs_crc32();
    print(": outputs ");
    print_number(print, crc, 16u, 8u);
    print(crc == expectation->crc32 ? ", as expected\n" : ", WRONG\n");
    return crc == expectation->crc32 ? 0 : 1;
}

int selftest(void (*print)(const char *text))
{
    int wrong = 0;

    print("model " MODEL_IDENTITY "\n");
    if (model_start() != TFLNEST_OK) {
        print("the model is damaged\n");
        return (int)LEVELS;
    }
    for (uint32_t i = 0; i < LEVELS; i++) {
        wrong += run(print, &expected[i]);
    }
    for (uint32_t i = LEVELS - 1u; i > 0u; i--) {
        wrong += run(print, &expected[i - 1u]);
    }
    print(wrong == 0 ? "all is well\n" : "NOT the outputs that were expected\n");
    return wrong;
}
