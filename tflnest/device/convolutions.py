"""CONV_2D, DEPTHWISE_CONV_2D and FULLY_CONNECTED, stock and nested, as calls of the C kernels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tflnest.device.calls import Argument, Call, Function, LevelFilter, declare
from tflnest.device.core import Core
from tflnest.device.parameters import (
    ConvParams,
    DepthwiseConvParams,
    Extent,
    Filter,
    FullyConnectedParams,
    Requantization,
    Shape,
)
from tflnest.device.registry import register, register_nested
from tflnest.device.scratch import conv_scratch, depthwise_conv_scratch, fully_connected_scratch
from tflnest.device.structures import Computed, Constant
from tflnest.device.weights import flat_filter, nested_filter
from tflnest.graph import Subgraph, Tensor
from tflnest.kernels import quantized
from tflnest.kernels.checks import unsupported
from tflnest.kernels.convolution import checked_conv_2d
from tflnest.kernels.depthwise import checked_depthwise_conv_2d
from tflnest.kernels.fully_connected import CheckedFullyConnected, checked_fully_connected
from tflnest.kernels.quantized import CheckedConvolution
from tflnest.kernels.registry import Node
from tflnest.nested import NestedOperator, ReadTensor
from tflnest.nesting import Scheme


def _declare(base: str, params: type[Any], scratch: Callable[[Any, Core], int]) -> Function:
    """A kernel with weights, and what stands for it where there is no scratch."""
    header = f"tflnest/{base}.h"
    unbuffered = declare(Function(f"{base}_unbuffered_s8", header, params, has_filter=True))
    return declare(
        Function(
            f"{base}_s8",
            header,
            params,
            has_filter=True,
            has_scratch=True,
            scratch=scratch,
            unbuffered=unbuffered,
        )
    )


CONV = _declare("tflnest_conv", ConvParams, conv_scratch)
DEPTHWISE_CONV = _declare("tflnest_depthwise_conv", DepthwiseConvParams, depthwise_conv_scratch)
FULLY_CONNECTED = _declare("tflnest_fully_connected", FullyConnectedParams, fully_connected_scratch)

#: Output channels that are decoded at a time unless a planner chooses otherwise.
TILE_CHANNELS = 16

Checked = CheckedConvolution | CheckedFullyConnected


def _shape(tensor: Tensor) -> Shape:
    return Shape(*tensor.shape)


def _requantization(fixed: quantized.Requantization) -> Requantization:
    return Requantization(
        fixed.input_zero_point, fixed.output_zero_point, fixed.activation_min, fixed.activation_max
    )


def conv_params(checked: CheckedConvolution) -> ConvParams:
    """Parameters of a CONV_2D."""
    window = checked.window
    return ConvParams(
        input=_shape(checked.source),
        output=_shape(checked.output),
        filter=Extent(*window.size),
        stride=Extent(*window.stride),
        dilation=Extent(*window.dilation),
        padding=Extent(*window.padding),
        groups=checked.groups,
        tile_channels=TILE_CHANNELS,
        requantization=_requantization(checked.requantization),
    )


def depthwise_conv_params(checked: CheckedConvolution) -> DepthwiseConvParams:
    """Parameters of a DEPTHWISE_CONV_2D."""
    window = checked.window
    return DepthwiseConvParams(
        input=_shape(checked.source),
        output=_shape(checked.output),
        filter=Extent(*window.size),
        stride=Extent(*window.stride),
        dilation=Extent(*window.dilation),
        padding=Extent(*window.padding),
        tile_channels=TILE_CHANNELS,
        requantization=_requantization(checked.requantization),
    )


def fully_connected_params(checked: CheckedFullyConnected) -> FullyConnectedParams:
    """Parameters of a FULLY_CONNECTED."""
    outputs, inputs = checked.weights.shape
    return FullyConnectedParams(
        batches=checked.source.size // inputs,
        inputs=inputs,
        outputs=outputs,
        tile_channels=TILE_CHANNELS,
        requantization=_requantization(checked.requantization),
    )


def _constant(node: Node, tensor: Tensor, what: str) -> Constant:
    if tensor.data is None:
        raise unsupported(node, f"its {what} (tensor {tensor.label}) is not a constant")
    return Constant(tensor.index)


def _stock_call(node: Node, function: Function, params: Any, checked: Checked) -> Call:
    requantization = checked.requantization
    bias = None if checked.bias is None else _constant(node, checked.bias, "bias")
    filter_ = flat_filter(
        _constant(node, checked.weights, "filter"), bias, requantization.multiplier, requantization.shift
    )
    return Call(
        function=function,
        params=params,
        inputs=(Argument(checked.source.index),),
        outputs=(Argument(checked.output.index),),
        filters=(LevelFilter(8, filter_),),
    )


@register("CONV_2D")
def bind_conv_2d(node: Node) -> tuple[Call, ...]:
    """CONV_2D."""
    checked = checked_conv_2d(node)
    return (_stock_call(node, CONV, conv_params(checked), checked),)


@register("DEPTHWISE_CONV_2D")
def bind_depthwise_conv_2d(node: Node) -> tuple[Call, ...]:
    """DEPTHWISE_CONV_2D; over a single input channel it is a CONV_2D, whose kernel is several times faster."""
    checked = checked_depthwise_conv_2d(node)
    weights = checked.weights.data
    if checked.source.shape[3] == 1 and checked.output.shape[3] > 1 and weights is not None:
        call = _stock_call(node, CONV, conv_params(replace(checked, groups=1)), checked)
        rows = Computed(np.ascontiguousarray(np.moveaxis(weights, 3, 0)).reshape(-1), "filter")
        only = call.filters[0]
        return (replace(call, filters=(replace(only, filter=replace(only.filter, values=rows)),)),)
    return (_stock_call(node, DEPTHWISE_CONV, depthwise_conv_params(checked), checked),)


@register("FULLY_CONNECTED")
def bind_fully_connected(node: Node) -> tuple[Call, ...]:
    """FULLY_CONNECTED; a filter with a zero point is not in the device runtime."""
    checked = checked_fully_connected(node)
    if checked.filter_zero_point:
        raise unsupported(node, f"the zero point of its filter is {checked.filter_zero_point}, 0 expected")
    return (_stock_call(node, FULLY_CONNECTED, fully_connected_params(checked), checked),)


def _nested_call(
    function: Function,
    make_params: Callable[[Node], Any],
    nested: NestedOperator,
    subgraph: Subgraph,
    read: ReadTensor,
    levels: Sequence[int],
) -> Call:
    params: Any = None
    filters = []
    for level in levels:
        node, filter_ = _nested_level(nested, subgraph, read, level)
        params = make_params(node)
        filters.append(LevelFilter(level, filter_))
    return Call(
        function=function,
        params=params,
        inputs=(Argument(nested.operator.inputs[0]),),
        outputs=(Argument(nested.operator.outputs[0]),),
        filters=tuple(filters),
    )


def _nested_level(
    nested: NestedOperator, subgraph: Subgraph, read: ReadTensor, level: int
) -> tuple[Node, Filter]:
    """The stock operator at a level, without weights, and the filter; everything that it needs is checked."""
    position = nested.nesting.index(level)
    form = nested.stock_form(subgraph, level, read, expanded=False)
    if nested.nesting.scheme is Scheme.COMPENSATED:
        nested.weights_at(subgraph, level, read)  # raises where planes that do not fit together leave int8
    for plane in nested.planes[: position + 1]:
        read(subgraph.tensors[plane.tensor])
    filter_ = nested_filter(
        nested.nesting,
        level,
        nested.planes,
        nested.weights,
        bias=nested.biases[position],
        multipliers=nested.multipliers[position],
        shifts=nested.shifts[position],
    )
    activation = subgraph.tensors[nested.operator.inputs[0]]
    outputs = tuple(subgraph.tensors[index] for index in nested.operator.outputs)
    return Node(form.operator, (activation, form.filter, form.bias), outputs), filter_


@register_nested("CONV_2D")
def bind_nested_conv_2d(
    nested: NestedOperator, subgraph: Subgraph, read: ReadTensor, levels: Sequence[int]
) -> Call:
    """TFLNEST_CONV_2D."""
    return _nested_call(CONV, lambda node: conv_params(checked_conv_2d(node)), nested, subgraph, read, levels)


@register_nested("DEPTHWISE_CONV_2D")
def bind_nested_depthwise_conv_2d(
    nested: NestedOperator, subgraph: Subgraph, read: ReadTensor, levels: Sequence[int]
) -> Call:
    """TFLNEST_DEPTHWISE_CONV_2D."""
    return _nested_call(
        DEPTHWISE_CONV,
        lambda node: depthwise_conv_params(checked_depthwise_conv_2d(node)),
        nested,
        subgraph,
        read,
        levels,
    )


@register_nested("FULLY_CONNECTED")
def bind_nested_fully_connected(
    nested: NestedOperator, subgraph: Subgraph, read: ReadTensor, levels: Sequence[int]
) -> Call:
    """TFLNEST_FULLY_CONNECTED."""
    return _nested_call(
        FULLY_CONNECTED,
        lambda node: fully_connected_params(checked_fully_connected(node)),
        nested,
        subgraph,
        read,
        levels,
    )
