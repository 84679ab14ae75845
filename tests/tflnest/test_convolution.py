from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.single_operator import GraphBuilder
from tests.tflnest import literal
from tflnest.errors import FormatError, TflnestError, UnsupportedError
from tflnest.fixedpoint import Rounding, quantize_multipliers
from tflnest.interpreter import Interpreter
from tflnest.kernels import workspace
from tflnest.kernels.convolution import convolution
from tflnest.kernels.depthwise import depthwise_convolution
from tflnest.kernels.fully_connected import fully_connected
from tflnest.kernels.geometry import Window
from tflnest.kernels.quantized import Requantization
from tflnest.kernels.transpose_conv import transpose_convolution


def scaling_of(
    rng: np.random.Generator, channels: int, products: int, single: bool = False
) -> literal.Scaling:
    real = rng.uniform(0.5, 2.0, channels) * 0.6 / (4000.0 * np.sqrt(products))
    multiplier, shift = quantize_multipliers(real)
    low = int(rng.choice([-128, -60]))
    return literal.Scaling(
        multiplier, shift, int(rng.integers(-128, 128)), int(rng.integers(-50, 50)), low, 100, single
    )


def requantization_of(scaling: literal.Scaling) -> Requantization:
    return Requantization(
        scaling.multiplier,
        scaling.shift,
        scaling.input_zero_point,
        scaling.output_zero_point,
        scaling.low,
        scaling.high,
        Rounding.SINGLE if scaling.single else Rounding.DOUBLE,
    )


def int8(rng: np.random.Generator, *shape: int) -> NDArray[np.int8]:
    return rng.integers(-128, 128, shape).astype(np.int8)


def bias_of(rng: np.random.Generator, channels: int) -> NDArray[np.int32]:
    return rng.integers(-20000, 20000, channels).astype(np.int32)


