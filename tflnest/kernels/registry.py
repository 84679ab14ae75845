"""Which operators the reference interpreter knows, and what it asks of their kernels.

A kernel has two halves. `prepare` reads everything that is fixed (shapes, quantization, constants) and checks
it; the function it returns only computes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from tflnest.errors import UnsupportedError
from tflnest.fixedpoint import Rounding
from tflnest.graph import Operator, Tensor
from tflnest.narrowing import narrowed
from tflnest.nesting import MASTER_BITS

#: Values of the inputs of one operator, in the operator's order; None where an optional input is absent.
Arrays = Sequence[NDArray[Any] | None]

#: Computes all outputs of one operator; never changes its inputs.
Evaluate = Callable[[Arrays], tuple[NDArray[Any], ...]]


@dataclass(frozen=True)
class Node:
    """What a kernel is prepared from.

    Attributes:
        operator: The operator with its options.
        inputs: Its input tensors, with `data` for constants; None where an optional input is absent.
        outputs: Its output tensors.
        rounding: Which fixed-point rounding to use.
    """

    operator: Operator
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]
    rounding: Rounding = Rounding.DOUBLE


@dataclass(frozen=True)
class Kernel:
    """An operator that is ready to compute.

    Attributes:
        evaluate: Computes the outputs from the inputs.
        batchable: Whether the leading dimension of all non-constant inputs and of the outputs counts samples
            and may be any number; otherwise only the shapes in the file are taken.
    """

    evaluate: Evaluate
    batchable: bool


def narrowing_kernel(kernel: Kernel, bits: int) -> Kernel:
    """The kernel of an operator that reads its first input, int8, at fewer bits.

    Args:
        kernel: Of the operator at 8 bits.
        bits: 1 to 8; at 8 it is the same kernel.
    """
    if bits == MASTER_BITS:
        return kernel

    def evaluate(arrays: Arrays) -> tuple[NDArray[Any], ...]:
        assert arrays[0] is not None
        return kernel.evaluate((narrowed(arrays[0], bits), *arrays[1:]))

    return Kernel(evaluate, kernel.batchable)


Prepare = Callable[[Node], Kernel]

_PREPARE: dict[str, Prepare] = {}


def register(name: str) -> Callable[[Prepare], Prepare]:
    """Decorator: make a function the kernel of an operator.

    Args:
        name: Builtin operator ("CONV_2D") or custom code.
    """

    def decorate(function: Prepare) -> Prepare:
        if name in _PREPARE:
            raise ValueError(f"operator {name} has two kernels")
        _PREPARE[name] = function
        return function

    return decorate


def supported_operators() -> tuple[str, ...]:
    """Names of the operators that have a kernel, sorted."""
    return tuple(sorted(_PREPARE))


def prepare(node: Node) -> Kernel:
    """Prepare the kernel of an operator.

    Raises:
        UnsupportedError: There is none, or it does not do these types or options.
        FormatError: The operator contradicts itself.
    """
    function = _PREPARE.get(node.operator.name)
    if function is None:
        raise UnsupportedError(
            f"operator {node.operator.label} is not supported",
            f"supported operators: {', '.join(supported_operators())}",
        )
    return function(node)
