"""ADD, SUB, MUL, MAXIMUM, MINIMUM with broadcasting.

int8 pairs go through a table (`tflnest.kernels.lookup`); int32 and float32 are numpy's own arithmetic, which
wraps and rounds as C does.

Sources: TFLM kernels/add_common.cc, sub_common.cc, mul_common.cc, reference/integer_ops/add.h and mul.h.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tflnest.errors import FormatError
from tflnest.fixedpoint import (
    INT32_MAX,
    INT32_MIN,
    MAX_SHIFT,
    Rounding,
    activation_range,
    multiply_by_quantized_multiplier,
    quantize_multiplier,
    quantize_multiplier_smaller_than_one,
)
from tflnest.graph import Tensor
from tflnest.kernels import lookup
from tflnest.kernels.checks import (
    fused_activation,
    input_tensor,
    leads_with_samples,
    malformed,
    output_tensor,
    require_arity,
    require_same_type,
    require_shape,
    require_type,
    scale_of,
    unsupported,
    zero_point_of,
)
from tflnest.kernels.registry import Arrays, Evaluate, Kernel, Node, register

#: Bits by which ADD and SUB scale int8 inputs up before they are multiplied.
LEFT_SHIFT = 20

_FLOAT_MAX = float(np.finfo(np.float32).max)
_FLOAT_RANGES = {
    "NONE": (-_FLOAT_MAX, _FLOAT_MAX),
    "RELU": (0.0, _FLOAT_MAX),
    "RELU6": (0.0, 6.0),
    "RELU_N1_TO_1": (-1.0, 1.0),
}
_INT32_RANGES = {
    "NONE": (INT32_MIN, INT32_MAX),
    "RELU": (0, INT32_MAX),
    "RELU6": (0, 6),
    "RELU_N1_TO_1": (-1, 1),
}

PairFunction = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[Any]]


#: Multiplier and shift of a factor between scales.
Factor = tuple[int, int]


@dataclass(frozen=True)
class Pair:
    """The tensors of a binary operator that makes sense."""

    first: Tensor
    second: Tensor
    output: Tensor

    @property
    def zero_points(self) -> tuple[int, int, int]:
        """Of the two inputs and of the output."""
        return self.first.zero_point, self.second.zero_point, self.output.zero_point


@dataclass(frozen=True)
class CheckedSum:
    """An int8 ADD or SUB that makes sense.

    Both inputs are brought to twice the larger of their scales, with `LEFT_SHIFT` bits of fraction; their sum or
    difference is brought to the output's scale.

    Attributes:
        pair: Its tensors.
        first: Factor of the first input; its shift is not positive, nor are the others.
        second: Factor of the second input.
        total: Factor of the sum.
        sign: 1, or -1 where the second input is subtracted.
        range: Smallest and largest output.
    """

    pair: Pair
    first: Factor
    second: Factor
    total: Factor
    sign: int
    range: tuple[int, int]

    def function(self, rounding: Rounding) -> PairFunction:
        """The operator as a function of the stored values."""
        points = self.pair.zero_points

        def function(x: NDArray[np.int64], y: NDArray[np.int64]) -> NDArray[Any]:
            scaled_x = multiply_by_quantized_multiplier((x - points[0]) << LEFT_SHIFT, *self.first, rounding)
            scaled_y = multiply_by_quantized_multiplier((y - points[1]) << LEFT_SHIFT, *self.second, rounding)
            total = scaled_x + self.sign * scaled_y
            result = multiply_by_quantized_multiplier(total, *self.total, rounding)
            return np.clip(result + points[2], *self.range)

        return function


@dataclass(frozen=True)
class CheckedProduct:
    """An int8 MUL that makes sense.

    Attributes:
        pair: Its tensors.
        factor: From the product to the output's scale.
        range: Smallest and largest output.
    """

    pair: Pair
    factor: Factor
    range: tuple[int, int]

    def function(self, rounding: Rounding) -> PairFunction:
        """The operator as a function of the stored values."""
        points = self.pair.zero_points

        def function(x: NDArray[np.int64], y: NDArray[np.int64]) -> NDArray[Any]:
            product = (x - points[0]) * (y - points[1])
            result = multiply_by_quantized_multiplier(product, *self.factor, rounding)
            return np.clip(result + points[2], *self.range)

        return function


def checked_pair(node: Node, types: tuple[str, ...]) -> Pair:
    """The tensors of a binary operator.

    Args:
        node: The operator.
        types: Tensor types that it may have; all its tensors have the same.

    Raises:
        UnsupportedError: They have other types.
        FormatError: The operator contradicts itself.
    """
    require_arity(node, 2)
    first, second, output = input_tensor(node, 0), input_tensor(node, 1), output_tensor(node)
    require_type(node, output, types)
    require_same_type(node, [output, first, second])
    try:
        shape = np.broadcast_shapes(first.shape, second.shape)
    except ValueError:
        raise malformed(
            node, f"shapes {list(first.shape)} and {list(second.shape)} cannot be broadcast to each other"
        ) from None
    require_shape(node, output, shape)
    return Pair(first, second, output)


def _batchable(node: Node, pair: Pair) -> bool:
    """Samples lead if every non-constant input has all the output's dimensions."""
    rank = len(pair.output.shape)
    inputs = [tensor for tensor in (pair.first, pair.second) if not tensor.is_constant]
    return leads_with_samples(node) and all(len(tensor.shape) == rank for tensor in inputs)


