"""Reading activations at fewer bits, as calls of the C kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tflnest.device.calls import Argument, Call, Function, declare
from tflnest.device.structures import Int32, c_struct
from tflnest.graph import Tensor
from tflnest.nesting import MASTER_BITS


@c_struct("tflnest_narrow_params")
@dataclass(frozen=True)
class NarrowParams:
    """How many values are read at how many bits."""

    size: Int32
    bits: Int32

    def for_samples(self, count: int) -> NarrowParams:
        """The same for so many times the elements."""
        return replace(self, size=self.size * count)


NARROW = declare(Function("tflnest_narrow_s8", "tflnest/tflnest_narrow.h", NarrowParams))


def narrow_call(source: Tensor, bits: int, target: int) -> Call:
    """Reads an int8 tensor at fewer bits.

    Args:
        source: What is read.
        bits: 1 to 8.
        target: Index of the tensor that is written; may be the source.
    """
    return Call(NARROW, NarrowParams(source.size, bits), (Argument(source.index),), (Argument(target),))


def narrowed_calls(calls: Sequence[Call], source: Tensor, bits: int, target: int) -> tuple[Call, ...]:
    """An operator's calls with an activation that is read at fewer bits.

    Args:
        calls: What computes the operator, in order.
        source: The activation.
        bits: 1 to 8; at 8 the calls are what they were.
        target: Index of the tensor that takes the narrowed values; may be the source.
    """
    if bits == MASTER_BITS:
        return tuple(calls)
    return (narrow_call(source, bits, target), *(_reading(call, source.index, target) for call in calls))


def _reading(call: Call, source: int, target: int) -> Call:
    """The call with another tensor in the place of one that it reads."""
    inputs = tuple(
        replace(argument, tensor=target) if argument.tensor == source else argument
        for argument in call.inputs
    )
    return replace(call, inputs=inputs)
