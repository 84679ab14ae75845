"""The integer engines' requantization in `keras.ops`, for outputs that are theirs to the last bit, or nearly.

Rounding differs from that of real numbers in rare cases, which grow from layer to layer: of ResNet8's test images one
in seventy gets another class. Sources: gemmlowp's fixedpoint.h, TFLM kernels/pooling_common.cc.
"""

from __future__ import annotations

from typing import Any

from keras import ops

from converters.training.quantizers import INT8_MAX, INT8_MIN

#: What sets quotients apart that are a half from those that floating point leaves below it.
_TOLERANCE = 1e-4


def codes_of(values: Any, scales: Any) -> Any:
    """Integers, as floating point, of values that are multiples of a scale."""
    return ops.round(values / scales)


def requantized(sums: Any, multipliers: Any, zero_point: int) -> Any:
    """Int8 outputs, less their zero point, of accumulators.

    Rounds twice, as TFLM does: half up after the multiplication by 32 bits, half away from zero after the shift.

    Args:
        sums: Accumulators with biases; whole numbers below 2^24.
        multipliers: > 0, broadcast against them.
        zero_point: Of the output.
    """
    shift = ops.maximum(-(ops.floor(ops.log2(multipliers)) + 1.0), 0.0)
    kept = 2.0**shift
    first = ops.floor(sums * (multipliers * kept) + 0.5)
    second = ops.sign(first) * ops.floor(ops.abs(first) / kept + 0.5)
    return ops.clip(second, INT8_MIN - zero_point, INT8_MAX - zero_point)


def averaged(means: Any, zero_point: int) -> Any:
    """Int8 outputs, less their zero point, of means of int8 inputs less theirs; rounds half away from zero."""
    codes = means + zero_point
    return ops.sign(codes) * ops.floor(ops.abs(codes) + (0.5 + _TOLERANCE)) - zero_point
