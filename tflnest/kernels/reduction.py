"""MEAN and SUM over any axes, int8, and ARG_MAX.

Sources: TFLM kernels/reduce_common.cc, arg_min_max.cc, reference/reduce.h.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tflnest.fixedpoint import (
    MAX_SHIFT,
    MIN_SHIFT,
    multiply_by_quantized_multiplier,
    quantize_multiplier,
    wrap_int32,
)
from tflnest.graph import Tensor
from tflnest.kernels.checks import (
    constant_integers,
    input_tensor,
    leads_with_samples,
    malformed,
    normal_axis,
    output_tensor,
    require_arity,
    require_same_type,
    require_shape,
    require_type,
    scale_of,
    unsupported,
    zero_point_of,
)
from tflnest.kernels.registry import Arrays, Kernel, Node, register


def _axes(node: Node, tensor: Tensor) -> tuple[int, ...]:
    """The axes to reduce, each once, in ascending order."""
    rank = len(tensor.shape)
    return tuple(sorted({normal_axis(node, axis, rank) for axis in constant_integers(node, 1, "axis")}))


def mean_factor(multiplier: int, shift: int, count: int) -> tuple[int, int]:
    """A requantization factor divided by the number of elements, in TFLM's integer arithmetic."""
    bits = min(count.bit_length() - 1, 32, MAX_SHIFT + 1 + shift)
    return (multiplier << bits) // count, shift - bits


@dataclass(frozen=True)
class CheckedReduction:
    """A MEAN or SUM that makes sense.

    Attributes:
        source: Its input.
        output: Its output.
        axes: What is reduced, each axis once, in ascending order.
        keep: Whether reduced axes stay as axes of length 1.
        factor: Multiplier and shift from the sum of centred values to the output's scale.
        offset: Input zero point times the elements of one sum, which are subtracted.
    """

    source: Tensor
    output: Tensor
    axes: tuple[int, ...]
    keep: bool
    factor: tuple[int, int]
    offset: int


def checked_reduction(node: Node) -> CheckedReduction:
    """An int8 MEAN or SUM.

    Raises:
        UnsupportedError: It is not int8, or its scales are too far apart.
        FormatError: The operator contradicts itself.
    """
    require_arity(node, 2)
    tensor, output = input_tensor(node, 0), output_tensor(node)
    require_type(node, tensor, ("INT8",))
    require_same_type(node, [tensor, output])
    axes = _axes(node, tensor)
    keep = bool(node.operator.options.get("keep_dims", False))
    shape = [
        1 if axis in axes else size for axis, size in enumerate(tensor.shape) if keep or axis not in axes
    ]
    require_shape(node, output, shape)
    if tensor.size == 0:
        raise malformed(node, f"its input has shape {list(tensor.shape)}, which holds nothing")
    count = int(np.prod([tensor.shape[axis] for axis in axes], dtype=np.int64)) if axes else 1
    multiplier, shift = quantize_multiplier(scale_of(node, tensor) / scale_of(node, output))
    if node.operator.name == "MEAN":
        multiplier, shift = mean_factor(multiplier, shift, count)
    if not MIN_SHIFT <= shift <= MAX_SHIFT:
        raise unsupported(node, f"its scales are too far apart: a shift of {shift} bits")
    offset = zero_point_of(node, tensor) * count
    zero_point_of(node, output)
    return CheckedReduction(tensor, output, axes, keep, (multiplier, shift), offset)


def _prepare_quantized(node: Node) -> Kernel:
    checked = checked_reduction(node)
    axes, offset, zero_point = checked.axes, checked.offset, checked.output.zero_point
    adjacent = len(axes) > 1 and axes[-1] - axes[0] == len(axes) - 1

    def evaluate(inputs: Arrays) -> tuple[NDArray[Any], ...]:
        values = inputs[0]
        assert values is not None
        if adjacent:  # numpy adds up one axis faster than several
            rows = values.reshape(*values.shape[: axes[0]], -1, *values.shape[axes[-1] + 1 :])
            sums = rows.sum(axis=axes[0], dtype=np.int32)
        else:
            sums = values.sum(axis=axes, dtype=np.int32)
        centred = wrap_int32(sums.astype(np.int64) - offset)
        scaled = multiply_by_quantized_multiplier(centred, *checked.factor, node.rounding)
        result = np.clip(scaled + zero_point, -128, 127).astype(np.int8)
        return (np.expand_dims(result, axes) if checked.keep else result,)

    return Kernel(evaluate, leads_with_samples(node) and 0 not in axes)


@register("MEAN")
def prepare_mean(node: Node) -> Kernel:
    """MEAN: INT8, any constant axes, with or without keep_dims."""
    return _prepare_quantized(node)


@register("SUM")
def prepare_sum(node: Node) -> Kernel:
    """SUM: INT8, any constant axes, with or without keep_dims."""
    return _prepare_quantized(node)


@dataclass(frozen=True)
class CheckedArgMax:
    """An ARG_MAX that makes sense: its tensors and the axis, counted from the front."""

    source: Tensor
    output: Tensor
    axis: int


def checked_arg_max(node: Node) -> CheckedArgMax:
    """An ARG_MAX of any of its types.

    Raises:
        UnsupportedError: It has other types.
        FormatError: The operator contradicts itself.
    """
    require_arity(node, 2)
    tensor, output = input_tensor(node, 0), output_tensor(node)
    require_type(node, tensor, ("INT8", "FLOAT32"))
    require_type(node, output, ("INT32", "INT64"))
    axes = constant_integers(node, 1, "axis")
    if len(axes) != 1:
        raise malformed(node, f"has {len(axes)} axes, 1 expected")
    axis = normal_axis(node, axes[0], len(tensor.shape))
    if tensor.shape[axis] == 0:
        raise malformed(node, f"its input has shape {list(tensor.shape)}, and axis {axis} is empty")
    require_shape(node, output, tensor.shape[:axis] + tensor.shape[axis + 1 :])
    return CheckedArgMax(tensor, output, axis)


@register("ARG_MAX")
def prepare_arg_max(node: Node) -> Kernel:
    """ARG_MAX: INT8 or FLOAT32 to INT32 or INT64; the first of equal values wins."""
    checked = checked_arg_max(node)
    axis, dtype = checked.axis, checked.output.dtype

    def evaluate(inputs: Arrays) -> tuple[NDArray[Any], ...]:
        values = inputs[0]
        assert values is not None
        return (np.asarray(values.argmax(axis=axis), dtype=dtype),)

    return Kernel(evaluate, axis != 0 and leads_with_samples(node))
