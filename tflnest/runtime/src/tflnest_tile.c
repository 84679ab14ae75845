#include "tflnest_tile.h"

/* Bounds within which `tflnest_requantize_right` is exact. */
#define QUICK_MAX_SHIFT 23
#define QUICK_MAX_SUM (INT32_C(1) << 29)

/* Largest product of a weight and an activation less its zero point. */
#define LARGEST_PRODUCT (255 * 128)

static uint32_t round_up(uint32_t bytes)
{
    return (bytes + 7u) & ~7u;
}

/* Bytes of the parameters. */
static uint32_t parameter_bytes(uint32_t channels)
{
    const uint32_t groups = (channels + TFLNEST_CHANNEL_GROUP - 1) / TFLNEST_CHANNEL_GROUP;
    return groups * TFLNEST_CHANNEL_GROUP * (uint32_t)sizeof(tflnest_channel);
}

uint32_t tflnest_tile_bytes(uint32_t channels, uint32_t products)
{
    return parameter_bytes(channels) + round_up(tflnest_tile_weight_bytes(channels, products));
}

void tflnest_tile_place(tflnest_tile *tile, void *scratch, uint32_t channels, uint32_t products,
                        const tflnest_requantization *requantization)
{
    tile->parameters = scratch;
    tile->weights = (void *)((uint8_t *)scratch + parameter_bytes(channels));
    tile->channels = channels;
    tile->products = products;
    tile->requantization = requantization;
}

static int32_t output_of(const tflnest_channel *channel, const tflnest_requantization *requantization, int64_t acc)
{
    const int32_t value = tflnest_requantize((int32_t)acc, channel->multiplier, channel->rounding);
    return tflnest_clamp(tflnest_add_wrapping(value, requantization->output_zero_point),
                         requantization->activation_min, requantization->activation_max);
}

#if TFLNEST_VARIANT != TFLNEST_VARIANT_MVE

/* Bring a channel, whose `rounding` is its shift, to the quick form where that gives the same outputs. */
static void quicken(tflnest_channel *channel, const tflnest_requantization *requantization, uint32_t products)
{
    const int64_t reach = (int64_t)products * LARGEST_PRODUCT;
    const int64_t low = channel->bias - reach, high = channel->bias + reach;
    const int32_t right = -channel->rounding;
    if (right >= 1 && right <= QUICK_MAX_SHIFT && low > -QUICK_MAX_SUM && high < QUICK_MAX_SUM) {
        channel->shift = right;
        channel->rounding =
            (INT32_C(1) << (right - 1)) + requantization->output_zero_point * (INT32_C(1) << right);
    } else if (right >= 0 && low >= INT32_MIN && high <= INT32_MAX) {
        /* Requantization is monotonic: a channel with the same output at both ends is constant. */
        const int32_t value = output_of(channel, requantization, low);
        if (value == output_of(channel, requantization, high)) {
            channel->multiplier = 0;
            channel->shift = 1;
            channel->rounding = 2 * value + 1;
        }
    }
}

#else

/* Vectors are requantized at any shift. */
static void quicken(tflnest_channel *channel, const tflnest_requantization *requantization, uint32_t products)
{
    (void)channel;
    (void)requantization;
    (void)products;
}

#endif

void tflnest_tile_set_channel(tflnest_tile *tile, uint32_t index, const tflnest_filter *filter, uint32_t number)
{
    tflnest_channel *channel = &tile->parameters[index];
    const uint32_t scale = filter->per_channel ? number : 0;
    channel->bias = filter->bias == NULL ? 0 : filter->bias[number];
    channel->multiplier = filter->multipliers[scale];
    channel->rounding = filter->shifts[scale];
    channel->shift = 0;
    quicken(channel, tile->requantization, tile->products);
}

void tflnest_tile_set_channels(tflnest_tile *tile, const tflnest_filter *filter, uint32_t first, uint32_t channels)
{
    tile->channels = channels;
    for (uint32_t i = 0; i < channels; i++) {
        tflnest_tile_set_channel(tile, i, filter, first + i);
    }
    for (uint32_t i = channels; i % TFLNEST_CHANNEL_GROUP != 0; i++) {
        static const tflnest_channel nothing = {0, 0, 0, 1};
        tile->parameters[i] = nothing;
    }
}

int8_t tflnest_tile_finish_any(const tflnest_tile *tile, const tflnest_channel *channel, int32_t acc)
{
    return (int8_t)output_of(channel, tile->requantization, acc);
}

void tflnest_tile_decode(tflnest_tile *tile, const tflnest_filter *filter, uint32_t first, uint32_t channels)
{
    tflnest_tile_set_channels(tile, filter, first, channels);
    tflnest_tile_decode_rows(tile, filter, first);
}