CONVOLUTIONS = [
    # image, channels in and out, filter, stride, dilation, padding, groups
    ((5, 6), (3, 4), (3, 3), (1, 1), (1, 1), "SAME", 1),
    ((5, 6), (3, 4), (3, 2), (1, 1), (1, 1), "VALID", 1),
    ((7, 6), (2, 5), (3, 3), (2, 3), (1, 1), "SAME", 1),
    ((8, 9), (2, 3), (3, 2), (1, 1), (2, 3), "SAME", 1),
    ((8, 9), (2, 3), (2, 3), (1, 1), (3, 2), "VALID", 1),
    ((4, 4), (6, 4), (3, 3), (2, 1), (1, 2), "SAME", 2),
    ((4, 3), (4, 8), (1, 1), (1, 1), (1, 1), "SAME", 1),
    ((4, 3), (4, 8), (1, 1), (1, 1), (1, 1), "VALID", 4),
    ((5, 5), (3, 2), (1, 1), (2, 3), (1, 1), "VALID", 1),
    ((3, 2), (1, 2), (2, 3), (1, 1), (5, 7), "SAME", 1),  # some taps never touch the image
    ((1, 2), (2, 3), (2, 2), (1, 1), (9, 9), "SAME", 1),  # no tap of the first axis does
    ((2, 1), (3, 2), (5, 5), (3, 4), (1, 1), "SAME", 1),
]


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolution_is_the_literal_one(case: tuple, single: bool) -> None:
    image_size, (depth, channels), size, stride, dilation, padding, groups = case
    rng = np.random.default_rng(1)
    image, weights = int8(rng, 2, *image_size, depth), int8(rng, channels, *size, depth // groups)
    bias = None if single else bias_of(rng, channels)
    scaling = scaling_of(rng, channels, weights[0].size, single)
    evaluate = convolution(
        weights=weights,
        bias=bias,
        window=Window.sliding(padding, size, stride, dilation, image_size),
        requantization=requantization_of(scaling),
        groups=groups,
    )
    expected = literal.convolution(image, weights, bias, scaling, stride, dilation, padding, groups)
    (out,) = evaluate([image])
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(evaluate([image[:1]])[0], expected[:1])


@pytest.mark.parametrize("block", [1, 40, 200, 1000])
@pytest.mark.parametrize("case", CONVOLUTIONS[:6])
def test_blocks_do_not_change_the_result(case: tuple, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of a row, rows, and whole images per block."""
    image_size, (depth, channels), size, stride, dilation, padding, groups = case
    rng = np.random.default_rng(2)
    image, weights = int8(rng, 3, *image_size, depth), int8(rng, channels, *size, depth // groups)
    evaluate = convolution(
        weights=weights,
        bias=None,
        window=Window.sliding(padding, size, stride, dilation, image_size),
        requantization=requantization_of(scaling_of(rng, channels, weights[0].size)),
        groups=groups,
    )
    (expected,) = evaluate([image])
    monkeypatch.setattr("tflnest.kernels.convolution.GEMM_BLOCK_ELEMENTS", block)
    monkeypatch.setattr("tflnest.kernels.quantized.GEMM_BLOCK_ELEMENTS", block)
    np.testing.assert_array_equal(evaluate([image])[0], expected)


DEPTHWISE = [
    # image, channels in, multiplier, filter, stride, dilation, padding
    ((5, 6), 3, 1, (3, 3), (1, 1), (1, 1), "SAME"),
    ((7, 8), 4, 1, (3, 3), (2, 2), (1, 1), "SAME"),
    ((7, 8), 4, 1, (3, 3), (2, 2), (1, 1), "VALID"),
    ((6, 7), 2, 3, (2, 3), (1, 3), (1, 1), "SAME"),
    ((6, 9), 1, 4, (3, 3), (2, 2), (1, 1), "SAME"),
    ((9, 9), 2, 1, (3, 3), (1, 1), (2, 3), "SAME"),
    ((9, 9), 2, 2, (3, 4), (2, 3), (1, 2), "SAME"),
    ((9, 10), 2, 1, (2, 4), (3, 4), (2, 3), "VALID"),
    ((3, 1), 5, 1, (3, 3), (1, 1), (1, 1), "SAME"),
    ((2, 3), 2, 1, (3, 2), (1, 1), (8, 9), "SAME"),
    ((11, 1), 3, 1, (5, 1), (1, 1), (1, 1), "VALID"),
]


@pytest.mark.parametrize("case", DEPTHWISE)
def test_depthwise_convolution_is_the_literal_one(case: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    image_size, depth, multiplier, size, stride, dilation, padding = case
    rng = np.random.default_rng(3)
    image, weights = int8(rng, 3, *image_size, depth), int8(rng, 1, *size, depth * multiplier)
    bias = bias_of(rng, depth * multiplier)
    scaling = scaling_of(rng, depth * multiplier, size[0] * size[1])
    evaluate = depthwise_convolution(
        weights=weights,
        bias=bias,
        window=Window.sliding(padding, size, stride, dilation, image_size),
        requantization=requantization_of(scaling),
        multiplier=multiplier,
    )
    expected = literal.depthwise(image, weights, bias, scaling, stride, dilation, padding, multiplier)
    np.testing.assert_array_equal(evaluate([image])[0], expected)
    for block in (1, 50, 300):
        monkeypatch.setattr("tflnest.kernels.depthwise.BLOCK_ELEMENTS", block)
        np.testing.assert_array_equal(evaluate([image])[0], expected)


@pytest.mark.parametrize("filter_zero_point", [0, -7, 127])
def test_fully_connected_is_the_literal_one(filter_zero_point: int) -> None:
    rng = np.random.default_rng(4)
    rows, weights, bias = int8(rng, 6, 20), int8(rng, 5, 20), bias_of(rng, 5)
    scaling = scaling_of(rng, 5, 20)
    evaluate = fully_connected(
        weights=weights,
        bias=bias,
        requantization=requantization_of(scaling),
        output_shape=(6, 5),
        filter_zero_point=filter_zero_point,
    )
    expected = literal.fully_connected(rows, weights, bias, scaling, filter_zero_point)
    np.testing.assert_array_equal(evaluate([rows])[0], expected)
    np.testing.assert_array_equal(evaluate([rows.reshape(2, 3, 4, 5)])[0], expected)


@pytest.mark.parametrize(
    ("image_size", "size", "stride", "padding", "output"),
    [
        ((3, 4), (3, 3), (2, 2), "SAME", (6, 8)),
        ((3, 4), (3, 3), (2, 2), "SAME", (5, 7)),
        ((3, 2), (3, 2), (1, 2), "VALID", (5, 4)),
        ((2, 3), (2, 2), (3, 3), "VALID", (6, 9)),
        ((3, 3), (1, 1), (1, 1), "SAME", (3, 3)),
    ],
)
def test_transpose_convolution_is_the_literal_one(
    image_size: tuple[int, int],
    size: tuple[int, int],
    stride: tuple[int, int],
    padding: str,
    output: tuple[int, int],
) -> None:
    rng = np.random.default_rng(5)
    image, weights, bias = int8(rng, 2, *image_size, 3), int8(rng, 4, *size, 3), bias_of(rng, 4)
    scaling = scaling_of(rng, 4, weights[0].size)
    evaluate = transpose_convolution(
        weights=weights,
        bias=bias,
        window=Window.sliding(padding, size, stride, (1, 1), output),
        requantization=requantization_of(scaling),
    )
    expected = literal.transpose_convolution(image, weights, bias, scaling, stride, padding, output)
    np.testing.assert_array_equal(evaluate([image])[0], expected)


def test_sums_beyond_float32() -> None:
    """All weights and inputs at their ends: sums of 2^25 that float32 would round."""
    rng = np.random.default_rng(6)
    image = rng.choice(np.array([-128, 127], np.int8), (1, 2, 2, 3000))
    weights = rng.choice(np.array([-128, 127], np.int8), (4, 1, 1, 3000))
    image[0, 0, 0], weights[0] = -128, -128
    multiplier, shift = quantize_multipliers(np.full(4, 127.0 / 128**2 / 3000))
    scaling = literal.Scaling(multiplier, shift, 3, 0)
    evaluate = convolution(
        weights=weights,
        bias=None,
        window=Window.sliding("VALID", (1, 1), (1, 1), (1, 1), (2, 2)),
        requantization=requantization_of(scaling),
    )
    expected = literal.convolution(image, weights, None, scaling, (1, 1), (1, 1), "VALID", 1)
    np.testing.assert_array_equal(evaluate([image])[0], expected)


@pytest.mark.parametrize("axis", [0, 1])
def test_hostile_dilations_and_filters_take_no_memory(axis: int) -> None:
    """The padded image would have 10^13 pixels; the taps that touch the image need 4."""
    size, dilation = [3, 3], [1 << 22, 1 << 22]
    size[axis], dilation[axis] = 5000, 1
    rng = np.random.default_rng(7)
    window = Window.sliding("SAME", (size[0], size[1]), (1, 1), (dilation[0], dilation[1]), (2, 2))
    weights, image = int8(rng, 1, *size, 1), int8(rng, 1, 2, 2, 1)
    scaling = scaling_of(rng, 1, 4)
    requantization = requantization_of(scaling)
    dense = convolution(weights=weights, bias=None, window=window, requantization=requantization)
    deep = depthwise_convolution(
        weights=np.tile(weights, (1, 1, 1, 2)), bias=None, window=window, multiplier=1,
        requantization=replace(
            requantization, multiplier=np.repeat(scaling.multiplier, 2), shift=np.repeat(scaling.shift, 2)
        ),
    )  # fmt: skip
    (out,) = dense([image])
    np.testing.assert_array_equal(deep([np.repeat(image, 2, axis=3)])[0][..., :1], out)
    for y, x in np.ndindex(2, 2):
        acc = 0
        for iy, ix in np.ndindex(2, 2):
            ky, remainder = divmod(iy - y, dilation[0])
            kx, rest = divmod(ix - x, dilation[1])
            if not remainder and not rest:
                tap = weights[0, ky + (size[0] - 1) // 2, kx + (size[1] - 1) // 2, 0]
                acc += (int(image[0, iy, ix, 0]) - scaling.input_zero_point) * int(tap)
        assert out[0, y, x, 0] == scaling(acc, 0)


def test_scratch_memory_is_shared_and_bounded() -> None:
    first = workspace.scratch("test", (10, 10), np.float32)
    assert np.shares_memory(first, workspace.scratch("test", (5,), np.float64))
    assert not np.shares_memory(first, workspace.scratch("other test", (5,), np.float64))
    large = workspace.scratch("test", (workspace.MAX_KEPT_BYTES + 1,), np.int8)
    assert not np.shares_memory(large, workspace.scratch("test", (5,), np.int8))


# ---------------------------------------------------------------------------------- from a file's operator


def conv_model(
    image: tuple[int, ...] = (1, 4, 4, 2),
    weights: tuple[int, ...] = (3, 2, 2, 2),
    output: tuple[int, ...] = (1, 4, 4, 3),
    weights_scale: object = 0.02,
    weights_type: type = np.int8,
    bias: object = (1, 2, 3),
    input_scale: float | None = 0.1,
    output_scale: float = 0.1,
    zero_point: int = 0,
    name: str = "CONV_2D",
    **options: object,
) -> bytes:
    builder = GraphBuilder()
    x = builder.input(image, "INT8", input_scale, zero_point)
    w = builder.constant(np.ones(weights, weights_type), weights_scale, axis=3 if name[0] == "D" else 0)
    inputs = [x, w]
    if bias is not None:
        inputs.append(builder.constant(np.array(bias, np.int32), 0.002))
    y = builder.tensor(output, "INT8", output_scale)
    defaults = {} if name == "FULLY_CONNECTED" else {"padding": "SAME", "stride_w": 1, "stride_h": 1}
    if name != "FULLY_CONNECTED":
        defaults |= {"dilation_w_factor": 1, "dilation_h_factor": 1}
    builder.operator(name, inputs, [y], **(defaults | options))
    return builder.build([y])


def allocate(content: bytes) -> Interpreter:
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    return interpreter


REFUSED = [
    (FormatError, "stride is 0", {"stride_w": 0}),
    (FormatError, "dilation is -1", {"dilation_h_factor": -1}),
    (FormatError, "window of 2 does not fit an image of 1", {"image": (1, 1, 4, 2), "padding": "VALID"}),
    (FormatError, "make no whole groups", {"image": (1, 4, 4, 3)}),
    (FormatError, "make no whole groups", {"image": (1, 4, 4, 4)}),
    (FormatError, r"has shape \[1, 4, 4, 3\], computed: \[1, 2, 2, 3\]", {"stride_w": 2, "stride_h": 2}),
    (FormatError, "4 dimensions are expected", {"weights": (3, 4, 2)}),
    (FormatError, "none of them 0", {"image": (1, 0, 4, 2)}),
    (FormatError, "has 2 values for 3 output channels", {"bias": (1, 2)}),
    (FormatError, "has 2 scales for 3 output channels", {"weights_scale": (0.1, 0.2)}),
    (FormatError, "negative, infinite or not a number", {"weights_scale": (0.1, np.nan, 0.1)}),
    (FormatError, "negative, infinite or not a number", {"weights_scale": -0.1}),
    (FormatError, "a positive number expected", {"output_scale": 0.0}),
    (FormatError, "a positive number expected", {"input_scale": np.inf}),
    (FormatError, "zero point 200, outside INT8", {"zero_point": 200}),
    (FormatError, "needs a shift of", {"weights_scale": 1e30}),
    (FormatError, "has no scale", {"input_scale": None}),
    (UnsupportedError, "is UINT8, supported: INT8", {"weights_type": np.uint8}),
    (UnsupportedError, "is FLOAT32, supported: INT8", {"weights_type": np.float32}),
    (
        FormatError,
        "does not go with 2 input channels",
        {"name": "DEPTHWISE_CONV_2D", "weights": (1, 2, 2, 3)},
    ),
    (
        FormatError,
        "depth multiplier 3 times 2 input channels is not the filter's 4",
        {"name": "DEPTHWISE_CONV_2D", "weights": (1, 2, 2, 4), "depth_multiplier": 3},
    ),
    (FormatError, "5 inputs per row do not divide", {"name": "FULLY_CONNECTED", "weights": (3, 5)}),
    (FormatError, "4 rows of 3 are expected", {"name": "FULLY_CONNECTED", "weights": (3, 8)}),
    (
        UnsupportedError,
        "TFLM refuses such a layer",
        {"name": "FULLY_CONNECTED", "weights": (3, 32), "output": (1, 3), "weights_scale": 0.5},
    ),
    (
        UnsupportedError,
        "shuffled weights",
        {"name": "FULLY_CONNECTED", "weights": (3, 32), "output": (1, 3), "weights_format": 1},
    ),
]


@pytest.mark.parametrize(("error", "message", "changes"), REFUSED)
def test_inconsistent_operators_are_refused(error: type[TflnestError], message: str, changes: dict) -> None:
    with pytest.raises(error, match=message) as caught:
        allocate(conv_model(**changes))
    assert type(caught.value) is error


CONSISTENT = [
    {},
    {"bias": None},
    {"weights_scale": (0.0, 0.01, 0.02)},
    {"name": "FULLY_CONNECTED", "weights": (3, 32), "output": (1, 3)},
    {"name": "DEPTHWISE_CONV_2D", "weights": (1, 2, 2, 4), "output": (1, 4, 4, 4), "bias": (0, 0, 0, 0)},
]


@pytest.mark.parametrize("changes", CONSISTENT)
def test_the_consistent_ones_are_accepted(changes: dict) -> None:
    interpreter = allocate(conv_model(**changes))
    interpreter.invoke()
    for detail in interpreter.get_output_details():
        assert interpreter.get_tensor(detail["index"]).shape == tuple(detail["shape"])


def test_computed_weights() -> None:
    """A filter that another operator makes gives what the same constant filter gives."""
    rng = np.random.default_rng(8)
    image, weights = int8(rng, 1, 4, 4, 2), int8(rng, 3, 2, 2, 2)
    outputs = []
    for computed in (False, True):
        builder = GraphBuilder()
        x = builder.input(image.shape, "INT8", 0.1, 4)
        w = builder.input(weights.shape, "INT8", 0.02) if computed else builder.constant(weights, 0.02)
        y = builder.tensor((1, 3, 3, 3), "INT8", 0.3)
        builder.operator(
            "CONV_2D",
            [x, w],
            [y],
            padding="VALID",
            stride_w=1,
            stride_h=1,
            dilation_w_factor=1,
            dilation_h_factor=1,
        )
        interpreter = Interpreter(model_content=builder.build([y]))
        interpreter.allocate_tensors()
        interpreter.set_tensor(x, image)
        if computed:
            interpreter.set_tensor(w, weights)
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(y))
    np.testing.assert_array_equal(outputs[0], outputs[1])
    assert len(np.unique(outputs[0])) > 5
