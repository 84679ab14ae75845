"""LOGISTIC, TANH, RELU, RELU6, LEAKY_RELU, HARD_SWISH and PRELU, int8 by table.

Sources: TFLM kernels/logistic_common.cc, tanh.cc, activations_common.cc, leaky_relu_common.cc,
hard_swish_common.cc, prelu_common.cc and the reference kernels of the same names.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tflnest.fixedpoint import (
    MAX_SHIFT,
    Rounding,
    multiply_by_quantized_multiplier,
    quantize_multiplier,
    rounding_divide_by_pot,
)
from tflnest.graph import Tensor
from tflnest.kernels import functions, lookup
from tflnest.kernels.checks import (
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
from tflnest.kernels.elementwise import Factor, Pair, PairFunction
from tflnest.kernels.registry import Arrays, Kernel, Node, register

#: Integer bits of the arguments of LOGISTIC and TANH.
INTEGER_BITS = 4

INT8_MIN, INT8_MAX = -128, 127

_Unary = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def _unary_tensors(node: Node, types: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    require_arity(node, 1)
    tensor, output = input_tensor(node, 0), output_tensor(node)
    require_type(node, tensor, types)
    require_same_type(node, [tensor, output])
    require_shape(node, output, tensor.shape)
    return tensor, output


def _float_kernel(node: Node, function: _Unary) -> Kernel:
    def evaluate(inputs: Arrays) -> tuple[NDArray[Any], ...]:
        values = inputs[0]
        assert values is not None
        with np.errstate(all="ignore"):
            return (function(values).astype(np.float32, copy=False),)

    return Kernel(evaluate, leads_with_samples(node))


def _table_kernel(node: Node, function: Callable[[NDArray[np.int64]], NDArray[Any]]) -> Kernel:
    return Kernel(lookup.unary(lookup.table_of(function)), leads_with_samples(node))


def _clamp(values: NDArray[np.int64]) -> NDArray[np.int64]:
    clamped: NDArray[np.int64] = np.clip(values, INT8_MIN, INT8_MAX)
    return clamped


def _factor(node: Node, real: float) -> tuple[int, int]:
    """Multiplier and shift of a factor between scales."""
    multiplier, shift = quantize_multiplier(real)
    if shift > MAX_SHIFT:
        raise unsupported(node, f"its scales are too far apart: a factor of {real:g} overflows 32 bits")
    return multiplier, shift


def _saturating_table(
    node: Node, tensor: Tensor, function: Callable[[NDArray[np.int64]], NDArray[np.int64]]
) -> Kernel:
    """A function of a fixed-point argument with `INTEGER_BITS` integer bits that saturates outside of it."""
    mantissa, shift = math.frexp(scale_of(node, tensor) * (1 << (31 - INTEGER_BITS)))
    if shift < 0:
        raise unsupported(node, f"the input scale {tensor.scale:g} is too small for 32 bits")
    multiplier = math.floor(mantissa * (1 << 31) + 0.5)
    radius = (((1 << INTEGER_BITS) - 1) << (31 - INTEGER_BITS)) >> shift
    if radius == 0:  # every step of the input is beyond the range, and nothing is multiplied
        multiplier, shift = 0, 0
    zero_point = zero_point_of(node, tensor)

    def evaluate(values: NDArray[np.int64]) -> NDArray[Any]:
        centred = values - zero_point
        inside = np.clip(centred, -max(radius - 1, 0), max(radius - 1, 0))
        argument = multiply_by_quantized_multiplier(inside, multiplier, shift, node.rounding)
        result = np.clip(function(argument), INT8_MIN, INT8_MAX)
        return np.where(centred <= -radius, INT8_MIN, np.where(centred >= radius, INT8_MAX, result))

    return _table_kernel(node, evaluate)


@register("LOGISTIC")
def prepare_logistic(node: Node) -> Kernel:
    """LOGISTIC: INT8 with output zero point -128."""
    tensor, output = _unary_tensors(node, ("INT8",))
    if zero_point_of(node, output) != INT8_MIN:
        raise unsupported(node, f"output zero point {output.zero_point}, must be {INT8_MIN}")

    def function(argument: NDArray[np.int64]) -> NDArray[np.int64]:
        return rounding_divide_by_pot(functions.logistic(argument, INTEGER_BITS), 31 - 8) + INT8_MIN

    return _saturating_table(node, tensor, function)


@register("TANH")
def prepare_tanh(node: Node) -> Kernel:
    """TANH: INT8; the output is in 128ths whatever its quantization says, as in TFLM."""
    tensor, _ = _unary_tensors(node, ("INT8",))

    def function(argument: NDArray[np.int64]) -> NDArray[np.int64]:
        return rounding_divide_by_pot(functions.tanh(argument, INTEGER_BITS), 31 - 7)

    return _saturating_table(node, tensor, function)


@register("RELU")
def prepare_relu(node: Node) -> Kernel:
    """RELU: INT8 with rescaling, FLOAT32."""
    tensor, output = _unary_tensors(node, ("INT8", "FLOAT32"))
    if tensor.type == "FLOAT32":
        return _float_kernel(node, lambda x: np.where(x < 0, np.float32(0), x))
    with np.errstate(all="ignore"):
        real = np.float32(scale_of(node, tensor)) / np.float32(scale_of(node, output))
    multiplier, shift = _factor(node, float(real))
    zero_in, zero_out = zero_point_of(node, tensor), zero_point_of(node, output)

    def function(x: NDArray[np.int64]) -> NDArray[Any]:
        scaled = multiply_by_quantized_multiplier(x - zero_in, multiplier, shift, node.rounding)
        return np.clip(scaled + zero_out, zero_out, INT8_MAX)

    return _table_kernel(node, function)


@register("RELU6")
def prepare_relu6(node: Node) -> Kernel:
    """RELU6: INT8, which TFLM clamps on the input's scale without rescaling; FLOAT32."""
    tensor, output = _unary_tensors(node, ("INT8", "FLOAT32"))
    if tensor.type == "FLOAT32":
        return _float_kernel(
            node, lambda x: np.where(x > 6, np.float32(6), np.where(x < 0, np.float32(0), x))
        )
    scale_of(node, output)
    zero = zero_point_of(node, tensor)
    with np.errstate(all="ignore"):
        six = float(np.float32(6) / np.float32(scale_of(node, tensor)))
    upper = min(zero + math.floor(six + 0.5), INT8_MAX) if math.isfinite(six) else INT8_MAX
    return _table_kernel(node, lambda x: np.where(x > upper, upper, np.maximum(x, zero)))


