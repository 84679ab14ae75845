"""PACK, CONCATENATION, PAD and PADV2.

Sources: TFLM kernels/pack.cc, concatenation.cc, pad_common.cc.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tflnest.graph import Tensor
from tflnest.kernels.checks import (
    constant_integers,
    fused_activation,
    input_tensor,
    leads_with_samples,
    malformed,
    normal_axis,
    output_tensor,
    require_arity,
    require_same_type,
    require_shape,
    scale_of,
    unsupported,
    zero_point_of,
)
from tflnest.kernels.registry import Arrays, Evaluate, Kernel, Node, register

#: Most dimensions of a PAD in TFLM.
MAX_PAD_RANK = 5


def _tensors(node: Node) -> tuple[list[Tensor], Tensor]:
    require_arity(node, range(1, 1 << 16))
    tensors = [input_tensor(node, position) for position in range(len(node.inputs))]
    output = output_tensor(node)
    require_same_type(node, [output, *tensors])
    _ = output.dtype  # refuses types that numpy cannot hold
    return tensors, output


def _batchable(node: Node, axis: int) -> bool:
    """Samples lead if the leading axis is untouched, and no constant would have to be repeated."""
    constant = any(tensor is not None and tensor.is_constant for tensor in node.inputs)
    return axis != 0 and not constant and leads_with_samples(node)


@dataclass(frozen=True)
class CheckedJoin:
    """A PACK or CONCATENATION that makes sense: its tensors and the axis of the output, from the front."""

    sources: tuple[Tensor, ...]
    output: Tensor
    axis: int


@dataclass(frozen=True)
class CheckedPad:
    """A PAD or PADV2 that makes sense.

    Attributes:
        source: Its input.
        output: Its output.
        pairs: Elements before and after, for each axis.
        value: What to pad with; None where it is that of input 2.
    """

    source: Tensor
    output: Tensor
    pairs: tuple[tuple[int, int], ...]
    value: int | None


def checked_pack(node: Node) -> CheckedJoin:
    """A PACK of any type.

    Raises:
        UnsupportedError: The types differ.
        FormatError: The operator contradicts itself.
    """
    tensors, output = _tensors(node)
    shape = tensors[0].shape
    if any(tensor.shape != shape for tensor in tensors):
        raise malformed(node, "its inputs have different shapes")
    if int(node.operator.options.get("values_count", len(tensors))) != len(tensors):
        raise malformed(
            node, f"says that it packs {node.operator.options['values_count']} of {len(tensors)} inputs"
        )
    axis = normal_axis(node, int(node.operator.options.get("axis", 0)), len(shape) + 1)
    require_shape(node, output, (*shape[:axis], len(tensors), *shape[axis:]))
    return CheckedJoin(tuple(tensors), output, axis)


@register("PACK")
def prepare_pack(node: Node) -> Kernel:
    """PACK of equal shapes along a new axis, any type."""
    axis = checked_pack(node).axis

    def evaluate(inputs: Arrays) -> tuple[NDArray[Any], ...]:
        return (np.stack(_present(inputs), axis=axis),)

    return Kernel(evaluate, _batchable(node, axis))


def checked_concatenation(node: Node) -> CheckedJoin:
    """A CONCATENATION of any type.

    Raises:
        UnsupportedError: It has an activation, or would have to rescale.
        FormatError: The operator contradicts itself.
    """
    tensors, output = _tensors(node)
    if fused_activation(node) != "NONE":
        raise unsupported(node, f"fused activation {fused_activation(node)}")
    rank = len(output.shape)
    axis = normal_axis(node, int(node.operator.options.get("axis", 0)), rank)
    for tensor in tensors:
        if len(tensor.shape) != rank:
            raise malformed(
                node, f"tensor {tensor.label} has {len(tensor.shape)} dimensions, the output {rank}"
            )
        require_shape(node, tensor, (*output.shape[:axis], tensor.shape[axis], *output.shape[axis + 1 :]))
        if tensor.type == "INT8" and (tensor.scale, tensor.zero_point) != (output.scale, output.zero_point):
            raise unsupported(node, f"tensor {tensor.label} has another scale or zero point than the output")
    total = sum(tensor.shape[axis] for tensor in tensors)
    require_shape(node, output, (*output.shape[:axis], total, *output.shape[axis + 1 :]))
    return CheckedJoin(tuple(tensors), output, axis)


@register("CONCATENATION")
def prepare_concatenation(node: Node) -> Kernel:
    """CONCATENATION, any type; int8 inputs must have the output's scale and zero point, as in TFLM."""
    axis = checked_concatenation(node).axis

    def evaluate(inputs: Arrays) -> tuple[NDArray[Any], ...]:
        return (np.concatenate(_present(inputs), axis=axis),)

    return Kernel(evaluate, _batchable(node, axis))


