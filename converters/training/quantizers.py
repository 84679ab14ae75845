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
    steps = ops.clip(weights / scales, FILTER_MIN, INT8_MAX)
    codes = ops.round(steps)
    if nesting is not None and level < MASTER_BITS:
        width = float(1 << (MASTER_BITS - level))
        codes = ops.floor((codes - INT8_MIN) / width) * width + (nesting.mid(level) + INT8_MIN)
    return straight_through(steps, codes) * scales


def activation_at_bits(values: Any, scale: Any, zero_point: int, bits: int = MASTER_BITS) -> Any:
    """An activation as int8 holds it, in real numbers.

    Below 8 bits the int8 codes are shifted right with rounding and back (DQT, equation 4): real 0 stays 0 where
    the zero point is -128.

    Args:
        values: Real numbers.
        scale: > 0, a scalar.
        zero_point: -128 to 127.
        bits: 1 to 8.
    """
    steps = ops.clip(values / scale + zero_point, INT8_MIN, INT8_MAX)
    codes = ops.round(steps)
    if bits < MASTER_BITS:
        width = float(1 << (MASTER_BITS - bits))
        highest = float((1 << bits) - 1)
        codes = ops.clip(ops.floor((codes - INT8_MIN) / width + 0.5), 0.0, highest) * width + INT8_MIN
    return (straight_through(steps, codes) - zero_point) * scale
