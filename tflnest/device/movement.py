"""Operators that move data unchanged, any type, as strided copies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from tflnest.device.calls import Argument, Call, Function, declare
from tflnest.device.loops import MAX_LOOPS, Loop, check_not_empty, contiguous_steps, loops_of
from tflnest.device.registry import register
from tflnest.device.structures import UINT8, Array, Int32, c_struct
from tflnest.graph import Tensor
from tflnest.kernels.checks import input_tensor, output_tensor
from tflnest.kernels.joining import checked_concatenation, checked_pack, checked_pad
from tflnest.kernels.registry import Node, prepare
from tflnest.kernels.reshaping import checked_transpose
from tflnest.kernels.slicing import (
    CheckedParts,
    Index,
    checked_slice,
    checked_split,
    checked_split_v,
    checked_strided_slice,
    checked_unpack,
)


@c_struct("tflnest_copy_params")
@dataclass(frozen=True)
class CopyParams:
    """A strided copy."""

    run: Int32
    input_size: Int32
    output_size: Int32
    input_offset: Int32
    output_offset: Int32
    fill_size: Int32
    fill: Int32
    loop_count: Int32
    loops: Annotated[tuple[Loop, ...], Array]


COPY = declare(
    Function("tflnest_copy_bytes", "tflnest/tflnest_copy.h", CopyParams, inputs=(UINT8,), outputs=(UINT8,))
)


def is_plain_copy(call: Call) -> bool:
    """Whether a call copies a whole tensor as it is: none is needed where both lie in the same place."""
    return call.function is COPY and call.params.run == call.params.input_size == call.params.output_size


def copied_call(
    source: Tensor,
    output: Tensor,
    counts: Sequence[int],
    input_steps: Sequence[int],
    output_steps: Sequence[int],
    *,
    run: int,
    input_offset: int = 0,
    output_offset: int = 0,
    fill: int | None = None,
) -> Call:
    """A strided copy from one tensor to another; everything counts in bytes.

    Args:
        source: Input.
        output: Output.
        counts: Turns of each loop.
        input_steps: From one turn to the next in the input.
        output_steps: Likewise in the output.
        run: Bytes that lie together in any case.
        input_offset: Where the first turn starts in the input.
        output_offset: Where it starts in the output.
        fill: What every byte of the output is set to before; None for nothing.
    """
    loops = list(loops_of(counts, input_steps, output_steps))
    if loops and (loops[-1].first_step, loops[-1].second_step) == (run, run):
        run *= loops.pop().count
    # The order of the loops does not matter. The longest goes innermost, where a turn costs least.
    loops.sort(key=lambda loop: loop.count)
    params = CopyParams(
        run=run,
        input_size=source.bytes,
        output_size=output.bytes,
        input_offset=input_offset,
        output_offset=output_offset,
        fill_size=0 if fill is None else output.bytes,
        fill=0 if fill is None else fill,
        loop_count=len(loops),
        loops=tuple(loops),
    )
    assert len(loops) <= MAX_LOOPS
    return Call(COPY, params, (Argument(source.index),), (Argument(output.index),))


@dataclass(frozen=True)
class View:
    """A part of a tensor; everything counts in bytes.

    Attributes:
        tensor: Of which it is a part.
        counts: Its shape.
        steps: From one index to the next along each axis.
        offset: Where it starts in the tensor.
    """

    tensor: Tensor
    counts: tuple[int, ...]
    steps: tuple[int, ...]
    offset: int = 0

    @classmethod
    def whole(cls, tensor: Tensor) -> View:
        """All of a tensor."""
        size = tensor.dtype.itemsize
        return cls(tensor, tensor.shape, tuple(step * size for step in contiguous_steps(tensor.shape)))

    def at(self, index: Index) -> View:
        """The part that an index takes; axes that it does not name are taken whole."""
        counts, steps, offset = [], [], self.offset
        padded = (*index, *(slice(None),) * (len(self.counts) - len(index)))
        for part, count, step in zip(padded, self.counts, self.steps, strict=True):
            if isinstance(part, slice):
                taken = range(*part.indices(count))
                counts.append(len(taken))
                steps.append(taken.step * step)
                offset += taken.start * step
            else:
                offset += part * step
        return View(self.tensor, tuple(counts), tuple(steps), offset)

    def transposed(self, permutation: Sequence[int]) -> View:
        """The same with other axes first."""
        counts = tuple(self.counts[axis] for axis in permutation)
        return View(self.tensor, counts, tuple(self.steps[axis] for axis in permutation), self.offset)


def move(source: View, target: View, fill: int | None = None) -> Call:
    """The copy from one view to another of the same shape.

    Args:
        source: Part of the input.
        target: Part of the output.
        fill: What every byte of the output is set to before; None for nothing.
    """
    assert source.counts == target.counts
    return copied_call(
        source.tensor,
        target.tensor,
        source.counts,
        source.steps,
        target.steps,
        run=source.tensor.dtype.itemsize,
        input_offset=source.offset,
        output_offset=target.offset,
        fill=fill,
    )


def _bind_reshape(node: Node) -> tuple[Call, ...]:
    """An operator that only gives its values another shape."""
    prepare(node)
    check_not_empty(node)
    source, output = input_tensor(node, 0), output_tensor(node)
    return (copied_call(source, output, (), (), (), run=source.bytes),)


for _name in ("RESHAPE", "SQUEEZE", "EXPAND_DIMS"):
    register(_name)(_bind_reshape)


@register("TRANSPOSE")
def bind_transpose(node: Node) -> tuple[Call, ...]:
    """TRANSPOSE."""
    checked = checked_transpose(node)
    check_not_empty(node)
    return (move(View.whole(checked.source).transposed(checked.permutation), View.whole(checked.output)),)


def _register_parts(name: str, check: Callable[[Node], CheckedParts]) -> None:
    @register(name)
    def bind(node: Node) -> tuple[Call, ...]:
        checked = check(node)
        check_not_empty(node)
        source = View.whole(checked.source)
        pairs = zip(checked.indices, checked.outputs, strict=True)
        return tuple(move(source.at(index), View.whole(output)) for index, output in pairs)


_register_parts("SLICE", checked_slice)
_register_parts("SPLIT", checked_split)
_register_parts("SPLIT_V", checked_split_v)
_register_parts("STRIDED_SLICE", checked_strided_slice)
_register_parts("UNPACK", checked_unpack)


@register("PACK")
def bind_pack(node: Node) -> tuple[Call, ...]:
    """PACK: one copy for each input."""
    checked = checked_pack(node)
    check_not_empty(node)
    target, head = View.whole(checked.output), (slice(None),) * checked.axis
    sources = enumerate(checked.sources)
    return tuple(move(View.whole(source), target.at((*head, number))) for number, source in sources)


@register("CONCATENATION")
def bind_concatenation(node: Node) -> tuple[Call, ...]:
    """CONCATENATION: one copy for each input."""
    checked = checked_concatenation(node)
    check_not_empty(node)
    target, head = View.whole(checked.output), (slice(None),) * checked.axis
    calls, start = [], 0
    for source in checked.sources:
        stop = start + source.shape[checked.axis]
        calls.append(move(View.whole(source), target.at((*head, slice(start, stop)))))
        start = stop
    return tuple(calls)


@register("PAD")
@register("PADV2")
def bind_pad(node: Node) -> tuple[Call, ...]:
    """PAD and PADV2; a given value is copied everywhere first, unless all its bytes are the same."""
    checked = checked_pad(node)
    check_not_empty(node)
    target = View.whole(checked.output)
    shape = zip(checked.pairs, checked.source.shape, strict=True)
    inside = target.at(tuple(slice(before, before + size) for (before, _), size in shape))
    value: Any = checked.value
    if value is None:
        given = input_tensor(node, 2)
        if given.data is None or len(set(given.data.tobytes())) > 1:
            everywhere = View(given, target.counts, (0,) * len(target.counts))
            return move(everywhere, target), move(View.whole(checked.source), inside)
        value = given.data.reshape(-1)[0]
    fill = np.array(value).astype(checked.source.dtype).tobytes()[0]
    return (move(View.whole(checked.source), inside, fill),)
