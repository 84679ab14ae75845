"""Operators that contradict themselves end in one clear error, never in a crash or a wild allocation."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.operator_sweep import CASES, draw
from tests.single_operator import GraphBuilder
from tflnest.errors import FormatError, TflnestError, UnsupportedError
from tflnest.kernels import Node, prepare
from tflnest.model import Model, pack_tree

MUTATIONS_PER_CASE = 25

#: Mutated models are not evaluated above this size.
MAX_ELEMENTS = 1 << 20

NUMBERS = (0, 1, 2, 3, -1, -2, 7, 255, -129, 1 << 16, (1 << 31) - 1, -(1 << 31))
SCALES = (0.0, -1.0, float("nan"), float("inf"), 1e-38, 1e30, 1e-9, 1.0)


def node_of(content: bytes) -> Node:
    graph = Model.from_bytes(content).graph.main
    operator = graph.operators[0]
    inputs = tuple(graph.tensors[index] if index >= 0 else None for index in operator.inputs)
    return Node(operator, inputs, tuple(graph.tensors[index] for index in operator.outputs))


def values_of(node: Node) -> list[Any]:
    return [
        None
        if tensor is None
        else np.zeros(tensor.shape, tensor.dtype)
        if tensor.data is None
        else tensor.data
        for tensor in node.inputs
    ]


# ------------------------------------------------------------------------------------------------ mutations


def _mutate_option(rng: np.random.Generator, operator: Any) -> None:
    options = operator.builtinOptions
    fields = vars(options) if options is not None else {}
    names = [name for name, value in fields.items() if isinstance(value, (bool, int, float))]
    if names:
        value = getattr(options, name := names[rng.integers(len(names))])
        if isinstance(value, bool):
            setattr(options, name, not value)
        elif isinstance(value, float):
            setattr(options, name, SCALES[rng.integers(len(SCALES))])
        else:
            small = name in ("padding", "fusedActivationFunction", "weightsFormat") or name.endswith("Type")
            setattr(options, name, int(rng.integers(0, 6)) if small else NUMBERS[rng.integers(len(NUMBERS))])


def _mutate_shape(rng: np.random.Generator, tensor: Any) -> None:
    shape = list(tensor.shape)
    choice = rng.integers(4)
    if choice == 0 or not shape:
        shape.append(int(rng.integers(0, 4)))
    elif choice == 1:
        shape.pop()
    else:
        shape[rng.integers(len(shape))] = int(rng.integers(0, 9))
    tensor.shape = shape


def _mutate_quantization(rng: np.random.Generator, tensor: Any) -> None:
    quantization = tensor.quantization
    if quantization is None or quantization.scale is None:
        return
    choice = rng.integers(4)
    if choice == 0:
        tensor.quantization = None
    elif choice == 1:
        quantization.zeroPoint = [int(NUMBERS[rng.integers(len(NUMBERS))])]
    elif choice == 2:
        quantization.scale = [0.5, 0.25]
        quantization.zeroPoint = [0, 0]
    else:
        quantization.scale = [SCALES[rng.integers(len(SCALES))]]
        quantization.zeroPoint = [0]


def _mutate_constant(rng: np.random.Generator, tree: Any, tensor: Any) -> None:
    if tensor.buffer and tensor.type == 2:  # INT32: axes, sizes, paddings, biases
        values = np.asarray(tree.buffers[tensor.buffer].data, np.uint8).view(np.int32).copy()
        if values.size:
            values[rng.integers(values.size)] = NUMBERS[rng.integers(len(NUMBERS))]
            tree.buffers[tensor.buffer].data = values.view(np.uint8)


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """A copy of a one-operator model with one or two things wrong."""
    tree = Model.from_bytes(content).tree
    subgraph = tree.subgraphs[0]
    operator = subgraph.operators[0]
    for _ in range(rng.integers(1, 3)):
        tensor = subgraph.tensors[rng.integers(len(subgraph.tensors))]
        mutations: list[Callable[[], None]] = [
            lambda: _mutate_option(rng, operator),
            lambda tensor=tensor: _mutate_shape(rng, tensor),
            lambda tensor=tensor: _mutate_quantization(rng, tensor),
            lambda tensor=tensor: _mutate_constant(rng, tree, tensor),
            lambda tensor=tensor: setattr(tensor, "type", int(rng.choice([0, 2, 3, 4, 6, 7, 9, 17]))),
            lambda tensor=tensor: setattr(tensor, "buffer", 0),
            lambda: setattr(
                operator, "inputs", list(rng.permutation([*operator.inputs, -1])[: len(operator.inputs)])
            ),
            lambda: setattr(operator, "inputs", list(operator.inputs)[:-1]),
            lambda: setattr(operator, "outputs", [*operator.outputs, 0]),
            lambda: setattr(operator, "outputs", []),
        ]
        mutations[rng.integers(len(mutations))]()
    return pack_tree(tree)


@pytest.mark.parametrize("name", CASES)
def test_mutated_operators_compute_or_say_what_is_wrong(name: str) -> None:
    refused = 0
    for seed in range(MUTATIONS_PER_CASE):
        rng = np.random.default_rng([seed, 17])
        content = mutated(draw(name, 1000 + seed % 5).model, rng)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                node = node_of(content)
                kernel = prepare(node)
                if all(
                    tensor is None or tensor.size <= MAX_ELEMENTS for tensor in (*node.inputs, *node.outputs)
                ):
                    outputs = kernel.evaluate(values_of(node))
                    for tensor, output in zip(node.outputs, outputs, strict=True):
                        assert (output.dtype, output.shape) == (tensor.dtype, tensor.shape)
            except TflnestError as error:
                assert len(error.message) > 20
                refused += 1
    assert refused > 0


# --------------------------------------------------------------------------------------------- single cases


def unary(
    name: str, scale_in: float = 0.1, scale_out: float = 0.1, zero_out: int = 0, **options: Any
) -> Node:
    graph = GraphBuilder()
    x = graph.input((1, 4, 4, 2), scale=scale_in)
    y = graph.tensor((1, 4, 4, 2), scale=scale_out, zero_point=zero_out)
    graph.operator(name, [x], [y], **options)
    return node_of(graph.build([y]))


def test_softmax_demands_the_output_quantization_that_tflm_demands() -> None:
    with pytest.raises(UnsupportedError, match=r"operator 0 \(SOFTMAX\).*must be 0.00390625 and -128"):
        prepare(unary("SOFTMAX", zero_out=-128, beta=1.0))


def test_logistic_demands_the_zero_point_that_tflm_demands() -> None:
    with pytest.raises(UnsupportedError, match=r"output zero point 3, must be -128"):
        prepare(unary("LOGISTIC", zero_out=3))


def test_pooling_refuses_a_change_of_scale() -> None:
    options = {"padding": "VALID", "stride_h": 1, "stride_w": 1, "filter_height": 1, "filter_width": 1}
    with pytest.raises(UnsupportedError, match="same scale and zero point"):
        prepare(unary("MAX_POOL_2D", scale_out=0.2, **options))


@pytest.mark.parametrize("stride", [0, -1])
def test_pooling_refuses_strides_that_do_not_move(stride: int) -> None:
    options = {"padding": "VALID", "stride_h": stride, "stride_w": 1, "filter_height": 1, "filter_width": 1}
    with pytest.raises(FormatError, match="stride"):
        prepare(unary("AVERAGE_POOL_2D", **options))


@pytest.mark.parametrize("scale", [0.0, -0.5, float("nan"), float("inf")])
def test_scales_must_be_positive_numbers(scale: float) -> None:
    with pytest.raises(FormatError, match="a positive number expected"):
        prepare(unary("RELU", scale_in=scale))


def test_shapes_that_do_not_broadcast_are_named() -> None:
    graph = GraphBuilder()
    x, y = graph.input((1, 4), scale=0.1), graph.input((1, 3), scale=0.1)
    out = graph.tensor((1, 4), scale=0.1)
    graph.operator("ADD", [x, y], [out])
    with pytest.raises(FormatError, match=r"shapes \[1, 4\] and \[1, 3\] cannot be broadcast"):
        prepare(node_of(graph.build([out])))


def test_scales_that_are_too_far_apart_are_refused_where_tflm_aborts() -> None:
    graph = GraphBuilder()
    x, y = graph.input((1, 4), scale=0.1), graph.input((1, 4), scale=0.1)
    out = graph.tensor((1, 4), scale=1e-9)
    graph.operator("ADD", [x, y], [out])
    with pytest.raises(UnsupportedError, match="scales are too far apart"):
        prepare(node_of(graph.build([out])))


def test_an_axis_that_is_computed_is_refused() -> None:
    graph = GraphBuilder()
    x, axis = graph.input((1, 4), scale=0.1), graph.input((1,), "INT32")
    out = graph.tensor((1,), scale=0.1)
    graph.operator("MEAN", [x, axis], [out])
    with pytest.raises(UnsupportedError, match=r"its axis .* is not a constant"):
        prepare(node_of(graph.build([out])))