@register("LEAKY_RELU")
def prepare_leaky_relu(node: Node) -> Kernel:
    """LEAKY_RELU: INT8, FLOAT32; alpha may be negative."""
    tensor, output = _unary_tensors(node, ("INT8", "FLOAT32"))
    alpha = np.float32(node.operator.options.get("alpha", 0.0))
    if not np.isfinite(alpha):
        raise malformed(node, f"alpha is {alpha}")
    if tensor.type == "FLOAT32":
        return _float_kernel(node, lambda x: np.where(x > 0, x, x * alpha))
    scale_in, scale_out = np.float32(scale_of(node, tensor)), np.float32(scale_of(node, output))
    with np.errstate(all="ignore"):
        slope, slope_shift = _factor(node, float(scale_in * alpha / scale_out))
        identity, identity_shift = _factor(node, float(scale_in / scale_out))
    zero_in, zero_out = zero_point_of(node, tensor), zero_point_of(node, output)
    sign = -1 if slope < 0 else 1

    def function(x: NDArray[np.int64]) -> NDArray[Any]:
        centred = x - zero_in
        above = multiply_by_quantized_multiplier(centred, identity, identity_shift, node.rounding)
        below = sign * multiply_by_quantized_multiplier(centred, abs(slope), slope_shift, node.rounding)
        return _clamp(np.where(centred >= 0, above, below) + zero_out)

    return _table_kernel(node, function)


def _multiplier_16(multiplier: int) -> int:
    """The upper half of a 32-bit multiplier, rounded."""
    return min((multiplier + (1 << 15)) >> 16, 32767)


def _high_mul_16(a: NDArray[np.int64], b: int) -> NDArray[np.int64]:
    """Rounded high half of 2ab in 16 bits; `b` is not negative, so that nothing saturates."""
    return (a * b + (1 << 14)) >> 15


def _divide_by_pot_16(x: NDArray[np.int64], exponent: int) -> NDArray[np.int64]:
    """`rounding_divide_by_pot` of 16-bit values: the mask of a shift beyond 15 bits overflows to all ones."""
    if exponent > 15:
        return np.where(x < 0, np.int64(-1), np.int64(1))
    return rounding_divide_by_pot(x, exponent)