def _int8_range(node: Node, output: Tensor) -> tuple[int, int]:
    return activation_range(fused_activation(node), scale_of(node, output), zero_point_of(node, output))


def _smaller_than_one(node: Node, real: float) -> tuple[int, int]:
    try:
        return quantize_multiplier_smaller_than_one(real)
    except FormatError:
        raise unsupported(
            node, f"its scales are too far apart: a factor of {real:g} between them must lie between 0 and 1"
        ) from None


def checked_add(node: Node) -> CheckedSum:
    """An int8 ADD.

    Raises:
        UnsupportedError: It is not int8, or its scales are too far apart.
        FormatError: The operator contradicts itself.
    """
    pair = _int8_pair(node)
    return _checked_sum(node, pair, _add_factors(pair), 1)


def checked_sub(node: Node) -> CheckedSum:
    """An int8 SUB; raises what `checked_add` does."""
    pair = _int8_pair(node)
    return _checked_sum(node, pair, _sub_factors(pair), -1)


def _int8_pair(node: Node) -> Pair:
    pair = checked_pair(node, ("INT8",))
    for tensor in (pair.first, pair.second, pair.output):
        scale_of(node, tensor)
        zero_point_of(node, tensor)
    return pair


def _checked_sum(node: Node, pair: Pair, factors: tuple[float, float, float], sign: int) -> CheckedSum:
    first, second, total = (_smaller_than_one(node, factor) for factor in factors)
    return CheckedSum(pair, first, second, total, sign, _int8_range(node, pair.output))


def _add_factors(pair: Pair) -> tuple[float, float, float]:
    """In float64, from the float32 scales."""
    twice = 2 * max(pair.first.scale, pair.second.scale)
    return (
        pair.first.scale / twice,
        pair.second.scale / twice,
        twice / ((1 << LEFT_SHIFT) * pair.output.scale),
    )


def _sub_factors(pair: Pair) -> tuple[float, float, float]:
    """In float32: TFLM computes SUB's factors in a narrower type than ADD's."""
    first, second, output = (np.float32(tensor.scale) for tensor in (pair.first, pair.second, pair.output))
    with np.errstate(all="ignore"):
        twice = np.float32(2) * max(first, second)
        total = twice / (np.float32(1 << LEFT_SHIFT) * output)
        return float(first / twice), float(second / twice), float(total)


