"""The structs of the C kernels with weights; `tflnest/runtime/include/tflnest` documents every member."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from tflnest.device.structures import (
    Array,
    Int8Data,
    Int32,
    Int32Data,
    UInt8,
    UInt8Data,
    c_struct,
)


@c_struct("tflnest_shape")
@dataclass(frozen=True)
class Shape:
    """Shape of an activation."""

    batches: Int32
    height: Int32
    width: Int32
    channels: Int32


@c_struct("tflnest_extent")
@dataclass(frozen=True)
class Extent:
    """A pair of a vertical and a horizontal extent."""

    height: Int32
    width: Int32


@c_struct("tflnest_field")
@dataclass(frozen=True)
class Field:
    """One field of packed codes."""

    codes: UInt8Data
    bits: UInt8
    shift: UInt8


@c_struct("tflnest_filter")
@dataclass(frozen=True)
class Filter:
    """The weights of an operator at one level, with what belongs to that level."""

    values: Int8Data
    fields: Annotated[tuple[Field, ...], Array]
    field_count: UInt8
    offset: UInt8
    disjoint: UInt8
    per_channel: UInt8
    bias: Int32Data
    multipliers: Int32Data
    shifts: Int8Data


@c_struct("tflnest_requantization")
@dataclass(frozen=True)
class Requantization:
    """Zero points and activation range."""

    input_zero_point: Int32
    output_zero_point: Int32
    activation_min: Int32
    activation_max: Int32


@c_struct("tflnest_conv_params")
@dataclass(frozen=True)
class ConvParams:
    """CONV_2D."""

    input: Shape
    output: Shape
    filter: Extent
    stride: Extent
    dilation: Extent
    padding: Extent
    groups: Int32
    tile_channels: Int32
    requantization: Requantization

    @property
    def products(self) -> int:
        """Weights per output channel."""
        return self.filter.height * self.filter.width * self.input.channels // self.groups

    def for_samples(self, count: int) -> ConvParams:
        """The same for so many times the batches."""
        return replace(self, input=_repeat(self.input, count), output=_repeat(self.output, count))


@c_struct("tflnest_depthwise_conv_params")
@dataclass(frozen=True)
class DepthwiseConvParams:
    """DEPTHWISE_CONV_2D."""

    input: Shape
    output: Shape
    filter: Extent
    stride: Extent
    dilation: Extent
    padding: Extent
    tile_channels: Int32
    requantization: Requantization

    @property
    def products(self) -> int:
        """Weights per output channel."""
        return self.filter.height * self.filter.width

    def for_samples(self, count: int) -> DepthwiseConvParams:
        """The same for so many times the batches."""
        return replace(self, input=_repeat(self.input, count), output=_repeat(self.output, count))


@c_struct("tflnest_fully_connected_params")
@dataclass(frozen=True)
class FullyConnectedParams:
    """FULLY_CONNECTED."""

    batches: Int32
    inputs: Int32
    outputs: Int32
    tile_channels: Int32
    requantization: Requantization

    @property
    def products(self) -> int:
        """Weights per output channel."""
        return self.inputs

    def for_samples(self, count: int) -> FullyConnectedParams:
        """The same for so many times the batches."""
        return replace(self, batches=self.batches * count)


def _repeat(shape: Shape, count: int) -> Shape:
    return replace(shape, batches=shape.batches * count)
