#include <string.h>

#include "tflnest_walk.h"

int tflnest_walk_next(tflnest_walk *walk, const tflnest_loop *loops, int32_t loop_count)
{
    for (int32_t i = loop_count - 1; i >= 0; i--) {
        if (walk->turns[i] + 1 < loops[i].count) {
            walk->turns[i]++;
            walk->first += loops[i].first_step;
            walk->second += loops[i].second_step;
            return 1;
        }
        walk->first -= loops[i].first_step * walk->turns[i];
        walk->second -= loops[i].second_step * walk->turns[i];
        walk->turns[i] = 0;
    }
    return 0;
}

int32_t tflnest_loops_turns(const tflnest_loop *loops, int32_t loop_count)
{
    int64_t turns = 1;
    if (loop_count < 0 || loop_count > TFLNEST_MAX_LOOPS || (loop_count > 0 && loops == NULL)) {
        return 0;
    }
    for (int32_t i = 0; i < loop_count; i++) {
        turns *= loops[i].count;
        if (loops[i].count < 1 || turns > TFLNEST_MAX_EXTENT) {
            return 0;
        }
    }
    return (int32_t)turns;
}

int tflnest_loops_stay_inside(const tflnest_loop *loops, int32_t loop_count, int second, int32_t offset,
                              int32_t run, int32_t size)
{
    int64_t low = offset;
    int64_t high = (int64_t)offset + run;
    if (offset < 0 || run < 1 || size > TFLNEST_MAX_EXTENT) {
        return 0;
    }
    for (int32_t i = 0; i < loop_count; i++) {
        const int64_t step = second ? loops[i].second_step : loops[i].first_step;
        const int64_t extent = (loops[i].count - 1) * step;
        *(extent < 0 ? &low : &high) += extent;
        if (low < 0 || high > size) {
            return 0;
        }
    }
    return high <= size;
}

tflnest_status tflnest_broadcast_check(const tflnest_broadcast *broadcast)
{
    const tflnest_loop *loops = broadcast->loops;
    const int32_t loop_count = broadcast->loop_count;
    const int32_t run = broadcast->run;
    const int32_t turns = tflnest_loops_turns(loops, loop_count);
    if (turns == 0 || run < 1 || broadcast->output_size > TFLNEST_MAX_EXTENT ||
        (int64_t)turns * run != broadcast->output_size ||
        ((broadcast->first_step | broadcast->second_step) & ~1) != 0) {
        return TFLNEST_ERROR_ARGUMENT;
    }
    if (!tflnest_loops_stay_inside(loops, loop_count, 0, 0, broadcast->first_step ? run : 1,
                                   broadcast->first_size) ||
        !tflnest_loops_stay_inside(loops, loop_count, 1, 0, broadcast->second_step ? run : 1,
                                   broadcast->second_size)) {
        return TFLNEST_ERROR_ARGUMENT;
    }
    return TFLNEST_OK;
}

void tflnest_broadcast_runs(const tflnest_broadcast *broadcast, tflnest_run run, const void *params,
                            const int8_t *first, const int8_t *second, int8_t *output)
{
    tflnest_walk walk;
    memset(&walk, 0, sizeof walk);
    do {
        run(params, broadcast, first + walk.first, second + walk.second, output);
        output += broadcast->run;
    } while (tflnest_walk_next(&walk, broadcast->loops, broadcast->loop_count));
}
