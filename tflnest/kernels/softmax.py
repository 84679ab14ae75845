"""SOFTMAX over the last axis, int8 in, int8 or int16 out.

The difference to the largest value takes 256 values, so that exp is a table.

Sources: TFLM kernels/softmax_common.cc, reference/softmax.h.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tflnest.fixedpoint import (
    Rounding,
    multiply_by_quantized_multiplier,
    quantize_multiplier,
    rounding_divide_by_pot,
    saturating_rounding_doubling_high_mul,
)
from tflnest.graph import Tensor
from tflnest.kernels import functions
from tflnest.kernels.checks import (
    input_tensor,
    leads_with_samples,
    malformed,
    output_tensor,
    require_arity,
    require_shape,
    require_type,
    scale_of,
    unsupported,
    zero_point_of,
)
from tflnest.kernels.registry import Arrays, Kernel, Node, register

#: Integer bits of the scaled differences and of the sum of exponentials.
DIFFERENCE_BITS, SUM_BITS = 5, 12

#: Longest last axis: a sum of so many ones, which may wrap to a negative int32, is still told from 0.
MAX_DEPTH = (1 << (SUM_BITS + 1)) - 1

#: Output zero point and scale that TFLM demands of each output type, and the scale's tolerance.
_OUTPUTS = {"INT8": (-128, 1 / 256, 0.0), "INT16": (-32768, 1 / 65536, 0.001)}


def _check_output(node: Node, output: Tensor) -> None:
    zero_point, scale, tolerance = _OUTPUTS[output.type]
    if zero_point_of(node, output) != zero_point or abs(scale_of(node, output) - scale) > tolerance * scale:
        raise unsupported(
            node,
            f"output scale {output.scale:g} and zero point {output.zero_point}, "
            f"must be {scale:g} and {zero_point} for {output.type}",
        )


def exponentials(node: Node, scale: float, beta: float) -> NDArray[np.int64]:
    """exp(-beta * scale * d) for d = 0 ... 255, no integer bits; 0 where the argument has too many bits."""
    largest = (1 << (30 if node.rounding is Rounding.SINGLE else 31)) - 1.0
    real = min(beta * scale * (1 << (31 - DIFFERENCE_BITS)), largest)
    if not real > 1.0:
        raise unsupported(node, f"beta {beta:g} times the input scale {scale:g} is too small")
    multiplier, shift = quantize_multiplier(real)
    if shift > 31:
        raise unsupported(node, f"beta {beta:g} times the input scale {scale:g} is too large")
    radius = math.floor(((1 << DIFFERENCE_BITS) - 1) * (1 << (31 - DIFFERENCE_BITS)) / (1 << shift))
    differences = -np.arange(256, dtype=np.int64)
    inside = differences >= -radius
    scaled = multiply_by_quantized_multiplier(
        np.where(inside, differences, 0), multiplier, min(shift, 31), node.rounding
    )
    return np.where(inside, functions.exp_of_negative(scaled, DIFFERENCE_BITS), 0)


@register("SOFTMAX")
def prepare_softmax(node: Node) -> Kernel:
    """SOFTMAX: INT8 to INT8 or INT16."""
    require_arity(node, 1)
    tensor, output = input_tensor(node, 0), output_tensor(node)
    require_type(node, tensor, ("INT8",))
    require_type(node, output, _OUTPUTS)
    require_shape(node, output, tensor.shape)
    if not tensor.shape or not 1 <= tensor.shape[-1] <= MAX_DEPTH:
        raise malformed(node, f"its input has shape {list(tensor.shape)}, a last axis of 1 to {MAX_DEPTH} expected")
    _check_output(node, output)
    zero_point_of(node, tensor)
    beta = float(np.float32(node.operator.options.get("beta", 1.0)))
    table = exponentials(node, scale_of(node, tensor), beta)
    addends = rounding_divide_by_pot(table, SUM_BITS)
    info = np.iinfo(output.dtype)
    shift_of_one = 31 - info.bits

    def evaluate(inputs: Arrays) -> tuple[NDArray[Any], ...]:
        values = inputs[0]
        assert values is not None
        difference = (values.max(axis=-1, keepdims=True).astype(np.int16) - values).astype(np.intp)
        total = addends.take(difference).sum(axis=-1, keepdims=True)
        mantissa, right_shift = functions.reciprocal(total, SUM_BITS)
        product = saturating_rounding_doubling_high_mul(mantissa, table.take(difference))
        result = rounding_divide_by_pot(product, right_shift + shift_of_one) + info.min
        return (np.clip(result, info.min, info.max).astype(output.dtype),)

    return Kernel(evaluate, leads_with_samples(node) and len(tensor.shape) > 1)
