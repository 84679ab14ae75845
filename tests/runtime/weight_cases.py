"""Random cases of the C kernels with weights, and what the reference kernels give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tflnest.device.parameters import (
    ConvParams,
    DepthwiseConvParams,
    Extent,
    Field,
    Filter,
    FullyConnectedParams,
    Requantization,
    Shape,
)
from tflnest.device.structures import Computed
from tflnest.device.weights import flat_filter, level_fields, level_offset
from tflnest.fixedpoint import quantize_multipliers
from tflnest.kernels.convolution import convolution
from tflnest.kernels.depthwise import depthwise_convolution
from tflnest.kernels.fully_connected import fully_connected
from tflnest.kernels.geometry import Window
from tflnest.kernels.quantized import Requantization as ReferenceRequantization
from tflnest.nesting import Nesting, Scheme
from tflnest.packing import pack
from tflnest.parts import Part

#: (chain, scheme), None for flat weights.
NESTINGS: tuple[Nesting | None, ...] = (
    None,
    Nesting((4, 6, 8)),
    Nesting((4, 8)),
    Nesting((3, 5, 8)),
    Nesting((2, 4, 6, 8)),
    Nesting((5, 8)),
    Nesting((6, 8)),
    Nesting((1, 7)),
    Nesting((3, 6, 8)),
    Nesting((5, 6, 8)),
    Nesting((2, 6, 8)),
    Nesting((8,)),
    Nesting((4, 6, 8), Scheme.COMPENSATED),
    Nesting((2, 3, 8), Scheme.COMPENSATED),
)


@dataclass(frozen=True)
class Case:
    """One call of a kernel.

    Attributes:
        kernel: "conv", "depthwise_conv" or "fully_connected".
        params: Of the kernel.
        filter: Of the kernel.
        input: int8.
        expected: int8, what the reference kernel gives.
    """

    kernel: str
    params: Any
    filter: Filter
    input: NDArray[np.int8]
    expected: NDArray[np.int8]

    def with_tile(self, channels: int) -> Case:
        """The same with another number of channels per tile."""
        return replace(self, params=replace(self.params, tile_channels=channels))


@dataclass(frozen=True)
class Arithmetic:
    """How sums become outputs.

    Attributes:
        multiplier: int32, one or one per channel.
        shift: As many.
        bias: int32, one per channel, or None.
        params: Zero points and range.
    """

    multiplier: NDArray[np.int32]
    shift: NDArray[np.int32]
    bias: NDArray[np.int32] | None
    params: Requantization

    @property
    def reference(self) -> ReferenceRequantization:
        """As the reference kernels take it."""
        p = self.params
        return ReferenceRequantization(
            self.multiplier,
            self.shift,
            p.input_zero_point,
            p.output_zero_point,
            p.activation_min,
            p.activation_max,
        )


def arithmetic(rng: np.random.Generator, channels: int, products: int, style: str = "usual") -> Arithmetic:
    """Random requantization.

    Args:
        rng: Source of numbers.
        channels: Of the output.
        products: Per output; sets the order of magnitude of the scales.
        style: "plain" is the most common form; "usual" varies it; "large" has scales of about 1, some with left
            shifts; "wild" has any multiplier and shift.
    """
    plain = style == "plain"
    per_channel = plain or rng.random() < 0.8
    count = channels if per_channel else 1
    if style == "wild":
        multiplier = rng.integers(0, 1 << 31, count).astype(np.int32)
        shift = rng.integers(-31, 31, count).astype(np.int32)
    else:
        scale = 3.0 if style == "large" else 127.0 / (60.0 * 70.0 * np.sqrt(products))
        multiplier, shift = quantize_multipliers(scale * np.exp(rng.normal(0.0, 0.7, count)))
    bias = None
    if plain or rng.random() < 0.85:
        limit = (1 << 31) - 1 if style == "wild" else 3000
        bias = rng.integers(-limit, limit, channels).astype(np.int32)
    low, high = -128, 127
    if not plain and rng.random() < 0.4:
        low, high = sorted(int(value) for value in rng.integers(-128, 128, 2))
    zero_points = [int(value) for value in rng.integers(-128, 128, 2)]
    return Arithmetic(multiplier, shift, bias, Requantization(*zero_points, low, high))


def weights_and_filter(
    rng: np.random.Generator,
    shape: tuple[int, ...],
    requantization: Arithmetic,
    nesting: Nesting | None,
    level: int | None = None,
) -> tuple[NDArray[np.int8], Filter]:
    """Random weights of a level, or of a random one, and the filter that holds them."""
    weights = rng.integers(-128, 128, shape).astype(np.int8)
    if rng.random() < 0.1:
        weights = np.where(weights < 0, -128, 127).astype(np.int8)
    bias = None if requantization.bias is None else Computed(requantization.bias, "bias")
    values = Computed(weights.reshape(-1), "values")
    flat = flat_filter(values, bias, requantization.multiplier, requantization.shift)
    if nesting is None:
        return weights, flat
    level = int(rng.choice(nesting.levels)) if level is None else level
    planes = [rng.integers(0, 1 << plane.bits, weights.size).astype(np.uint8) for plane in nesting.planes]
    if nesting.scheme is Scheme.COMPENSATED:
        planes = nesting.split(nesting.truncate(weights.reshape(-1)))
    weights = nesting.join(planes, level).reshape(shape)
    packed = [
        np.frombuffer(pack(codes, plane.bits), np.uint8)
        for codes, plane in zip(planes, nesting.planes, strict=True)
    ]
    parts = tuple(
        Field(
            Computed(_aligned(packed[field.codes.tensor][field.codes.offset :]), "codes"),
            field.bits,
            field.shift,
        )
        for field in level_fields(nesting, level, _apart(packed), weights.size)
    )
    disjoint = int(nesting.scheme is Scheme.BUCKET)
    offset = level_offset(nesting, level)
    return weights, replace(
        flat, values=None, fields=parts, field_count=len(parts), offset=offset, disjoint=disjoint
    )


def _apart(planes: Sequence[NDArray[np.uint8]]) -> list[Part]:
    """Every plane in a tensor of its own, which its number names."""
    return [Part(number, 0, plane.size) for number, plane in enumerate(planes)]


def _aligned(data: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A copy of its own, so that reading beyond it is noticed; numpy aligns it to 16."""
    return data.copy()


