"""STRIDED_SLICE, SLICE, SPLIT, SPLIT_V and UNPACK, any type.

Sources: TFLM kernels/strided_slice_common.cc, slice.cc, split.cc, split_v.cc, unpack.cc and
internal/strided_slice_logic.h.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    require_arity,
    require_same_type,
    require_shape,
    unsupported,
    with_sane_rank,
)
from tflnest.kernels.registry import Arrays, Evaluate, Kernel, Node, register

#: Most dimensions of a STRIDED_SLICE and of a SLICE in TFLM.
MAX_STRIDED_RANK, MAX_SLICE_RANK = 4, 5

Index = tuple[slice | int, ...]


@dataclass(frozen=True)
class CheckedParts:
    """An operator that makes sense, and each of whose outputs is a part of one input.

    Attributes:
        source: The input.
        outputs: Its outputs.
        indices: What each output takes of the input.
    """

    source: Tensor
    outputs: tuple[Tensor, ...]
    indices: tuple[Index, ...]


def _tensors(node: Node, position: int = 0) -> tuple[Tensor, tuple[Tensor, ...]]:
    tensor = input_tensor(node, position)
    outputs = tuple(with_sane_rank(node, output) for output in node.outputs)
    require_same_type(node, [tensor, *outputs])
    _ = tensor.dtype  # refuses types that numpy cannot hold
    return tensor, outputs


def _taking(indices: Sequence[Index], position: int = 0) -> Evaluate:
    """Evaluation that takes a part of one input for every output."""

    def evaluate(inputs: Arrays) -> tuple[NDArray[Any], ...]:
        values = inputs[position]
        assert values is not None
        return tuple(np.asarray(values[index], order="C") for index in indices)

    return evaluate


def _start(begin: int, stride: int, size: int, masked: bool) -> int:
    """First index along an axis, clamped to what exists (to -1 for an empty backward slice)."""
    if masked:
        return 0 if stride > 0 else size - 1
    if begin < 0:
        begin += size
    return min(max(begin, 0), size) if stride > 0 else min(max(begin, -1), size - 1)


def _axis_slice(begin: int, end: int, stride: int, size: int, begin_masked: bool, end_masked: bool) -> slice:
    """A Python slice that walks as TFLM does."""
    start = _start(begin, stride, size, begin_masked)
    if end_masked:
        stop = size if stride > 0 else -1
    else:
        if end < 0:
            end += size
        stop = min(max(end, 0), size) if stride > 0 else min(max(end, -1), size - 1)
    if stride < 0 and start < 0:
        return slice(0, 0, 1)
    return slice(start, None if stop < 0 else stop, stride)


def _strided_index(node: Node, tensor: Tensor) -> Index:
    options = node.operator.options
    rank = len(tensor.shape)
    begin, end, step = (
        constant_integers(node, position, name)
        for position, name in ((1, "begin"), (2, "end"), (3, "strides"))
    )
    if not len(begin) == len(end) == len(step) == rank:
        raise malformed(
            node,
            f"begin, end and strides have {len(begin)}, {len(end)} and {len(step)} values for {rank} dimensions",
        )
    masks = {name: int(options.get(f"{name}_mask", 0)) for name in ("begin", "end", "shrink_axis")}
    index: list[slice | int] = []
    for axis, size in enumerate(tensor.shape):
        bit = 1 << axis
        if step[axis] == 0:
            raise malformed(node, f"the stride of axis {axis} is 0")
        if masks["shrink_axis"] & bit:
            start = _start(begin[axis], step[axis], size, bool(masks["begin"] & bit))
            if not 0 <= start < size:
                raise malformed(
                    node, f"index {begin[axis]} does not exist in axis {axis} of {list(tensor.shape)}"
                )
            index.append(start)
            continue
        masked = bool(masks["begin"] & bit), bool(masks["end"] & bit)
        index.append(_axis_slice(begin[axis], end[axis], step[axis], size, *masked))
    return tuple(index)


def _index_shape(index: Index, shape: tuple[int, ...]) -> list[int]:
    pairs = zip(index, shape, strict=True)
    return [len(range(*part.indices(size))) for part, size in pairs if isinstance(part, slice)]


def _keeps_samples(node: Node, index: Index) -> bool:
    """Whether an index takes the whole leading axis, so that it may have any length."""
    return bool(index) and leads_with_samples(node) and isinstance(index[0], slice)


def checked_strided_slice(node: Node) -> CheckedParts:
    """A STRIDED_SLICE of any type.

    Raises:
        UnsupportedError: It has other options, or over four dimensions.
        FormatError: The operator contradicts itself.
    """
    require_arity(node, 4)
    tensor, (output,) = _tensors(node)
    options = node.operator.options
    for name in ("ellipsis_mask", "new_axis_mask", "offset"):
        if options.get(name):
            raise unsupported(node, f"option {name}")
    if len(tensor.shape) > MAX_STRIDED_RANK:
        raise unsupported(node, f"{len(tensor.shape)} dimensions, at most {MAX_STRIDED_RANK}")
    index = _strided_index(node, tensor)
    require_shape(node, output, _index_shape(index, tensor.shape))
    return CheckedParts(tensor, (output,), (index,))


@register("STRIDED_SLICE")
def prepare_strided_slice(node: Node) -> Kernel:
    """STRIDED_SLICE with begin, end and shrink-axis masks, at most four dimensions."""
    return _sliced(node, checked_strided_slice(node).indices[0])


def checked_slice(node: Node) -> CheckedParts:
    """A SLICE of any type.

    Raises:
        UnsupportedError: It has over five dimensions.
        FormatError: The operator contradicts itself.
    """
    require_arity(node, 3)
    tensor, (output,) = _tensors(node)
    types = ("INT32", "INT64")
    begin, size = constant_integers(node, 1, "begin", types), constant_integers(node, 2, "size", types)
    if len(tensor.shape) > MAX_SLICE_RANK:
        raise unsupported(node, f"{len(tensor.shape)} dimensions, at most {MAX_SLICE_RANK}")
    if not len(begin) == len(size) == len(tensor.shape):
        raise malformed(
            node, f"begin and size have {len(begin)} and {len(size)} values for shape {list(tensor.shape)}"
        )
    index = []
    for axis, (first, count, extent) in enumerate(zip(begin, size, tensor.shape, strict=True)):
        last = extent if count == -1 else first + count
        if not 0 <= first <= last <= extent:
            raise malformed(
                node, f"begin {first}, size {count} do not fit axis {axis} of {list(tensor.shape)}"
            )
        index.append(slice(first, last))
    require_shape(node, output, _index_shape(tuple(index), tensor.shape))
    return CheckedParts(tensor, (output,), (tuple(index),))


@register("SLICE")
def prepare_slice(node: Node) -> Kernel:
    """SLICE by constant begin and size; size -1 means all that is left."""
    return _sliced(node, checked_slice(node).indices[0])


def _sliced(node: Node, index: Index) -> Kernel:
    if _keeps_samples(node, index):
        return Kernel(_taking([(slice(None), *index[1:])]), True)
    return Kernel(_taking([index]), False)


def _checked_split(node: Node, position: int, axis_position: int) -> CheckedParts:
    """Cut one axis into the parts whose sizes the file gives the outputs."""
    tensor, outputs = _tensors(node, position)
    axes = constant_integers(node, axis_position, "axis")
    if len(axes) != 1:
        raise malformed(node, f"has {len(axes)} axes, 1 expected")
    axis = normal_axis(node, axes[0], len(tensor.shape))
    head: Index = (slice(None),) * axis
    indices, start = [], 0
    for output in outputs:
        size = output.shape[axis] if axis < len(output.shape) else 0
        require_shape(node, output, (*tensor.shape[:axis], size, *tensor.shape[axis + 1 :]))
        indices.append((*head, slice(start, start + size)))
        start += size
    if start != tensor.shape[axis]:
        raise malformed(node, f"its outputs take {start} of {tensor.shape[axis]} along axis {axis}")
    return CheckedParts(tensor, outputs, tuple(indices))


def checked_split(node: Node) -> CheckedParts:
    """A SPLIT of any type; raises FormatError where the operator contradicts itself."""
    require_arity(node, 2, max(len(node.outputs), 1))
    if len({output.shape for output in node.outputs}) > 1:
        raise malformed(node, "its outputs have different shapes")
    return _checked_split(node, 1, 0)


@register("SPLIT")
def prepare_split(node: Node) -> Kernel:
    """SPLIT into equal parts."""
    return _parted(node, checked_split(node), 1)


def checked_split_v(node: Node) -> CheckedParts:
    """A SPLIT_V of any type; raises FormatError where the operator contradicts itself."""
    require_arity(node, 3, max(len(node.outputs), 1))
    return _checked_split(node, 0, 2)


@register("SPLIT_V")
def prepare_split_v(node: Node) -> Kernel:
    """SPLIT_V into parts of the outputs' sizes; the size input is not looked at, as in TFLM."""
    return _parted(node, checked_split_v(node), 0)


def _parted(node: Node, checked: CheckedParts, position: int) -> Kernel:
    """Parts along one axis, which lead with samples unless it is the first that is cut."""
    cuts_samples = checked.indices[0][:1] != (slice(None),)
    return Kernel(_taking(checked.indices, position), not cuts_samples and leads_with_samples(node))


def checked_unpack(node: Node) -> CheckedParts:
    """An UNPACK of any type; raises FormatError where the operator contradicts itself."""
    require_arity(node, 1, max(len(node.outputs), 1))
    tensor, outputs = _tensors(node)
    axis = normal_axis(node, int(node.operator.options.get("axis", 0)), len(tensor.shape))
    if len(outputs) != tensor.shape[axis]:
        raise malformed(
            node, f"has {len(outputs)} outputs, axis {axis} of {list(tensor.shape)} has another size"
        )
    for output in outputs:
        require_shape(node, output, tensor.shape[:axis] + tensor.shape[axis + 1 :])
    head: Index = (slice(None),) * axis
    return CheckedParts(tensor, outputs, tuple((*head, number) for number in range(len(outputs))))


@register("UNPACK")
def prepare_unpack(node: Node) -> Kernel:
    """UNPACK an axis into one output per index."""
    return _parted(node, checked_unpack(node), 0)
