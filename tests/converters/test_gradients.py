"""Gradients against what the integer kernels do."""

from __future__ import annotations

import numpy as np
import pytest

from converters.gradients import Place, input_gradients, unclamped
from converters.streams import evaluate, level_node
from tests.models import NetworkBuilder
from tflnest.kernels import prepare
from tflnest.model import Model
from tflnest.nested import STOCK_OPTIONS

WINDOW = {"padding": "SAME", "stride_w": 2, "stride_h": 2}
CONVOLUTION = {**WINDOW, "dilation_w_factor": 1, "dilation_h_factor": 1}

KINDS = {
    "conv": ("CONV_2D", (5, 3, 3, 4), (1, 4, 4, 5), CONVOLUTION),
    "pointwise": ("CONV_2D", (5, 1, 1, 4), (1, 7, 7, 5), {**CONVOLUTION, "stride_w": 1, "stride_h": 1}),
    "dilated": (
        "CONV_2D",
        (5, 2, 2, 4),
        (1, 5, 5, 5),
        {"padding": "VALID", "stride_w": 1, "stride_h": 1, "dilation_w_factor": 2, "dilation_h_factor": 2},
    ),
    "depthwise": ("DEPTHWISE_CONV_2D", (1, 3, 3, 4), (1, 4, 4, 4), {**CONVOLUTION, "depth_multiplier": 1}),
    "multiplied": ("DEPTHWISE_CONV_2D", (1, 3, 3, 8), (1, 4, 4, 8), {**CONVOLUTION, "depth_multiplier": 2}),
    "dense": ("FULLY_CONNECTED", (6, 196), (1, 6), {}),
    "add": ("ADD", None, (1, 7, 7, 4), {}),
    "pad": ("PAD", [[0, 0], [1, 2], [0, 1], [0, 0]], (1, 10, 8, 4), {}),
    "mean": ("MEAN", [1, 2], (1, 4), {}),
    "pool": ("AVERAGE_POOL_2D", None, (1, 4, 4, 4), {**WINDOW, "filter_width": 3, "filter_height": 3}),
    "reshape": ("RESHAPE", [1, 196], (1, 196), {"new_shape": [1, 196]}),
}


def one_operator(kind: str) -> Model:
    """A single operator whose outputs are not clamped."""
    name, detail, shape, options = KINDS[kind]
    net = NetworkBuilder(3)
    x = net.input((1, 196) if name == "FULLY_CONNECTED" else (1, 7, 7, 4), scale=0.05, zero_point=-3)
    moves = name in ("PAD", "RESHAPE", "AVERAGE_POOL_2D")
    y = net.tensor(shape, scale=0.05 if moves else 0.5 if name in STOCK_OPTIONS else 0.06, zero_point=-3)
    inputs = [x]
    if name in STOCK_OPTIONS:
        axis = 3 if name == "DEPTHWISE_CONV_2D" else 0
        inputs += [net.filter(detail, axis, per_channel=name != "FULLY_CONNECTED"), net.bias(shape[-1])]
    elif name == "ADD":
        inputs.append(x)
    elif detail is not None:
        inputs.append(net.constant(np.array(detail, np.int32)))
    net.operator(name, inputs, [y], **options)
    return Model.from_bytes(net.build([y]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_gradient_says_what_the_kernel_does(kind: str) -> None:
    """The change of a weighted sum of outputs is the gradient times the change of the inputs, up to roundings."""
    subgraph = one_operator(kind).graph.main
    operator = subgraph.operators[0]
    kernel = prepare(level_node(subgraph, operator))
    tensors = tuple(subgraph.tensors[index] for index in operator.inputs)
    activation, output = tensors[0], subgraph.tensors[operator.outputs[0]]
    rng = np.random.default_rng(0)

    def outputs(values: np.ndarray) -> np.ndarray:
        stream = {activation.index: values}
        evaluate(subgraph, operator, kernel, stream)
        return stream[output.index].astype(np.float64)

    shape = (6, *activation.shape[1:])
    first = rng.integers(-40, 40, shape).astype(np.int8)
    weights = factors = None
    if operator.name in STOCK_OPTIONS:
        weights = tensors[1].data
        factors = (activation.scale * tensors[1].quantization.scale / output.scale).astype(np.float32)
    place = Place(operator, tensors, output, {activation.index: shape}, weights, factors)
    expected, found = [], []
    for _ in range(20):
        other = rng.integers(-40, 40, shape).astype(np.int8)
        gradient = rng.normal(size=outputs(first).shape).astype(np.float32)
        expected.append(np.sum(gradient * (outputs(other) - outputs(first))))
        back = input_gradients(place, gradient)[activation.index]
        assert back.shape == shape
        found.append(np.sum(back * (other.astype(np.float64) - first)))
    error = np.linalg.norm(np.subtract(found, expected)) / np.linalg.norm(expected)
    assert error < 0.1


def test_other_operators_pass_nothing_on() -> None:
    subgraph = one_operator("conv").graph.main
    operator = subgraph.operators[0]
    tensors = tuple(subgraph.tensors[index] for index in operator.inputs)
    output = subgraph.tensors[operator.outputs[0]]
    # Without constant weights, and with groups of channels.
    place = Place(operator, tensors, output, {tensors[0].index: (1, 7, 7, 4)})
    assert input_gradients(place, np.ones((1, 4, 4, 5), np.float32)) == {}
    grouped = Place(
        operator,
        tensors,
        output,
        {tensors[0].index: (1, 7, 7, 8)},
        tensors[1].data,
        np.ones(5, np.float32),
    )
    assert input_gradients(grouped, np.ones((1, 4, 4, 5), np.float32)) == {}


def test_clamped_outputs_only_step_back_inside() -> None:
    subgraph = one_operator("add").graph.main
    operator, output = subgraph.operators[0], subgraph.tensors[subgraph.operators[0].outputs[0]]
    values = np.array([-128, -128, 0, 0, 127, 127], np.int8)
    gradient = np.array([1, -1, 1, -1, 1, -1], np.float32)
    # A step goes against the gradient: up where it is negative.
    np.testing.assert_array_equal(unclamped(operator, output, values, gradient), [0, -1, 1, -1, 1, 0])
    operator.options["fused_activation_function"] = "RELU"
    zero = np.array([output.zero_point] * 2 + [0, 0, 127, 127], np.int8)
    np.testing.assert_array_equal(unclamped(operator, output, zero, gradient), [0, 0, 1, -1, 1, 0])
    operator.options["fused_activation_function"] = "RELU6"
    top = np.full(2, output.zero_point + round(6 / output.scale), np.int8)
    np.testing.assert_array_equal(unclamped(operator, output, top, gradient[:2]), [0, 0])
