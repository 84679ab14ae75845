"""Prepares operators for the compiled runtime; those that it lacks are left to the reference kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from tflnest.device import Call, bind, bind_nested
from tflnest.device.narrowing import narrowed_calls
from tflnest.errors import UnsupportedError
from tflnest.graph import Subgraph, Tensor
from tflnest.kernels.registry import Kernel, Node, narrowing_kernel, prepare
from tflnest.native.kernels import constant_location, native_kernel
from tflnest.native.library import Library, library
from tflnest.nested import NestedOperator, ReadTensor
from tflnest.nesting import MASTER_BITS


@dataclass(frozen=True)
class Narrowing:
    """How an operator reads its activation.

    Attributes:
        bits: 1 to 8; 8 is all of them.
        target: Index of the tensor that takes the narrowed values.
    """

    bits: int
    target: int


class NativeEngine:
    """Prepares operators of one model.

    Attributes:
        library: The compiled runtime.
        fallbacks: Why operators are left to the reference kernels, by label.

    Raises:
        UnsupportedError: There is no C compiler.
        TflnestError: The runtime cannot be built.
    """

    def __init__(self) -> None:
        self.library: Library = library()
        self.fallbacks: dict[str, str] = {}

    def stock_kernel(
        self, node: Node, tensors: Sequence[Tensor], narrowing: Narrowing | None = None
    ) -> Kernel:
        """The kernel of a stock operator.

        Args:
            node: The operator.
            tensors: Of the subgraph; constants have `data`.
            narrowing: How it reads its activation; None for all bits.
        """

        def read(index: int) -> NDArray[Any]:
            values = tensors[index].data
            assert values is not None, "a binding names constants only"
            return values

        bits = MASTER_BITS if narrowing is None else narrowing.bits
        try:
            calls = bind(node)
            if narrowing is not None:
                calls = narrowed_calls(calls, tensors[node.operator.inputs[0]], bits, narrowing.target)
            return native_kernel(
                calls,
                self.library,
                constant_location(read),
                lambda arrays: narrowing_kernel(prepare(node), bits).evaluate(arrays),
            )
        except UnsupportedError as error:
            kernel = narrowing_kernel(prepare(node), bits)
            self.fallbacks[node.operator.label] = error.message
            return kernel

    def nested_kernel(
        self,
        nested: NestedOperator,
        subgraph: Subgraph,
        level: int,
        read: ReadTensor,
        expand: Callable[[], Kernel],
        narrowing: Narrowing | None = None,
    ) -> Kernel:
        """The kernel of a nested operator at a level; its planes are read where they lie.

        Args:
            nested: The operator.
            subgraph: It stands in this one.
            level: One of its own levels.
            read: Gives the values of a constant tensor; raises where its page is not resident.
            expand: Makes its reference kernel at this level.
            narrowing: How it reads its activation; None for all bits.
        """
        locate = constant_location(lambda index: read(subgraph.tensors[index]))
        try:
            call = bind_nested(nested, subgraph, read, (level,), narrows=True)
            calls: tuple[Call, ...] = (call,)
            if narrowing is not None:
                source = subgraph.tensors[nested.operator.inputs[0]]
                calls = narrowed_calls(calls, source, narrowing.bits, narrowing.target)
            return native_kernel(calls, self.library, locate, lambda arrays: expand().evaluate(arrays))
        except UnsupportedError as error:
            self.fallbacks[nested.operator.label] = error.message
            return expand()
