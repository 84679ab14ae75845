"""SOFTMAX over the last axis, int8 in, int8 or int16 out.

The difference to the largest value takes 256 values, so that exp is a table.

Sources: TFLM kernels/softmax_common.cc, reference/softmax.h.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tflnest.fixedpoint import (
    Rounding,
    multiply_by_quantized_multiplier,
    quantize_multiplier,
    rounding_divide_by_pot,
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


@dataclass(frozen=True)
class CheckedSoftmax:
    """A SOFTMAX that makes sense.

    Attributes:
        source: Its input.
        output: Its output.
        exponentials: int64, shape (256,): exp by difference to the largest value, no integer bits.
    """

    source: Tensor
    output: Tensor
    exponentials: NDArray[np.int64]


def checked_softmax(node: Node) -> CheckedSoftmax:
    """A SOFTMAX from INT8 to INT8 or INT16.

    Raises:
        UnsupportedError: It has other types, or scales that TFLM refuses.
        FormatError: The operator contradicts itself.
    """
    require_arity(node, 1)
    tensor, output = input_tensor(node, 0), output_tensor(node)
    require_type(node, tensor, ("INT8",))
    require_type(node, output, _OUTPUTS)
    require_shape(node, output, tensor.shape)
    if not tensor.shape or not 1 <= tensor.shape[-1] <= MAX_DEPTH:
        raise malformed(
            node, f"its input has shape {list(tensor.shape)}, a last axis of 1 to {MAX_DEPTH} expected"
        )
    _check_output(node, output)
    zero_point_of(node, tensor)
    beta = float(np.float32(node.operator.options.get("beta", 1.0)))
    return CheckedSoftmax(tensor, output, exponentials(node, scale_of(node, tensor), beta))


@register("SOFTMAX")
def prepare_softmax(node: Node) -> Kernel:
    """SOFTMAX: INT8 to INT8 or INT16."""
    checked = checked_softmax(node)
    table, tensor = checked.exponentials, checked.source
    softmax = _Softmax(table, rounding_divide_by_pot(table, SUM_BITS), checked.output.dtype)

    def evaluate(inputs: Arrays) -> tuple[NDArray[Any], ...]:
        values = inputs[0]
        assert values is not None
        one_row = values.size == values.shape[-1]
        return (softmax.of_row(values) if one_row else softmax.of_rows(values),)

    return Kernel(evaluate, leads_with_samples(node) and len(tensor.shape) > 1)


@dataclass(frozen=True)
class _Softmax:
    """Exponentials divided by their sum.

    Attributes:
        table: int64, shape (256,): exp by difference to the largest value, no integer bits.
        addends: The same with `SUM_BITS` integer bits.
        dtype: Of the output.
    """

    table: NDArray[np.int64]
    addends: NDArray[np.int64]
    dtype: np.dtype[Any]

    def of_rows(self, values: NDArray[np.int8]) -> NDArray[Any]:
        """Over the last axis of any array."""
        index = values.max(axis=-1, keepdims=True).view(np.uint8) - values.view(np.uint8)
        total = self.addends.take(index).sum(axis=-1, keepdims=True)
        return self._divide(index, *functions.reciprocal(total, SUM_BITS))

    def of_row(self, values: NDArray[np.int8]) -> NDArray[Any]:
        """Where there is just one row: the reciprocal of its sum is computed with Python's integers."""
        index = values.max().view(np.uint8) - values.view(np.uint8)
        total = int(self.addends.take(index).sum())
        return self._divide(index, *functions.reciprocal_of_int(total, SUM_BITS))

    def _divide(self, index: NDArray[np.uint8], mantissa: Any, right_shift: Any) -> NDArray[Any]:
        info = np.iinfo(self.dtype)
        shift = right_shift + 31 - info.bits
        result: NDArray[Any] = functions.multiply(self.table.take(index), mantissa)
        result += (1 << shift) >> 1
        result >>= shift
        result += info.min
        np.minimum(result, info.max, out=result)
        return result.astype(self.dtype)
