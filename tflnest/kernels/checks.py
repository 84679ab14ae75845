"""What kernels check while they are prepared, and the sentences that say what is wrong."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from tflnest.errors import FormatError, UnsupportedError
from tflnest.graph import Tensor
from tflnest.kernels.registry import Node

#: Most dimensions that a tensor may have; TFLite's kernels know fewer.
MAX_RANK = 8

_FUSED = ("NONE", "RELU", "RELU6", "RELU_N1_TO_1")


def unsupported(node: Node, what: str) -> UnsupportedError:
    """The error for something valid that the kernel does not do."""
    return UnsupportedError(f"operator {node.operator.label}: {what}")


def malformed(node: Node, what: str) -> FormatError:
    """The error for an operator that contradicts itself."""
    return FormatError(f"operator {node.operator.label}: {what}")


def require_arity(node: Node, inputs: int | range, outputs: int = 1) -> None:
    """Check the number of tensors.

    Args:
        node: The operator.
        inputs: How many inputs, or a range of how many.
        outputs: How many outputs.
    """
    wanted = range(inputs, inputs + 1) if isinstance(inputs, int) else inputs
    if len(node.inputs) not in wanted:
        words = str(wanted[0]) if len(wanted) == 1 else f"{wanted[0]} to {wanted[-1]}"
        raise malformed(node, f"has {len(node.inputs)} inputs, {words} expected")
    if len(node.outputs) != outputs:
        raise malformed(node, f"has {len(node.outputs)} outputs, {outputs} expected")


def input_tensor(node: Node, position: int) -> Tensor:
    """An input that must be there, of a rank that can be computed with."""
    tensor = node.inputs[position] if position < len(node.inputs) else None
    if tensor is None:
        raise malformed(node, f"input {position} is missing")
    return with_sane_rank(node, tensor)


def output_tensor(node: Node, position: int = 0) -> Tensor:
    """An output, of a rank that can be computed with."""
    return with_sane_rank(node, node.outputs[position])


def with_sane_rank(node: Node, tensor: Tensor) -> Tensor:
    """The tensor itself, if it has at most `MAX_RANK` dimensions."""
    if len(tensor.shape) > MAX_RANK:
        raise unsupported(node, f"tensor {tensor.label} has {len(tensor.shape)} dimensions, over {MAX_RANK}")
    return tensor


def require_type(node: Node, tensor: Tensor, types: Iterable[str]) -> str:
    """Check the type of a tensor and return it."""
    names = tuple(types)
    if tensor.type not in names:
        raise unsupported(node, f"tensor {tensor.label} is {tensor.type}, supported: {', '.join(names)}")
    return tensor.type


def require_same_type(node: Node, tensors: Sequence[Tensor]) -> None:
    """Check that all tensors have the type of the first."""
    for tensor in tensors[1:]:
        if tensor.type != tensors[0].type:
            raise unsupported(
                node, f"tensors {tensors[0].label} and {tensor.label} are {tensors[0].type} and {tensor.type}"
            )


def require_shape(node: Node, tensor: Tensor, expected: Sequence[int]) -> None:
    """Check that the file gives an output the shape that the operator computes."""
    if tensor.shape != tuple(expected):
        raise malformed(
            node, f"tensor {tensor.label} has shape {list(tensor.shape)}, computed: {list(expected)}"
        )


def require_rank(node: Node, tensor: Tensor, rank: int) -> None:
    """Check the number of dimensions."""
    if len(tensor.shape) != rank:
        raise unsupported(node, f"tensor {tensor.label} has {len(tensor.shape)} dimensions, {rank} expected")


def scale_of(node: Node, tensor: Tensor) -> float:
    """The per-tensor scale, exactly as the file's float32.

    Raises:
        FormatError: There is none, or it is not a positive finite number.
        UnsupportedError: It is per channel.
    """
    quantization = tensor.quantization
    if quantization is None:
        raise malformed(node, f"tensor {tensor.label} has no scale")
    if quantization.per_channel:
        raise unsupported(node, f"tensor {tensor.label} is quantized per channel")
    scale = tensor.scale
    if not (scale > 0 and math.isfinite(scale)):
        raise malformed(node, f"tensor {tensor.label} has the scale {scale}, a positive number expected")
    return scale


def zero_point_of(node: Node, tensor: Tensor) -> int:
    """The per-tensor zero point, inside the range of the tensor's type."""
    point = tensor.zero_point
    info = np.iinfo(tensor.dtype)
    if not info.min <= point <= info.max:
        raise malformed(node, f"tensor {tensor.label} has the zero point {point}, outside {tensor.type}")
    return point


def fused_activation(node: Node) -> str:
    """Name of the fused activation."""
    name = node.operator.options.get("fused_activation_function", "NONE")
    if name not in _FUSED:
        raise unsupported(node, f"fused activation {name}, supported: {', '.join(_FUSED)}")
    return str(name)


def constant_integers(
    node: Node, position: int, what: str, types: Iterable[str] = ("INT32",)
) -> tuple[int, ...]:
    """Values of a constant integer input, flat.

    Args:
        node: The operator.
        position: Which input.
        what: Its name in messages ("axis").
        types: Tensor types that it may have.
    """
    tensor = input_tensor(node, position)
    require_type(node, tensor, types)
    if tensor.data is None:
        if tensor.size == 0:
            return ()
        raise unsupported(node, f"its {what} (tensor {tensor.label}) is not a constant")
    if tensor.size > 4096:
        raise malformed(node, f"its {what} (tensor {tensor.label}) has {tensor.size:,} elements")
    return tuple(int(value) for value in tensor.data.reshape(-1))


def normal_axis(node: Node, axis: int, rank: int) -> int:
    """An axis counted from the front."""
    if not -rank <= axis < rank:
        raise malformed(node, f"axis {axis} does not exist in {rank} dimensions")
    return axis + rank if axis < 0 else axis


def leads_with_samples(node: Node) -> bool:
    """Whether the leading dimension of every non-constant input and of every output is 1."""
    tensors = [tensor for tensor in node.inputs if tensor is not None and not tensor.is_constant]
    return all(tensor.shape[:1] == (1,) for tensor in [*tensors, *node.outputs])
