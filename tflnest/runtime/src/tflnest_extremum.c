#include "tflnest/tflnest_extremum.h"

#include "tflnest_ranges.h"
#include "tflnest_simd.h"
#include "tflnest_walk.h"

tflnest_status tflnest_extremum_check(const tflnest_extremum_params *params)
{
    return tflnest_is_between(params->largest, 0, 1) ? tflnest_broadcast_check(&params->broadcast)
                                                     : TFLNEST_ERROR_ARGUMENT;
}

/* As many outputs of two contiguous inputs as fill whole vectors; returns how many. */
static int32_t extremum_quick(int32_t largest, int32_t count, const int8_t *first, const int8_t *second,
                              int8_t *output)
{
    int32_t done = 0;
#if defined(TFLNEST_SIMD_DSP)
    for (; done + 4 <= count; done += 4) {
        const uint32_t x = tflnest_load_word(first + done);
        const uint32_t y = tflnest_load_word(second + done);
        tflnest_store_word(output + done, largest ? tflnest_max_bytes(x, y) : tflnest_min_bytes(x, y));
    }
#elif defined(TFLNEST_SIMD_MVE)
    for (; done + 16 <= count; done += 16) {
        const int8x16_t x = vldrbq_s8(first + done);
        const int8x16_t y = vldrbq_s8(second + done);
        vstrbq_s8(output + done, largest ? vmaxq_s8(x, y) : vminq_s8(x, y));
    }
#else
    (void)largest, (void)count, (void)first, (void)second, (void)output;
#endif
    return done;
}

static void extremum_run(const void *parameters, const tflnest_broadcast *broadcast, const int8_t *first,
                         const int8_t *second, int8_t *output)
{
    const int32_t largest = ((const tflnest_extremum_params *)parameters)->largest;
    const int32_t run = broadcast->run;
    const int32_t first_step = broadcast->first_step;
    const int32_t second_step = broadcast->second_step;
    const int32_t done =
        first_step == 1 && second_step == 1 ? extremum_quick(largest, run, first, second, output) : 0;
    first += done * first_step;
    second += done * second_step;
    for (int32_t i = done; i < run; i++) {
        const int takes_first = largest ? *first > *second : *first < *second;
        output[i] = takes_first ? *first : *second;
        first += first_step;
        second += second_step;
    }
}

void tflnest_extremum_s8(const tflnest_extremum_params *params, const int8_t *first, const int8_t *second,
                         int8_t *output)
{
    tflnest_broadcast_runs(&params->broadcast, extremum_run, params, first, second, output);
}
