"""Nested loops over strided memory, as the C kernels walk them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Annotated

from tflnest.device.structures import Array, Int32, c_struct
from tflnest.graph import Tensor
from tflnest.kernels.checks import unsupported
from tflnest.kernels.registry import Node

#: TFLNEST_MAX_LOOPS.
MAX_LOOPS = 8


@c_struct("tflnest_loop")
@dataclass(frozen=True)
class Loop:
    """One loop over two tensors."""

    count: Int32
    first_step: Int32
    second_step: Int32


@c_struct("tflnest_broadcast")
@dataclass(frozen=True)
class Broadcast:
    """Elements of two inputs that go together."""

    run: Int32
    first_step: Int32
    second_step: Int32
    first_size: Int32
    second_size: Int32
    output_size: Int32
    loop_count: Int32
    loops: Annotated[tuple[Loop, ...], Array]


def loops_of(counts: Sequence[int], *steps: Sequence[int]) -> tuple[Loop, ...]:
    """As few loops as walk over two tensors, outermost first.

    Args:
        counts: Turns of each loop, 1 or more.
        steps: Two rows of steps per turn, one for each tensor.
    """
    loops: list[Loop] = []
    for count, first, second in zip(counts, *steps, strict=True):
        if count == 1:
            continue
        if loops and (loops[-1].first_step, loops[-1].second_step) == (first * count, second * count):
            loops[-1] = Loop(loops[-1].count * count, first, second)
        else:
            loops.append(Loop(count, first, second))
    return tuple(loops)


def contiguous_steps(shape: Sequence[int]) -> list[int]:
    """Elements from one index to the next along each axis of a C-contiguous array."""
    return [prod(shape[axis + 1 :]) for axis in range(len(shape))]


def broadcast_of(first: Tensor, second: Tensor, output: Tensor) -> Broadcast:
    """How two inputs are broadcast to an output, which holds something."""
    steps = [_broadcast_steps(tensor.shape, output.shape) for tensor in (first, second)]
    loops = loops_of(output.shape, *steps)
    inner = loops[-1] if loops else Loop(1, 1, 1)
    outer = loops[:-1]
    return Broadcast(
        run=inner.count,
        first_step=inner.first_step,
        second_step=inner.second_step,
        first_size=first.size,
        second_size=second.size,
        output_size=output.size,
        loop_count=len(outer),
        loops=outer,
    )


def _broadcast_steps(shape: Sequence[int], output: Sequence[int]) -> list[int]:
    padded = [1] * (len(output) - len(shape)) + list(shape)
    steps = contiguous_steps(padded)
    return [step if size > 1 else 0 for size, step in zip(padded, steps, strict=True)]


def check_not_empty(node: Node) -> None:
    """Raise UnsupportedError where a tensor of an operator holds nothing: no C kernel computes nothing."""
    for tensor in (*node.inputs, *node.outputs):
        if tensor is not None and tensor.size == 0:
            raise unsupported(
                node, f"tensor {tensor.label} has shape {list(tensor.shape)}, which holds nothing"
            )