def checked_mul(node: Node) -> CheckedProduct:
    """An int8 MUL; raises what `checked_add` does."""
    pair = _int8_pair(node)
    real = pair.first.scale * pair.second.scale / pair.output.scale
    multiplier, shift = quantize_multiplier(real)
    if shift > MAX_SHIFT:
        raise unsupported(node, f"its output scale is too small: a factor of {real:g} overflows 32 bits")
    return CheckedProduct(pair, (multiplier, shift), _int8_range(node, pair.output))


def _unquantized(
    node: Node, pair: Pair, function: Callable[..., NDArray[Any]], clamps_int32: bool
) -> Evaluate:
    activation = fused_activation(node)
    bounds: tuple[float, float] | None = _FLOAT_RANGES[activation]
    if pair.output.type == "INT32":
        if any(tensor.quantization is not None for tensor in (pair.first, pair.second)):
            raise unsupported(node, "quantized INT32 inputs")
        bounds = _INT32_RANGES[activation] if clamps_int32 and activation != "NONE" else None

    def evaluate(inputs: Arrays) -> tuple[NDArray[Any], ...]:
        with np.errstate(all="ignore"):
            result = function(inputs[0], inputs[1])
        return (result if bounds is None else np.clip(result, *bounds).astype(result.dtype),)

    return evaluate


@register("ADD")
def prepare_add(node: Node) -> Kernel:
    """ADD: INT8, INT32 (whose fused activation TFLM ignores), FLOAT32."""
    pair = checked_pair(node, ("INT8", "INT32", "FLOAT32"))
    if pair.output.type != "INT8":
        return Kernel(_unquantized(node, pair, np.add, clamps_int32=False), _batchable(node, pair))
    table = lookup.pair_table_of(checked_add(node).function(node.rounding))
    return Kernel(lookup.binary(table), _batchable(node, pair))


@register("SUB")
def prepare_sub(node: Node) -> Kernel:
    """SUB: INT8, INT32, FLOAT32."""
    pair = checked_pair(node, ("INT8", "INT32", "FLOAT32"))
    if pair.output.type != "INT8":
        return Kernel(_unquantized(node, pair, np.subtract, clamps_int32=True), _batchable(node, pair))
    table = lookup.pair_table_of(checked_sub(node).function(node.rounding))
    return Kernel(lookup.binary(table), _batchable(node, pair))


@register("MUL")
def prepare_mul(node: Node) -> Kernel:
    """MUL: INT8, INT32, FLOAT32."""
    pair = checked_pair(node, ("INT8", "INT32", "FLOAT32"))
    if pair.output.type != "INT8":
        return Kernel(_unquantized(node, pair, np.multiply, clamps_int32=True), _batchable(node, pair))
    table = lookup.pair_table_of(checked_mul(node).function(node.rounding))
    return Kernel(lookup.binary(table), _batchable(node, pair))


def _prepare_extremum(
    node: Node, function: Callable[..., NDArray[Any]], compare: Callable[..., NDArray[Any]]
) -> Kernel:
    pair = checked_pair(node, ("INT8", "INT16", "INT32", "INT64", "FLOAT32"))

    def evaluate(inputs: Arrays) -> tuple[NDArray[Any], ...]:
        first, second = inputs[0], inputs[1]
        assert first is not None and second is not None
        if pair.output.type == "FLOAT32":  # numpy's extrema prefer NaN, C's comparison the second operand
            return (np.where(compare(first, second), first, second),)
        return (function(first, second),)

    return Kernel(evaluate, _batchable(node, pair))


@register("MAXIMUM")
def prepare_maximum(node: Node) -> Kernel:
    """MAXIMUM of the stored values; differing scales are not reconciled, as in TFLM."""
    return _prepare_extremum(node, np.maximum, np.greater)


@register("MINIMUM")
def prepare_minimum(node: Node) -> Kernel:
    """MINIMUM of the stored values; differing scales are not reconciled, as in TFLM."""
    return _prepare_extremum(node, np.minimum, np.less)
