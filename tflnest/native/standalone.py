"""Single operators in the compiled runtime, over any number of samples: what converters compute with."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tflnest.device import bind
from tflnest.errors import UnsupportedError
from tflnest.execution import Step
from tflnest.graph import Tensor
from tflnest.kernels.registry import Arrays, Kernel, Node, prepare
from tflnest.native.frame import Frame, Segment
from tflnest.native.kernels import NativeKernel, constant_location, native_kernel
from tflnest.native.library import library
from tflnest.native.program import BATCH_BYTES


def prepare_native(node: Node, threads: int = 1) -> Kernel:
    """The kernel of an operator, native where the compiled runtime has it; a reference kernel elsewhere.

    Args:
        node: The operator. Its tensors need not lie in a file; those with `data` are constants.
        threads: How many batches of samples are computed at the same time.

    Raises:
        UnsupportedError: Neither has it, or there is no C compiler.
        FormatError: The operator contradicts itself.
    """
    runtime = library()
    renumbered, tensors = _renumbered(node)
    if all(tensor is None or tensor.data is not None for tensor in node.inputs):
        return prepare(node)

    def read(index: int) -> NDArray[Any]:
        values = tensors[index].data
        assert values is not None, "a binding names constants only"
        return values

    try:
        kernel = native_kernel(
            bind(renumbered),
            runtime,
            constant_location(read),
            lambda arrays: prepare(node).evaluate(arrays),
        )
    except UnsupportedError:
        return prepare(node)
    return standalone_kernel(renumbered, tensors, kernel, threads)


def standalone_kernel(
    node: Node, tensors: Sequence[Tensor], kernel: NativeKernel, threads: int = 1
) -> Kernel:
    """A native kernel that runs by itself, over any number of samples.

    Args:
        node: The operator.
        tensors: Everything that its calls name, by index; constants have `data`.
        kernel: What computes it.
        threads: How many batches of samples are computed at the same time.
    """
    return Kernel(_Standalone(node, tensors, kernel, threads), True)


def _renumbered(node: Node) -> tuple[Node, tuple[Tensor, ...]]:
    """The node with tensors that are numbered from 0 on, and those tensors."""
    tensors: list[Tensor] = []
    inputs: list[Tensor | None] = []
    for tensor in (*node.inputs, *node.outputs):
        inputs.append(None if tensor is None else replace(tensor, index=len(tensors)))
        if tensor is not None:
            tensors.append(replace(tensor, index=len(tensors)))
    outputs = tuple(tensor for tensor in inputs[len(node.inputs) :] if tensor is not None)
    sources = tuple(inputs[: len(node.inputs)])
    operator = replace(
        node.operator,
        inputs=tuple(-1 if tensor is None else tensor.index for tensor in sources),
        outputs=tuple(tensor.index for tensor in outputs),
    )
    return Node(operator, sources, outputs, node.rounding), tuple(tensors)


class _Standalone:
    """Runs one native kernel.

    Args:
        node: The operator.
        tensors: Everything that its calls name, by index.
        kernel: What computes it.
        threads: How many batches are computed at the same time.
    """

    def __init__(self, node: Node, tensors: Sequence[Tensor], kernel: NativeKernel, threads: int) -> None:
        self._node, self._tensors, self._threads = node, tensors, threads
        self._varying = [
            (position, tensor)
            for position, tensor in enumerate(node.inputs)
            if tensor is not None and tensor.data is None
        ]
        shapes = tuple(tensor.shape for tensor in node.outputs)
        step = Step(node.operator, node.operator.inputs, node.operator.outputs, shapes, ())
        self._segment = Segment([step], [kernel], tensors)

    def __call__(self, arrays: Arrays) -> tuple[NDArray[Any], ...]:
        """Evaluate; see `Evaluate`."""
        inputs: dict[int, NDArray[Any]] = {}
        for position, tensor in self._varying:
            values = arrays[position]
            assert values is not None
            inputs[tensor.index] = values.reshape(-1, tensor.size)
        count = max(len(values) for values in inputs.values())
        outputs = [np.empty((count, tensor.size), tensor.dtype) for tensor in self._node.outputs]
        step = self._samples_at_a_time(count)

        def run_from(start: int) -> None:
            stop = min(start + step, count)
            frame = Frame([self._segment], self._tensors, stop - start, True, frozenset(), library())
            for index, values in inputs.items():
                if index in frame.values:
                    frame.values[index].reshape(stop - start, -1)[...] = values[start:stop]
            frame.run(0)
            for tensor, output in zip(self._node.outputs, outputs, strict=True):
                output[start:stop] = frame.values[tensor.index].reshape(stop - start, -1)

        starts = range(0, count, step)
        if self._threads > 1 and len(starts) > 1:
            with ThreadPoolExecutor(self._threads) as pool:
                list(pool.map(run_from, starts))
        else:
            for start in starts:
                run_from(start)
        return tuple(
            output.reshape(count * tensor.shape[0], *tensor.shape[1:])
            if tensor.shape
            else output.reshape(count)
            for tensor, output in zip(self._node.outputs, outputs, strict=True)
        )

    def _samples_at_a_time(self, count: int) -> int:
        size = sum(tensor.bytes for _, tensor in self._varying) + sum(
            item.bytes for item in self._node.outputs
        )
        return max(min(BATCH_BYTES // max(size, 1), -(-count // self._threads)), 1)
