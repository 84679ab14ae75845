"""RESIZE_BILINEAR, RESIZE_NEAREST_NEIGHBOR and TRANSPOSE_CONV."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tflnest.device.calls import Argument, Call, Function, declare
from tflnest.device.loops import check_not_empty
from tflnest.device.parameters import Extent, Requantization, Shape
from tflnest.device.registry import register
from tflnest.device.structures import (
    UINT8,
    Computed,
    Constant,
    Int8Data,
    Int32,
    Int32Data,
    c_struct,
)
from tflnest.device.weights import check_shifts
from tflnest.graph import Tensor
from tflnest.kernels.checks import unsupported
from tflnest.kernels.registry import Node
from tflnest.kernels.resize import checked_resize, checked_resize_bilinear, nearest_indices, position_steps
from tflnest.kernels.transpose_conv import checked_transpose_conv


@c_struct("tflnest_resize_bilinear_params")
@dataclass(frozen=True)
class ResizeBilinearParams:
    """RESIZE_BILINEAR."""

    input: Shape
    output: Shape
    scale: Extent
    offset: Extent

    def for_samples(self, count: int) -> ResizeBilinearParams:
        """The same for so many times the batches."""
        return replace(self, input=_repeat(self.input, count), output=_repeat(self.output, count))


@c_struct("tflnest_resize_nearest_params")
@dataclass(frozen=True)
class ResizeNearestParams:
    """RESIZE_NEAREST_NEIGHBOR."""

    input: Shape
    output: Shape
    rows: Int32Data
    columns: Int32Data

    def for_samples(self, count: int) -> ResizeNearestParams:
        """The same for so many times the batches."""
        return replace(self, input=_repeat(self.input, count), output=_repeat(self.output, count))


@c_struct("tflnest_transpose_conv_params")
@dataclass(frozen=True)
class TransposeConvParams:
    """TRANSPOSE_CONV."""

    input: Shape
    output: Shape
    filter: Extent
    stride: Extent
    padding: Extent
    requantization: Requantization
    per_channel: Int32
    weights: Int8Data
    bias: Int32Data
    multipliers: Int32Data
    shifts: Int8Data

    def for_samples(self, count: int) -> TransposeConvParams:
        """The same for so many times the batches."""
        return replace(self, input=_repeat(self.input, count), output=_repeat(self.output, count))


RESIZE_BILINEAR = declare(
    Function("tflnest_resize_bilinear_s8", "tflnest/tflnest_resize.h", ResizeBilinearParams)
)
RESIZE_NEAREST = declare(
    Function(
        "tflnest_resize_nearest_bytes",
        "tflnest/tflnest_resize.h",
        ResizeNearestParams,
        inputs=(UINT8,),
        outputs=(UINT8,),
    )
)
TRANSPOSE_CONV = declare(
    Function("tflnest_transpose_conv_s8", "tflnest/tflnest_transpose_conv.h", TransposeConvParams)
)


def _repeat(shape: Shape, count: int) -> Shape:
    return replace(shape, batches=shape.batches * count)


def _bytes_shape(tensor: Tensor) -> Shape:
    """The shape of an image whose channels are counted in bytes."""
    batches, height, width, channels = tensor.shape
    return Shape(batches, height, width, channels * tensor.dtype.itemsize)


@register("RESIZE_BILINEAR")
def bind_resize_bilinear(node: Node) -> tuple[Call, ...]:
    """RESIZE_BILINEAR."""
    checked = checked_resize_bilinear(node)
    check_not_empty(node)
    source, output = checked.source, checked.output
    sizes = zip(source.shape[1:3], output.shape[1:3], strict=True)
    (scale_y, offset_y), (scale_x, offset_x) = (
        position_steps(before, after, checked.align, checked.half_pixel) for before, after in sizes
    )
    params = ResizeBilinearParams(
        input=Shape(*source.shape),
        output=Shape(*output.shape),
        scale=Extent(scale_y, scale_x),
        offset=Extent(offset_y, offset_x),
    )
    return (Call(RESIZE_BILINEAR, params, (Argument(source.index),), (Argument(output.index),)),)


@register("RESIZE_NEAREST_NEIGHBOR")
def bind_resize_nearest_neighbor(node: Node) -> tuple[Call, ...]:
    """RESIZE_NEAREST_NEIGHBOR: rows and columns are looked up in tables."""
    checked = checked_resize(node, ("INT8", "INT16"))
    check_not_empty(node)
    source, output = checked.source, checked.output
    sizes = zip(source.shape[1:3], output.shape[1:3], ("rows", "columns"), strict=True)
    rows, columns = (
        Computed(nearest_indices(before, after, checked.align, checked.half_pixel).astype(np.int32), purpose)
        for before, after, purpose in sizes
    )
    params = ResizeNearestParams(_bytes_shape(source), _bytes_shape(output), rows, columns)
    return (Call(RESIZE_NEAREST, params, (Argument(source.index),), (Argument(output.index),)),)


@register("TRANSPOSE_CONV")
def bind_transpose_conv(node: Node) -> tuple[Call, ...]:
    """TRANSPOSE_CONV with constant weights."""
    checked = checked_transpose_conv(node)
    check_not_empty(node)
    constants = [checked.weights, *([] if checked.bias is None else [checked.bias])]
    for tensor in constants:
        if tensor.data is None:
            raise unsupported(node, f"tensor {tensor.label} is not a constant")
    fixed, window = checked.requantization, checked.window
    check_shifts(fixed.shift)
    params = TransposeConvParams(
        input=Shape(*checked.source.shape),
        output=Shape(*checked.output.shape),
        filter=Extent(*window.size),
        stride=Extent(*window.stride),
        padding=Extent(*window.padding),
        requantization=Requantization(
            fixed.input_zero_point, fixed.output_zero_point, fixed.activation_min, fixed.activation_max
        ),
        per_channel=int(fixed.multiplier.size > 1),
        weights=Constant(checked.weights.index),
        bias=None if checked.bias is None else Constant(checked.bias.index),
        multipliers=Computed(fixed.multiplier.astype(np.int32), "multipliers"),
        shifts=Computed(fixed.shift.astype(np.int8), "shifts"),
    )
    return (
        Call(TRANSPOSE_CONV, params, (Argument(checked.source.index),), (Argument(checked.output.index),)),
    )