def _input(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.int8]:
    values = rng.integers(-128, 128, shape).astype(np.int8)
    return np.where(values < 0, -128, 127).astype(np.int8) if rng.random() < 0.1 else values


def conv_case(
    rng: np.random.Generator,
    *,
    image: tuple[int, int, int, int],
    channels: int,
    taps: tuple[int, int] = (3, 3),
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    padding: str = "SAME",
    groups: int = 1,
    tile: int = 16,
    nesting: Nesting | None = None,
    level: int | None = None,
    style: str = "usual",
) -> Case:
    """A CONV_2D; `image` is (samples, height, width, channels)."""
    depth = image[3] // groups
    window = Window.sliding(padding, taps, stride, dilation, image[1:3])
    chosen = arithmetic(rng, channels, taps[0] * taps[1] * depth, style)
    weights, filter_ = weights_and_filter(rng, (channels, *taps, depth), chosen, nesting, level)
    x = _input(rng, image)
    evaluate = convolution(
        weights=weights, bias=chosen.bias, window=window, requantization=chosen.reference, groups=groups
    )
    params = ConvParams(
        input=Shape(*image),
        output=Shape(image[0], *window.output, channels),
        filter=Extent(*taps),
        stride=Extent(*stride),
        dilation=Extent(*dilation),
        padding=Extent(*window.padding),
        groups=groups,
        tile_channels=tile,
        requantization=chosen.params,
    )
    return Case("conv", params, filter_, x, evaluate((x,))[0])