@register("HARD_SWISH")
def prepare_hard_swish(node: Node) -> Kernel:
    """HARD_SWISH: INT8, in 16-bit fixed point."""
    tensor, output = _unary_tensors(node, ("INT8",))
    high_scale = np.float32(1 / 128) * np.float32(scale_of(node, tensor))
    with np.errstate(all="ignore"):
        factor, exponent = _factor(node, float(high_scale / np.float32(scale_of(node, output))))
        slope, slope_exponent = _factor(node, float(high_scale / (np.float32(3) / np.float32(32768))))
    if exponent > 0:
        raise unsupported(
            node, f"its output scale {output.scale:g} is too small for the input scale {tensor.scale:g}"
        )
    zero_in, zero_out = zero_point_of(node, tensor), zero_point_of(node, output)

    def saturated(x: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.clip(x, -32768, 32767)

    def function(x: NDArray[np.int64]) -> NDArray[Any]:
        fine = (x - zero_in) << 7
        on_output_scale = _high_mul_16(fine, _multiplier_16(factor))
        gate = saturated(fine << max(min(slope_exponent - 1, 16), 0)) if slope_exponent > 0 else fine
        gate = _high_mul_16(gate, _multiplier_16(slope))
        if slope_exponent > 0:
            gate = saturated(gate << 1)
        elif slope_exponent < 0:
            gate = _divide_by_pot_16(gate, -slope_exponent)
        gate = (gate + (1 << 15)) >> 1
        product = gate * on_output_scale
        truncated = np.sign(product) * (np.abs(product) >> 15)
        return _clamp(_divide_by_pot_16(truncated, -exponent) + zero_out)

    return _table_kernel(node, function)


@dataclass(frozen=True)
class CheckedPrelu:
    """An int8 PRELU that makes sense.

    Attributes:
        pair: Input, alpha and output.
        identity: Multiplier and shift of values that reach the zero point.
        slope: Multiplier and shift of the product with alpha, below.
    """

    pair: Pair
    identity: Factor
    slope: Factor

    def function(self, rounding: Rounding) -> PairFunction:
        """The operator as a function of the stored values."""
        zero_in, zero_alpha, zero_out = self.pair.zero_points

        def function(x: NDArray[np.int64], a: NDArray[np.int64]) -> NDArray[Any]:
            above = multiply_by_quantized_multiplier(x - zero_in, *self.identity, rounding)
            product = (x - zero_in) * (a - zero_alpha)
            below = multiply_by_quantized_multiplier(product, *self.slope, rounding)
            return _clamp(np.where(x >= zero_in, above, below) + zero_out)

        return function


def _prelu_tensors(node: Node, types: tuple[str, ...]) -> Pair:
    require_arity(node, 2)
    tensor, alpha, output = input_tensor(node, 0), input_tensor(node, 1), output_tensor(node)
    require_type(node, tensor, types)
    require_same_type(node, [tensor, alpha, output])
    require_shape(node, output, tensor.shape)
    try:
        np.broadcast_to(np.empty(alpha.shape, dtype=np.bool_), tensor.shape)
    except ValueError:
        raise malformed(
            node, f"alpha {list(alpha.shape)} does not fit the input {list(tensor.shape)}"
        ) from None
    return Pair(tensor, alpha, output)


def checked_prelu(node: Node) -> CheckedPrelu:
    """An int8 PRELU.

    Raises:
        UnsupportedError: It is not int8, or its scales are too far apart.
        FormatError: The operator contradicts itself.
    """
    pair = _prelu_tensors(node, ("INT8",))
    tensors = (pair.first, pair.second, pair.output)
    scales = [scale_of(node, tensor) for tensor in tensors]
    for tensor in tensors:
        zero_point_of(node, tensor)
    identity = _factor(node, scales[0] / scales[2])
    slope = _factor(node, scales[0] * scales[1] / scales[2])
    return CheckedPrelu(pair, identity, slope)


@register("PRELU")
def prepare_prelu(node: Node) -> Kernel:
    """PRELU: INT8, FLOAT32; alpha is broadcast to the input."""
    pair = _prelu_tensors(node, ("INT8", "FLOAT32"))
    tensor, alpha = pair.first, pair.second
    batchable = leads_with_samples(node) and (alpha.is_constant or len(alpha.shape) == len(tensor.shape))
    if tensor.type == "FLOAT32":
        return Kernel(_evaluate_float_prelu, batchable)
    table = lookup.pair_table_of(checked_prelu(node).function(node.rounding))
    return Kernel(lookup.binary(table), batchable)


def _evaluate_float_prelu(inputs: Arrays) -> tuple[NDArray[Any], ...]:
    values, alpha = inputs[0], inputs[1]
    assert values is not None and alpha is not None
    with np.errstate(all="ignore"):
        return (np.where(values >= 0, values, values * alpha),)
