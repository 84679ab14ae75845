"""Quantizers with gradients: rounding passes them through, clipping stops them, scales learn.

The values are those that the integer engines compute with. Gradients are those of LSQ (Esser et al., ICLR 2020):
straight through the rounding, so that a scale sees the rounding error inside the range and the limit outside.
Scales are trained as the logarithm of what they are multiplied by, which keeps them positive, with the gradient
divided as LSQ proposes by the root of the number of values times the largest code.
"""

from __future__ import annotations

import math
from typing import Any

from keras import ops

from tflnest.nesting import MASTER_BITS, Nesting

INT8_MIN, INT8_MAX = -128, 127

#: Filters keep to the symmetric range that the TFLite specification asks for.
FILTER_MIN = -127


def straight_through(smooth: Any, value: Any) -> Any:
    """The second argument forward, the gradient of the first one backward."""
    return smooth + ops.stop_gradient(value - smooth)


def learned_scale(initial: Any, logarithm: Any, count: int) -> Any:
    """A scale that learns.

    Args:
        initial: Positive start values.
        logarithm: Trained, 0 at the start, shaped like `initial`.
        count: How many values share one scale.
    """
    factor = 1.0 / math.sqrt(count * INT8_MAX)
    return initial * ops.exp(straight_through(logarithm * factor, logarithm))


def filter_at_level(weights: Any, scales: Any, nesting: Nesting | None, level: int) -> Any:
    """A filter as it is at a level, in real numbers.

    Args:
        weights: Real numbers.
        scales: Positive, broadcast against them.
        nesting: How the filter nests (`bucket`); None where it stays flat.
        level: One of the nesting's levels; 8 for a flat filter.

    Returns:
        What `Nesting.join` gives for the rounded weights' planes, times the scale.
    """
    if nesting is None or level == MASTER_BITS:
        return filter_in_buckets(weights, scales, None, None)
    return filter_in_buckets(weights, scales, bucket_width(level), float(nesting.mid(level)))


def bucket_width(level: int) -> float:
    """How many int8 codes a code of a level stands for."""
    return float(1 << (MASTER_BITS - level))


def filter_in_buckets(weights: Any, scales: Any, width: Any, middle: Any) -> Any:
    """A filter whose int8 codes are those of their buckets' middles, in real numbers.

    Args:
        weights: Real numbers.
        scales: Positive, broadcast against them.
        width: Codes in a bucket, a number or a scalar tensor; None for the int8 codes themselves.
        middle: Of the bucket that starts at 0; a number or a scalar tensor.
    """
    steps = ops.clip(weights / scales, FILTER_MIN, INT8_MAX)
    codes = ops.round(steps)
    if width is not None:
        codes = ops.floor((codes - INT8_MIN) / width) * width + (middle + INT8_MIN)
    return straight_through(steps, codes) * scales


def activation_at_bits(values: Any, scale: Any, zero_point: int, bits: Any = MASTER_BITS) -> Any:
    """An activation as int8 holds it, in real numbers.

    Below 8 bits the int8 codes are shifted right with rounding and back (DQT, equation 4): real 0 stays 0 where
    the zero point is -128. The gradients are written out, because most of the time of a training that is not
    spent in convolutions is spent here.

    Args:
        values: Real numbers.
        scale: > 0, a scalar.
        zero_point: -128 to 127.
        bits: 1 to 8, a number or a scalar tensor.
    """
    low, high = float(INT8_MIN - zero_point), float(INT8_MAX - zero_point)
    full = isinstance(bits, int) and bits == MASTER_BITS

    def quantize(values: Any, scale: Any) -> Any:
        codes = ops.round(ops.clip(values * (1.0 / scale), low, high))
        if not full:
            codes = _narrowed(codes - low, bits) + low
        quantized = codes * scale

        def gradients(*arguments: Any, upstream: Any = None) -> tuple[Any, Any]:
            slope = arguments[0] if upstream is None else upstream
            inside = ops.logical_and(values >= low * scale, values <= high * scale)
            passed = ops.where(inside, slope, 0.0)
            # Inside the range a scale sees the rounding error, outside the limit (LSQ, equation 3).
            return passed, (_inner(slope, quantized) - _inner(passed, values)) / scale

        return quantized, gradients

    return ops.custom_gradient(quantize)(ops.convert_to_tensor(values), ops.convert_to_tensor(scale))


def _narrowed(codes: Any, bits: Any) -> Any:
    """Unsigned 8-bit codes shifted right with rounding to fewer bits, and back."""
    levels = 2.0 ** ops.cast(bits, "float32")
    width = 2.0**MASTER_BITS / levels
    return ops.minimum(ops.floor(codes / width + 0.5), levels - 1.0) * width


def _inner(first: Any, second: Any) -> Any:
    """The sum of all products."""
    return ops.vdot(ops.reshape(first, (-1,)), ops.reshape(second, (-1,)))
