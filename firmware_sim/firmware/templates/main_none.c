/* Runs the model once per level on input that is always the same, and reports what came out as lines of text.
 *
 * Input bytes are the highest ones of a linear congruential generator (seed $seed); they start over for
 * every run, and go through the inputs one after another. Levels are run upwards and down again: what a level
 * computes must not depend on what ran before.
 *
 *     model IDENTITY
 *     level LEVEL status STATUS crc CRC-32-OF-ALL-OUTPUTS
 *     ...
 *     stack BYTES
 *     end
 */
#include <stdint.h>

#include "model.h"
#include "port.h"
#include "tflnest/tflnest_crc32.h"

static void text(const char *characters)
{
    /* One by one: compilers make a call of strlen() of a loop that counts. */
    for (; *characters != '\0'; characters++) {
        port_write((const uint8_t *)characters, 1u);
    }
}

static void decimal(int32_t value)
{
    char digits[12];
    uint32_t at = sizeof digits - 1u;
    uint32_t rest = value < 0 ? 0u - (uint32_t)value : (uint32_t)value;

    digits[at] = '\0';
    do {
        digits[--at] = (char)('0' + rest % 10u);
        rest /= 10u;
    } while (rest > 0u);
    if (value < 0) {
        digits[--at] = '-';
    }
    text(&digits[at]);
}

static void hexadecimal(uint32_t value)
{
    char digits[9];

    for (uint32_t i = 0; i < 8u; i++) {
        digits[i] = "0123456789abcdef"[value >> (28u - 4u * i) & 15u];
    }
    digits[8] = '\0';
    text(digits);
}

$inputs_and_outputs
static void run(uint32_t level)
{
    tflnest_status status = tflnest_pager_set_level(&model_pager, level);

    text("level ");
    decimal((int32_t)level);
    text(" status ");
    if (status == TFLNEST_OK) {
        fill_inputs();
        port_mark_start(PORT_MARK_LIMIT - 1u);
        status = tflnest_pager_invoke(&model_pager);
        port_mark_stop(PORT_MARK_LIMIT - 1u);
    }
    decimal(status);
    if (status == TFLNEST_OK) {
        text(" crc ");
        hexadecimal(outputs_crc32());
#ifdef MODEL_CONTROLLED
        text(" widths");
        for (uint32_t i = 0; i < MODEL_CONTROLLED; i++) {
            text(" ");
            decimal(model_widths[i][0]);
            text(":");
            decimal(model_widths[i][1]);
        }
#endif
    }
    text("\n");
}

int main(void)
{
    tflnest_status status;

    port_init();
    status = model_start();
    text("model " MODEL_IDENTITY "\n");
    if (status == TFLNEST_OK) {
        for (uint32_t i = 0; i < model.level_count; i++) {
            run(model.levels[i]);
        }
        for (uint32_t i = model.level_count - 1u; i > 0u; i--) {
            run(model.levels[i - 1u]);
        }
    } else {
        text("start status ");
        decimal(status);
        text("\n");
    }
    text("stack ");
    decimal((int32_t)port_stack_peak());
    text("\nend\n");
    for (;;) {
        port_wait();
    }
}
