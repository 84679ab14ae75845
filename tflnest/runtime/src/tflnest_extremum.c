#include "tflnest/tflnest_extremum.h"

#include "tflnest_ranges.h"
#include "tflnest_walk.h"

tflnest_status tflnest_extremum_check(const tflnest_extremum_params *params)
{
    return tflnest_is_between(params->largest, 0, 1) ? tflnest_broadcast_check(&params->broadcast)
                                                     : TFLNEST_ERROR_ARGUMENT;
}

static void extremum_run(const void *parameters, const tflnest_broadcast *broadcast, const int8_t *first,
                         const int8_t *second, int8_t *output)
{
    const tflnest_extremum_params *params = (const tflnest_extremum_params *)parameters;
    for (int32_t i = 0; i < broadcast->run; i++) {
        const int takes_first = params->largest ? *first > *second : *first < *second;
        *output++ = takes_first ? *first : *second;
        first += broadcast->first_step;
        second += broadcast->second_step;
    }
}

void tflnest_extremum_s8(const tflnest_extremum_params *params, const int8_t *first, const int8_t *second,
                         int8_t *output)
{
    tflnest_broadcast_runs(&params->broadcast, extremum_run, params, first, second, output);
}
