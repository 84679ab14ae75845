"""RESHAPE, SQUEEZE, EXPAND_DIMS, SHAPE and TRANSPOSE, any type.

Sources: TFLM kernels/reshape_common.cc, squeeze.cc, expand_dims.cc, shape.cc, transpose_common.cc.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
)
from tflnest.kernels.registry import Arrays, Kernel, Node, register


def _tensors(node: Node) -> tuple[Tensor, Tensor]:
    tensor, output = input_tensor(node, 0), output_tensor(node)
    require_same_type(node, [tensor, output])
    _ = tensor.dtype  # refuses types that numpy cannot hold
    return tensor, output


def _reshaped(node: Node, tensor: Tensor, output: Tensor) -> Kernel:
    """Give the values the output's shape; where samples lead on both sides, their number stays open."""
    if tensor.size != output.size:
        raise malformed(
            node,
            f"shapes {list(tensor.shape)} and {list(output.shape)} hold {tensor.size} and {output.size} elements",
        )
    batchable = tensor.size > 0 and tensor.shape[:1] == (1,) and output.shape[:1] == (1,)
    target = (-1, *output.shape[1:]) if batchable else output.shape

    def evaluate(inputs: Arrays) -> tuple[NDArray[Any], ...]:
        values = inputs[0]
        assert values is not None
        return (values.reshape(target),)

    return Kernel(evaluate, batchable and not tensor.is_constant)


@register("RESHAPE")
def prepare_reshape(node: Node) -> Kernel:
    """RESHAPE to the shape that the file gives the output; the shape input is not looked at, as in TFLM."""
    require_arity(node, range(1, 3))
    return _reshaped(node, *_tensors(node))


@register("SQUEEZE")
def prepare_squeeze(node: Node) -> Kernel:
    """SQUEEZE of the given dimensions, or of all that are 1."""
    require_arity(node, 1)
    tensor, output = _tensors(node)
    rank = len(tensor.shape)
    wanted = node.operator.options.get("squeeze_dims")
    if wanted is None or len(wanted) == 0:
        axes = {axis for axis, size in enumerate(tensor.shape) if size == 1}
    else:
        axes = {normal_axis(node, int(axis), rank) for axis in wanted}
    for axis in axes:
        if tensor.shape[axis] != 1:
            raise malformed(node, f"dimension {axis} of {list(tensor.shape)} is not 1")
    require_shape(node, output, [size for axis, size in enumerate(tensor.shape) if axis not in axes])
    return _reshaped(node, tensor, output)


@register("EXPAND_DIMS")
def prepare_expand_dims(node: Node) -> Kernel:
    """EXPAND_DIMS at a constant axis."""
    require_arity(node, 2)
    tensor, output = _tensors(node)
    axes = constant_integers(node, 1, "axis", ("INT32", "INT64"))
    if len(axes) != 1:
        raise malformed(node, f"has {len(axes)} axes, 1 expected")
    axis = normal_axis(node, axes[0], len(tensor.shape) + 1)
    require_shape(node, output, (*tensor.shape[:axis], 1, *tensor.shape[axis:]))
    return _reshaped(node, tensor, output)


@register("SHAPE")
def prepare_shape(node: Node) -> Kernel:
    """SHAPE as the file states it: INT32 or INT64."""
    require_arity(node, 1)
    tensor, output = input_tensor(node, 0), output_tensor(node)
    require_type(node, output, ("INT32", "INT64"))
    require_shape(node, output, (len(tensor.shape),))
    shape = np.array(tensor.shape, dtype=output.dtype)
    shape.flags.writeable = False
    return Kernel(lambda _: (shape,), False)


@dataclass(frozen=True)
class CheckedTranspose:
    """A TRANSPOSE that makes sense: its tensors and the axis of the input for each of the output."""

    source: Tensor
    output: Tensor
    permutation: tuple[int, ...]


def checked_transpose(node: Node) -> CheckedTranspose:
    """A TRANSPOSE of any type.

    Raises:
        UnsupportedError: The permutation is not a constant.
        FormatError: The operator contradicts itself.
    """
    require_arity(node, 2)
    tensor, output = _tensors(node)
    permutation = constant_integers(node, 1, "permutation")
    if sorted(permutation) != list(range(len(tensor.shape))):
        raise malformed(node, f"{list(permutation)} is not a permutation of {len(tensor.shape)} dimensions")
    require_shape(node, output, [tensor.shape[axis] for axis in permutation])
    return CheckedTranspose(tensor, output, permutation)


@register("TRANSPOSE")
def prepare_transpose(node: Node) -> Kernel:
    """TRANSPOSE by a constant permutation."""
    permutation = checked_transpose(node).permutation

    def evaluate(inputs: Arrays) -> tuple[NDArray[Any], ...]:
        values = inputs[0]
        assert values is not None
        return (np.ascontiguousarray(values.transpose(permutation)),)

    return Kernel(evaluate, permutation[:1] == (0,) and leads_with_samples(node))
