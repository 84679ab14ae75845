"""Prepares operators for the compiled runtime; those that it lacks are left to the reference kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray

from tflnest.device import bind, bind_nested
from tflnest.errors import UnsupportedError
from tflnest.graph import Subgraph, Tensor
from tflnest.kernels.registry import Kernel, Node, prepare
from tflnest.native.kernels import constant_location, native_kernel
from tflnest.native.library import Library, library
from tflnest.nested import NestedOperator, ReadTensor


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

    def stock_kernel(self, node: Node, tensors: Sequence[Tensor]) -> Kernel:
        """The kernel of a stock operator.

        Args:
            node: The operator.
            tensors: Of the subgraph; constants have `data`.
        """

        def read(index: int) -> NDArray[Any]:
            values = tensors[index].data
            assert values is not None, "a binding names constants only"
            return values

        try:
            return native_kernel(
                bind(node),
                self.library,
                constant_location(read),
                lambda arrays: prepare(node).evaluate(arrays),
            )
        except UnsupportedError as error:
            kernel = prepare(node)
            self.fallbacks[node.operator.label] = error.message
            return kernel

    def nested_kernel(
        self,
        nested: NestedOperator,
        subgraph: Subgraph,
        level: int,
        read: ReadTensor,
        expand: Callable[[], Kernel],
    ) -> Kernel:
        """The kernel of a nested operator at a level; its planes are read where they lie.

        Args:
            nested: The operator.
            subgraph: It stands in this one.
            level: One of its own levels.
            read: Gives the values of a constant tensor; raises where its page is not resident.
            expand: Makes its reference kernel at this level.
        """
        locate = constant_location(lambda index: read(subgraph.tensors[index]))
        try:
            call = bind_nested(nested, subgraph, read, (level,))
            return native_kernel((call,), self.library, locate, lambda arrays: expand().evaluate(arrays))
        except UnsupportedError as error:
            self.fallbacks[nested.operator.label] = error.message
            return expand()