def depthwise_case(
    rng: np.random.Generator,
    *,
    image: tuple[int, int, int, int],
    multiplier: int = 1,
    taps: tuple[int, int] = (3, 3),
    stride: tuple[int, int] = (1, 1),
    dilation: tuple[int, int] = (1, 1),
    padding: str = "SAME",
    tile: int = 16,
    nesting: Nesting | None = None,
    level: int | None = None,
    style: str = "usual",
) -> Case:
    """A DEPTHWISE_CONV_2D; `image` is (samples, height, width, channels)."""
    channels = image[3] * multiplier
    window = Window.sliding(padding, taps, stride, dilation, image[1:3])
    chosen = arithmetic(rng, channels, taps[0] * taps[1], style)
    weights, filter_ = weights_and_filter(rng, (1, *taps, channels), chosen, nesting, level)
    x = _input(rng, image)
    evaluate = depthwise_convolution(
        weights=weights,
        bias=chosen.bias,
        window=window,
        requantization=chosen.reference,
        multiplier=multiplier,
    )
    params = DepthwiseConvParams(
        input=Shape(*image),
        output=Shape(image[0], *window.output, channels),
        filter=Extent(*taps),
        stride=Extent(*stride),
        dilation=Extent(*dilation),
        padding=Extent(*window.padding),
        tile_channels=tile,
        requantization=chosen.params,
    )
    return Case("depthwise_conv", params, filter_, x, evaluate((x,))[0])


def fully_connected_case(
    rng: np.random.Generator,
    *,
    batches: int = 1,
    inputs: int,
    outputs: int,
    tile: int = 4,
    nesting: Nesting | None = None,
    level: int | None = None,
    style: str = "usual",
) -> Case:
    """A FULLY_CONNECTED."""
    chosen = arithmetic(rng, outputs, inputs, style)
    weights, filter_ = weights_and_filter(rng, (outputs, inputs), chosen, nesting, level)
    x = _input(rng, (batches, inputs))
    evaluate = fully_connected(
        weights=weights, bias=chosen.bias, requantization=chosen.reference, output_shape=(batches, outputs)
    )
    params = FullyConnectedParams(batches, inputs, outputs, tile, chosen.params)
    return Case("fully_connected", params, filter_, x, evaluate((x,))[0])


def random_case(rng: np.random.Generator) -> Case:
    """Any of the three with any shape, small enough for an emulated board."""
    nesting = NESTINGS[int(rng.integers(len(NESTINGS)))]
    style = str(rng.choice(["usual", "usual", "usual", "large", "wild"]))
    tile = int(rng.choice([0, 1, 2, 3, 4, 5, 8, 16, 32]))
    kind = int(rng.integers(5))
    if kind == 0:
        inputs = int(rng.choice([16, 32, 48, 64, 128, 160, rng.integers(1, 100)]))
        batches, outputs = int(rng.choice([1, 1, 2, 5])), int(rng.integers(1, 20))
        return fully_connected_case(
            rng, batches=batches, inputs=inputs, outputs=outputs, tile=tile, nesting=nesting, style=style
        )
    samples, height, width = int(rng.choice([1, 1, 2])), int(rng.integers(1, 9)), int(rng.integers(1, 9))
    taps = (int(rng.integers(1, 5)), int(rng.integers(1, 5))) if rng.random() < 0.5 else (3, 3)
    stride = (int(rng.integers(1, 4)), int(rng.integers(1, 4))) if rng.random() < 0.5 else (1, 1)
    dilation = (int(rng.integers(1, 4)), int(rng.integers(1, 4))) if rng.random() < 0.2 else (1, 1)
    fits = all(
        (tap - 1) * step < size for tap, step, size in zip(taps, dilation, (height, width), strict=True)
    )
    padding = str(rng.choice(["SAME", "VALID"])) if fits else "SAME"
    depth = int(rng.choice([1, 2, 3, 4, 8, 12, 16, 32, rng.integers(1, 40)]))
    window: dict[str, Any] = {"taps": taps, "stride": stride, "dilation": dilation, "padding": padding}
    shared: dict[str, Any] = {"tile": tile, "nesting": nesting, "style": style}
    if kind <= 2:
        multiplier = int(rng.choice([1, 1, 1, 2, 3, 8])) if kind == 1 else 1
        image = (samples, height, width, min(depth, 12) if multiplier > 1 else depth)
        return depthwise_case(rng, image=image, multiplier=multiplier, **window, **shared)
    groups = int(rng.choice([1, 2, 4])) if rng.random() < 0.3 else 1
    channels = groups * int(rng.choice([1, 2, 3, 4, 8, 16, rng.integers(1, 24)]))
    image = (samples, height, width, -(-depth // groups) * groups)
    if kind == 4:
        window.update(taps=(1, 1), dilation=(1, 1), padding="SAME")
        window["stride"] = stride if rng.random() < 0.3 else (1, 1)
    return conv_case(rng, image=image, channels=channels, groups=groups, **window, **shared)
