#include "tflnest/tflnest_copy.h"

#include <string.h>

#include "tflnest_ranges.h"
#include "tflnest_walk.h"

/* Up to so many bytes a call of memcpy takes longer than a loop. */
#define SHORT_RUN 8

tflnest_status tflnest_copy_check(const tflnest_copy_params *params)
{
    const tflnest_loop *loops = params->loops;
    const int32_t loop_count = params->loop_count;
    if (tflnest_loops_turns(loops, loop_count) == 0 || !tflnest_is_between(params->fill, 0, 255) ||
        !tflnest_is_between(params->fill_size, 0, params->output_size) ||
        !tflnest_loops_stay_inside(loops, loop_count, 0, params->input_offset, params->run,
                                   params->input_size) ||
        !tflnest_loops_stay_inside(loops, loop_count, 1, params->output_offset, params->run,
                                   params->output_size)) {
        return TFLNEST_ERROR_ARGUMENT;
    }
    return TFLNEST_OK;
}

/* The turns of the innermost loop, for runs of one byte. */
static void copy_bytes(const tflnest_loop *loop, const uint8_t *from, uint8_t *to)
{
    const int32_t from_step = loop->first_step;
    const int32_t to_step = loop->second_step;
    for (int32_t turns = loop->count; turns > 0; turns--) {
        *to = *from;
        from += from_step;
        to += to_step;
    }
}

/* The same for runs of any length. */
static void copy_runs(const tflnest_loop *loop, int32_t run, const uint8_t *from, uint8_t *to)
{
    const int32_t from_step = loop->first_step;
    const int32_t to_step = loop->second_step;
    for (int32_t turns = loop->count; turns > 0; turns--) {
        if (run > SHORT_RUN) {
            memcpy(to, from, (size_t)run);
        } else {
            for (int32_t byte = 0; byte < run; byte++) {
                to[byte] = from[byte];
            }
        }
        from += from_step;
        to += to_step;
    }
}

void tflnest_copy_bytes(const tflnest_copy_params *params, const uint8_t *input, uint8_t *output)
{
    static const tflnest_loop once = {1, 0, 0};
    const int32_t outer = params->loop_count > 0 ? params->loop_count - 1 : 0;
    const tflnest_loop *inner = params->loop_count > 0 ? &params->loops[outer] : &once;
    tflnest_walk walk;
    memset(&walk, 0, sizeof walk);
    walk.first = params->input_offset;
    walk.second = params->output_offset;
    if (params->fill_size > 0) {
        memset(output, params->fill, (size_t)params->fill_size);
    }
    do {
        if (params->run == 1) {
            copy_bytes(inner, input + walk.first, output + walk.second);
        } else {
            copy_runs(inner, params->run, input + walk.first, output + walk.second);
        }
    } while (tflnest_walk_next(&walk, params->loops, outer));
}
