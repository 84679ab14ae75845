"""Run many samples through a graph operator by operator, with other weights where a level has them.

A stream holds the activations of the source model, or of the model at one level, for all samples. Streams run
side by side, so that what an operator does at a level can be seen on the very inputs that it will get there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.engine import prepare
from tflnest.errors import UnsupportedError
from tflnest.execution import check_dataflow, check_sizes
from tflnest.graph import Operator, Quantization, Subgraph, Tensor
from tflnest.kernels import Kernel, Node

#: Activations by tensor index, samples first.
Stream = dict[int, NDArray[Any]]


def same_inputs(operator: Operator, first: Stream, second: Stream) -> bool:
    """Whether an operator reads the very same arrays in two streams."""
    return all(first.get(index) is second.get(index) for index in operator.inputs)


def last_uses(subgraph: Subgraph) -> Mapping[int, int]:
    """Index of the last operator that reads or writes each tensor."""
    return {
        index: operator.index
        for operator in subgraph.operators
        for index in (*operator.outputs, *operator.inputs)
    }


def check_runnable(subgraph: Subgraph) -> None:
    """Refuse what can't be run as a stream of samples.

    Raises:
        FormatError: An operator reads what nobody wrote.
        UnsupportedError: The activations or constants are too large, a tensor keeps its value between invokes, or
            an output does not depend on the inputs.
    """
    check_sizes(subgraph)
    check_dataflow(subgraph)
    variable = next((tensor for tensor in subgraph.tensors if tensor.is_variable), None)
    if variable is not None:
        raise UnsupportedError(f"tensor {variable.label} keeps its value between invokes")
    computed = {index for operator in subgraph.operators for index in operator.outputs}
    if not subgraph.outputs or not computed.issuperset(subgraph.outputs):
        raise UnsupportedError(f"the outputs {list(subgraph.outputs)} are not all computed")


def level_node(
    subgraph: Subgraph,
    operator: Operator,
    weights: NDArray[np.int8] | None = None,
    bias: NDArray[np.int32] | None = None,
    scales: NDArray[np.float32] | None = None,
) -> Node:
    """What a kernel is prepared from; with the weights, bias and filter scales of a level where given."""
    inputs: list[Tensor | None] = [
        subgraph.tensors[index] if index >= 0 else None for index in operator.inputs
    ]
    if weights is not None and bias is not None:
        activation, filter_tensor = inputs[0], inputs[1]
        assert activation is not None and filter_tensor is not None and filter_tensor.quantization is not None
        source = filter_tensor.quantization
        scales = source.scale if scales is None else scales
        quantization = Quantization(scales, np.zeros(scales.size, np.int64), source.axis)
        inputs[1] = replace(
            filter_tensor, data=weights.reshape(filter_tensor.shape), quantization=quantization
        )
        bias_scales = (np.float32(activation.scale) * scales).astype(np.float32)
        bias_quantization = Quantization(bias_scales, np.zeros(scales.size, np.int64))
        inputs[2:] = [Tensor(-1, "", bias.shape, bias.shape, "INT32", bias_quantization, 0, bias)]
    return Node(operator, tuple(inputs), tuple(subgraph.tensors[index] for index in operator.outputs))


def evaluate(subgraph: Subgraph, operator: Operator, kernel: Kernel, stream: Stream) -> None:
    """Run one operator on all samples of a stream, and keep its outputs in it."""
    tensors = [subgraph.tensors[index] if index >= 0 else None for index in operator.inputs]
    arrays = [
        None if tensor is None else tensor.data if tensor.is_constant else stream[tensor.index]
        for tensor in tensors
    ]
    varying = [tensor is not None and not tensor.is_constant for tensor in tensors]
    if kernel.batchable or not any(varying):
        results = kernel.evaluate(arrays)
    else:
        samples = max(
            len(array) for array, varies in zip(arrays, varying, strict=True) if varies and array is not None
        )
        rows = [
            kernel.evaluate(
                [
                    array[n : n + 1] if varies and array is not None else array
                    for array, varies in zip(arrays, varying, strict=True)
                ]
            )
            for n in range(samples)
        ]
        results = tuple(np.concatenate(column) for column in zip(*rows, strict=True))
    stream.update(zip(operator.outputs, results, strict=True))


def run_operator(subgraph: Subgraph, operator: Operator, stream: Stream) -> None:
    """Run one operator as it is in the source."""
    evaluate(subgraph, operator, prepare(level_node(subgraph, operator)), stream)


def drop_finished(
    stream: Stream, uses: Mapping[int, int], operator: Operator, keep: frozenset[int] = frozenset()
) -> None:
    """Forget the activations that no operator after this one reads."""
    for index in [index for index in stream if uses.get(index, -1) <= operator.index and index not in keep]:
        del stream[index]
