#include "tflnest/tflnest_reduce.h"

#include <string.h>

#include "tflnest_output.h"
#include "tflnest_ranges.h"
#include "tflnest_sums.h"
#include "tflnest_walk.h"

/* Most elements of one sum: it fits 32 bits. */
#define MAX_SUMMED (INT32_C(1) << 24)

static int32_t reach(const tflnest_loop *loops, int32_t loop_count)
{
    int32_t elements = 1;
    for (int32_t i = 0; i < loop_count; i++) {
        elements += (loops[i].count - 1) * loops[i].first_step;
    }
    return elements;
}

tflnest_status tflnest_sum_check(const tflnest_sum_params *params)
{
    const int32_t kept = tflnest_loops_turns(params->kept_loops, params->kept_count);
    const int32_t reduced = tflnest_loops_turns(params->reduced_loops, params->reduced_count);
    if (kept == 0 || reduced == 0 || reduced > MAX_SUMMED || params->run < 1 ||
        params->output_size > TFLNEST_MAX_EXTENT ||
        (int64_t)kept * params->run != params->output_size ||
        !tflnest_is_factor(params->multiplier, params->shift) || !tflnest_is_int8(params->output_zero_point)) {
        return TFLNEST_ERROR_ARGUMENT;
    }
    for (int32_t i = 0; i < params->kept_count; i++) {
        if (params->kept_loops[i].first_step < 0) {
            return TFLNEST_ERROR_ARGUMENT;
        }
    }
    if (!tflnest_loops_stay_inside(params->kept_loops, params->kept_count, 0, 0, params->run,
                                   params->input_size) ||
        !tflnest_loops_stay_inside(params->reduced_loops, params->reduced_count, 0,
                                   reach(params->kept_loops, params->kept_count) - 1, params->run,
                                   params->input_size)) {
        return TFLNEST_ERROR_ARGUMENT;
    }
    return TFLNEST_OK;
}

/* The sum at one place. */
static int32_t sum_one(const tflnest_sum_params *params, const int8_t *input)
{
    static const tflnest_loop once = {1, 0, 0};
    const int32_t outer = params->reduced_count > 0 ? params->reduced_count - 1 : 0;
    const tflnest_loop *inner = params->reduced_count > 0 ? &params->reduced_loops[outer] : &once;
    tflnest_walk walk;
    int32_t sum = 0;
    memset(&walk, 0, sizeof walk);
    do {
        const int8_t *next = input + walk.first;
        for (int32_t turns = inner->count; turns > 0; turns--) {
            sum += *next;
            next += inner->first_step;
        }
    } while (tflnest_walk_next(&walk, params->reduced_loops, outer));
    return sum;
}

static int8_t output_of(const tflnest_sum_params *params, int32_t sum)
{
    const int32_t centred = tflnest_add_wrapping(sum, params->offset);
    const int32_t scaled = tflnest_requantize(centred, params->multiplier, params->shift);
    return tflnest_to_int8(scaled, params->output_zero_point, INT8_MIN, INT8_MAX);
}

/* As many outputs of a run as fill whole vectors, where one short loop is reduced; returns how many. */
static int32_t run_quick(const tflnest_sum_params *params, const int8_t *input, int8_t *output)
{
    int32_t done = 0;
    if (params->reduced_count == 1 && params->reduced_loops[0].count <= TFLNEST_MAX_SUMMED) {
        const tflnest_loop *loop = &params->reduced_loops[0];
        const tflnest_window window = {input, 1, loop->count, 0, loop->first_step};
        for (; done + TFLNEST_LANES <= params->run; done += TFLNEST_LANES) {
            int32_t sums[TFLNEST_LANES];
            tflnest_sum_lanes(&window, done, sums);
            for (int32_t i = 0; i < TFLNEST_LANES; i++) {
                output[done + i] = output_of(params, sums[tflnest_lane(i)]);
            }
        }
    }
    return done;
}

void tflnest_sum_s8(const tflnest_sum_params *params, const int8_t *input, int8_t *output)
{
    tflnest_walk walk;
    memset(&walk, 0, sizeof walk);
    do {
        const int8_t *from = input + walk.first;
        for (int32_t i = run_quick(params, from, output); i < params->run; i++) {
            output[i] = output_of(params, sum_one(params, from + i));
        }
        output += params->run;
    } while (tflnest_walk_next(&walk, params->kept_loops, params->kept_count));
}

tflnest_status tflnest_arg_max_check(const tflnest_arg_max_params *params)
{
    if (params->outer < 1 || params->axis < 1 || params->inner < 1 ||
        !tflnest_is_between(params->output_words, 1, 2)) {
        return TFLNEST_ERROR_ARGUMENT;
    }
    const int64_t outputs = (int64_t)params->outer * params->inner;
    return outputs <= TFLNEST_MAX_EXTENT && outputs * params->axis <= TFLNEST_MAX_EXTENT ? TFLNEST_OK
                                                                                        : TFLNEST_ERROR_ARGUMENT;
}

void tflnest_arg_max_s8(const tflnest_arg_max_params *params, const int8_t *input, int32_t *output)
{
    for (int32_t outer = 0; outer < params->outer; outer++) {
        for (int32_t inner = 0; inner < params->inner; inner++) {
            const int8_t *next = input + inner;
            int8_t largest = *next;
            int32_t place = 0;
            for (int32_t i = 1; i < params->axis; i++) {
                next += params->inner;
                if (*next > largest) {
                    largest = *next;
                    place = i;
                }
            }
            *output++ = place;
            if (params->output_words == 2) {
                *output++ = 0;
            }
        }
        input += params->axis * params->inner;
    }
}
