"""Convolutions and fully connected operators, bound to the C kernels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tests.models import NetworkBuilder, nested, network, random_inputs
from tests.operator_sweep import draw
from tflnest.device import bind, missing_operators, supported_on_device
from tflnest.device.parameters import Filter
from tflnest.device.weights import is_disjoint, level_fields, level_offset, nested_filter
from tflnest.errors import UnsupportedError
from tflnest.fixedpoint import Rounding
from tflnest.interpreter import Interpreter
from tflnest.kernels import Node
from tflnest.model import Model
from tflnest.nesting import Nesting, Scheme
from tflnest.packing import pack, unpack
from tflnest.parts import Part

CHAINS = ((4, 6, 8), (3, 5, 8), (2, 4, 6, 8), (5, 8), (8,), (1, 2, 3, 4, 5, 6, 7, 8), (3, 6), (7, 8))


def single_node(name: str, seed: int = 0) -> Node:
    graph = Model.from_bytes(draw(name, seed).model).graph.main
    (operator,) = graph.operators
    inputs = tuple(graph.tensors[index] if index >= 0 else None for index in operator.inputs)
    return Node(operator, inputs, tuple(graph.tensors[index] for index in operator.outputs))


def decode(filter_: Filter, planes: dict[int, bytes], count: int) -> np.ndarray:
    """What the C kernels do: sums of shifted codes and the offset, modulo 256."""
    total = np.full(count, filter_.offset, np.uint8)
    for field in filter_.fields:
        codes = unpack(
            _field(planes[field.codes.tensor], field.codes.offset, field.bits, count), field.bits, count
        )
        part = (codes << field.shift).astype(np.uint8)
        total = (total ^ part) if filter_.disjoint else (total + part).astype(np.uint8)
    return total.view(np.int8)


def _field(plane: bytes, offset: int, bits: int, count: int) -> bytes:
    groups = -(-count // 16)
    size = -(-groups * 2 * bits // 4) * 4
    return plane[offset : offset + size]


@pytest.mark.parametrize("scheme", Scheme)
@pytest.mark.parametrize("levels", CHAINS)
def test_fields_give_the_weights_of_every_level(levels: Sequence[int], scheme: Scheme) -> None:
    nesting = Nesting(tuple(levels), scheme)
    rng = np.random.default_rng(len(levels))
    codes = nesting.truncate(rng.integers(-128, 127, 77, dtype=np.int8, endpoint=True))
    split = nesting.split(codes)
    planes = {
        10 + number: pack(part, plane.bits)
        for number, (part, plane) in enumerate(zip(split, nesting.planes, strict=True))
    }
    for level in levels:
        filter_ = nested_filter(
            nesting,
            level,
            tuple(Part(number, 0, len(content)) for number, content in planes.items()),
            77,
            bias=Part(1, 0, 28),
            multipliers=Part(2, 0, 28),
            shifts=Part(3, 0, 7),
        )
        assert filter_.field_count == len(filter_.fields) <= 8
        expected = nesting.join(split[: nesting.index(level) + 1], level)
        np.testing.assert_array_equal(decode(filter_, planes, 77), expected)
        single = nesting.index(level) == 0
        assert filter_.disjoint == int(scheme is Scheme.BUCKET or single), "buckets are bit fields"


def test_an_offset_that_carries_is_not_bitwise() -> None:
    nesting = Nesting((4, 8))
    parts = level_fields(nesting, 8, (Part(0, 0, 8), Part(1, 0, 8)), 16)
    assert level_offset(nesting, 8) == 128
    assert is_disjoint(parts, 128)
    assert not is_disjoint(parts, 1)
    assert not is_disjoint((*parts, parts[0]), 0)


@pytest.mark.parametrize(
    "name", ["CONV_2D-int8", "DEPTHWISE_CONV_2D-int8", "FULLY_CONNECTED-int8-per-channel"]
)
@pytest.mark.parametrize("seed", range(5))
def test_parameters_are_those_of_the_reference_kernel(name: str, seed: int) -> None:
    node = single_node(name, seed)
    (call,) = bind(node)
    source, weights, output = node.inputs[0], node.inputs[1], node.outputs[0]
    assert source is not None and weights is not None
    assert call.function.name == f"tflnest_{name.split('-')[0].lower().replace('_2d', '')}_s8"
    assert call.function.check.endswith("_check") and call.function.buffer_size.endswith("_get_buffer_size")
    assert [item.tensor for item in (*call.inputs, *call.outputs)] == [source.index, output.index]
    assert call.params.requantization.input_zero_point == source.zero_point
    (filter_,) = (item.filter for item in call.filters)
    assert filter_.values.tensor == weights.index
    assert filter_.multipliers.values.size == weights.quantization.scale.size
    assert call.with_tile(4).params.tile_channels == 4
    if hasattr(call.params, "output"):
        shape = call.params.output
        assert (shape.batches, shape.height, shape.width, shape.channels) == output.shape
        assert call.params.for_samples(3).output.batches == 3 * output.shape[0]


def test_what_the_runtime_lacks_is_said() -> None:
    node = single_node("DEQUANTIZE-int8")
    assert "is not in the device runtime" in (supported_on_device(node) or "")
    node = single_node("CONV_2D-int8")
    assert supported_on_device(node) is None
    with pytest.raises(UnsupportedError, match="rounds double, not single"):
        bind(Node(node.operator, node.inputs, node.outputs, Rounding.SINGLE))


def test_missing_operators_of_a_model_are_listed() -> None:
    assert missing_operators(nested(network()).graph.main) == {}
    main = Model.from_bytes(draw("RELU-float32", 0).model).graph.main
    assert list(missing_operators(main)) == [main.operators[0].label]
    constant = Model.from_bytes(draw("SHAPE-int32", 0).model).graph.main
    (reason,) = missing_operators(constant).values()
    assert "SHAPE" in reason


def test_a_depthwise_convolution_over_one_channel_is_an_ordinary_one() -> None:
    """Output channel m is the window over the one input channel with the weights [0, :, :, m]."""
    builder = NetworkBuilder()
    x = builder.start((1, 6, 5, 1))
    weights = builder.filter((1, 3, 2, 8), axis=3)
    y = builder.activation((1, 6, 5, 8))
    builder.operator(
        "DEPTHWISE_CONV_2D",
        [x, weights, builder.bias(8)],
        [y],
        version=3,
        padding="SAME",
        stride_w=1,
        stride_h=1,
        depth_multiplier=8,
        dilation_w_factor=1,
        dilation_h_factor=1,
    )
    model = builder.finish(y)
    main = model.graph.main
    operator = main.operators[0]
    node = Node(
        operator, tuple(main.tensors[i] for i in operator.inputs), (main.tensors[operator.outputs[0]],)
    )
    (call,) = bind(node)
    assert call.function.name == "tflnest_conv_s8"
    assert (call.params.groups, call.params.output.channels) == (1, 8)
    values = call.filters[0].filter.values.values.reshape(8, 3, 2)
    assert np.array_equal(values, np.moveaxis(main.tensors[weights].data[0], 2, 0))
    samples = random_inputs(model, 4)
    outputs = [Interpreter(model=model, engine=engine).run(samples) for engine in ("reference", "native")]
    assert np.array_equal(*outputs)
