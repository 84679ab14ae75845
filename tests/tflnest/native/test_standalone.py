"""Single native operators over many samples give what the reference kernels give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from converters.streams import Stream, evaluate
from tests.operator_sweep import CASES, draw
from tflnest.errors import TflnestError
from tflnest.graph import Subgraph
from tflnest.kernels import Node, prepare
from tflnest.model import Model
from tflnest.native.standalone import prepare_native

SAMPLES = 7


def node_of(subgraph: Subgraph) -> Node:
    (operator,) = subgraph.operators
    inputs = tuple(subgraph.tensors[index] if index >= 0 else None for index in operator.inputs)
    return Node(operator, inputs, tuple(subgraph.tensors[index] for index in operator.outputs))


def stream_of(subgraph: Subgraph, rows: list[list[NDArray[Any]]]) -> Stream:
    """The inputs of some invokes, one after the other along their first dimension."""
    return {
        index: np.concatenate([rows[number % len(rows)][position] for number in range(SAMPLES)])
        for position, index in enumerate(subgraph.inputs)
    }


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_streams_do_not_depend_on_the_engine(name: str, threads: int) -> None:
    compared = 0
    for seed in range(6):
        case = draw(name, 300 + seed)
        subgraph = Model.from_bytes(case.model).graph.main
        node = node_of(subgraph)
        if any(tensor.shape[:1] != (1,) for tensor in subgraph.input_tensors()):
            continue  # samples come first in a stream
        results = []
        for kernel in (prepare(node), prepare_native(node, threads)):
            stream = stream_of(subgraph, case.inputs)
            try:
                evaluate(subgraph, node.operator, kernel, stream)
            except (TflnestError, ValueError):
                break  # a stream is not what this operator takes
            results.append([stream[index] for index in node.operator.outputs])
        if len(results) == 2:
            compared += 1
            for expected, actual in zip(*results, strict=True):
                assert (expected.dtype, expected.shape) == (actual.dtype, actual.shape)
                np.testing.assert_array_equal(expected, actual)
    assert compared or not name.startswith(("CONV_2D", "DEPTHWISE"))