def _present(inputs: Arrays) -> list[NDArray[Any]]:
    return [values for values in inputs if values is not None]


def _paddings(node: Node, tensor: Tensor, output: Tensor) -> tuple[tuple[int, int], ...]:
    rank = len(tensor.shape)
    if not 1 <= rank <= MAX_PAD_RANK:
        raise unsupported(node, f"{rank} dimensions, 1 to {MAX_PAD_RANK} supported")
    flat = constant_integers(node, 1, "paddings", ("INT32", "INT64"))
    if len(flat) != 2 * rank or min(flat) < 0:
        raise malformed(node, f"paddings {list(flat)} do not fit shape {list(tensor.shape)}")
    pairs = tuple(zip(flat[::2], flat[1::2], strict=True))
    shape = [size + before + after for size, (before, after) in zip(tensor.shape, pairs, strict=True)]
    require_shape(node, output, shape)
    return pairs


def _padding(pairs: tuple[tuple[int, int], ...], value: int | None, value_position: int) -> Evaluate:
    """Evaluation that pads with a constant, or with the value of an input."""
    inside = tuple(slice(before, -after if after else None) for before, after in pairs[1:])
    (before, after) = pairs[0]

    def evaluate(inputs: Arrays) -> tuple[NDArray[Any], ...]:
        values = inputs[0]
        assert values is not None
        fill: Any = value
        if value is None:
            given = inputs[value_position]
            assert given is not None
            fill = given.reshape(-1)[0]
        sizes = [values.shape[0] + before + after]
        sizes += [size + sum(pair) for size, pair in zip(values.shape[1:], pairs[1:], strict=True)]
        result = np.full(sizes, fill, dtype=values.dtype)
        result[(slice(before, before + values.shape[0]), *inside)] = values
        return (result,)

    return evaluate


def checked_pad(node: Node) -> CheckedPad:
    """A PAD or PADV2 of any type.

    Raises:
        UnsupportedError: It would have to rescale, or has too many dimensions.
        FormatError: The operator contradicts itself.
    """
    require_arity(node, range(2, 4))
    tensor, output = input_tensor(node, 0), output_tensor(node)
    require_same_type(node, [tensor, output])
    _ = tensor.dtype  # refuses types that numpy cannot hold
    pairs = _paddings(node, tensor, output)
    quantized = tensor.type == "INT8"
    value: int | None = zero_point_of(node, output) if quantized else 0
    given = node.inputs[2] if len(node.inputs) == 3 else None
    if given is not None:
        require_same_type(node, [tensor, given])
        if given.size != 1:
            raise malformed(node, f"the value to pad with, tensor {given.label}, has {given.size} elements")
        if quantized and (
            scale_of(node, given) != scale_of(node, output) or given.zero_point != output.zero_point
        ):
            raise unsupported(node, "the value to pad with has another scale or zero point than the output")
        value = None
    return CheckedPad(tensor, output, pairs, value)


@register("PAD")
@register("PADV2")
def prepare_pad(node: Node) -> Kernel:
    """PAD with the output's zero point, PADV2 with a given value; any type."""
    checked = checked_pad(node)
    shapes = [checked.source.shape[:1], checked.output.shape[:1]]
    samples = shapes == [(1,), (1,)] and checked.pairs[0] == (0, 0)
    fixed = checked.value is not None or input_tensor(node, 2).is_constant
    return Kernel(_padding(checked.pairs, checked.value, 2), samples and fixed)
