"""From filter scales to integer multipliers, and back.

A nested file stores what a device needs, the integer multiplier and shift of every output channel, and drops
the filter's scales. Scales are float32 (24 bits of precision) and multipliers have 31 bits, so the scale can
be computed back exactly. `materialize` and the stock kernels need it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tflnest.errors import FormatError
from tflnest.fixedpoint import quantize_multipliers


def effective_scales(
    input_scale: float, filter_scales: NDArray[np.float32], output_scale: float
) -> NDArray[np.float64]:
    """Real factor from accumulator to output, per channel, in float64 throughout.

    That is TFLM's PopulateConvolutionQuantizationParams, and what the tflite-micro package computes in
    FULLY_CONNECTED with one scale too. The source of August 2026 rounds the product of the first two scales to
    float32 there (GetQuantizedConvolutionMultipler), which differs where an accumulator is close to a tie.

    Args:
        input_scale: float32 value.
        filter_scales: float32, shape (1,) or (channels,).
        output_scale: float32 value.

    Returns:
        float64, same shape as `filter_scales`.
    """
    return np.float64(input_scale) * filter_scales.astype(np.float64) / np.float64(output_scale)


def recover_filter_scales(
    input_scale: float,
    output_scale: float,
    multiplier: NDArray[np.int32],
    shift: NDArray[np.int8],
) -> NDArray[np.float32]:
    """The float32 filter scales that give these multipliers.

    Args:
        input_scale: float32 value, > 0.
        output_scale: float32 value, > 0.
        multiplier: int32, shape (1,) or (channels,), as of TFLM's QuantizeMultiplier.
        shift: int8, same shape; positive is left.

    Returns:
        float32, same shape.

    Raises:
        FormatError: No float32 scale gives a multiplier.
    """
    if not (input_scale > 0 and output_scale > 0 and np.isfinite(input_scale) and np.isfinite(output_scale)):
        raise FormatError(f"a nested operator has input scale {input_scale} and output scale {output_scale}")
    with np.errstate(over="ignore", under="ignore"):
        real = np.ldexp(multiplier.astype(np.float64), shift.astype(np.int32) - 31)
        nearest = (real * np.float64(output_scale) / np.float64(input_scale)).astype(np.float32)
        result = nearest.copy()
        found = np.zeros(nearest.shape, dtype=np.bool_)
        for candidate in (
            nearest,
            np.nextafter(nearest, np.float32(0)),
            np.nextafter(nearest, np.float32(np.inf)),
        ):
            usable = np.isfinite(candidate) & (candidate > 0)
            trial = np.where(usable, candidate, np.float32(1))
            effective = effective_scales(input_scale, trial, output_scale)
            got_multiplier, got_shift = quantize_multipliers(effective)
            match = usable & ~found & (got_multiplier == multiplier) & (got_shift == shift)
            result[match] = candidate[match]
            found |= match
    if not found.all():
        channel = int(np.argmin(found))
        raise FormatError(
            f"channel {channel}: no float32 scale gives the multiplier {int(multiplier[channel])} with shift {int(shift[channel])}"
        )
    return result
