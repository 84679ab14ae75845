"""Scratch memory of the kernels with weights, without compiling them: what `_get_buffer_size` says on a board.

A convolution has a tile, that is parameters and decoded weights of some output channels, and a block of gathered
pixels. The variants differ in how weights and pixels lie. Pointers have 32 bits. A tile of 0 channels stands for no
scratch at all: weights are decoded to the stack, a few at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tflnest.device.core import Core
from tflnest.device.parameters import ConvParams, DepthwiseConvParams, Extent, FullyConnectedParams

#: Bytes of the parameters of one output channel.
CHANNEL_BYTES = 16

#: Pixels of a block.
BLOCK_PIXELS = 2

#: Depthwise windows of up to so many taps are computed by a table of their addresses.
TABLE_TAPS = 25

POINTER_BYTES = 4

#: Weights of a FULLY_CONNECTED that the portable variant decodes at a time.
CHUNK_BYTES = 256

#: Activations of a FULLY_CONNECTED that the DSP variant widens at a time.
PIECE_ACTIVATIONS = 1024


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _odd_taps(taps: int) -> int:
    """Taps that the DSP variant computes: an odd number, at least 3."""
    return max(taps | 1, 3)


def _chunk_bytes(params: FullyConnectedParams) -> int | None:
    """Weights that the portable variant decodes at a time; several batches share a tile instead."""
    return min(_up(params.inputs, 8), CHUNK_BYTES) if params.batches == 1 else None


def _piece_bytes(params: FullyConnectedParams) -> int:
    """Activations that the DSP variant widens at a time, and a sum for every output where that is a part of them."""
    if params.inputs > PIECE_ACTIVATIONS:
        return 2 * PIECE_ACTIVATIONS + 4 * params.outputs
    return _up(params.inputs, 16) * 2


@dataclass(frozen=True)
class _Layout:
    """How a variant keeps decoded weights and pixels.

    Attributes:
        channel_group: Channels whose parameters are filled up together.
        weight_bytes: Of a tile, from channels and products.
        block_bytes: Of a block, from products.
        reads_in_place: Whether pixels of so many activations are multiplied where they lie.
        needs_whole: Whether pixels that are made of pieces of so many activations are put together first.
        table_entries: Of a depthwise window, from taps.
        depthwise_bytes: Of the weights of a depthwise tile by table, from channels and taps.
        fully_connected_bytes: Of a FULLY_CONNECTED; None where it takes tile and block.
    """

    channel_group: int
    weight_bytes: Callable[[int, int], int]
    block_bytes: Callable[[int], int]
    reads_in_place: Callable[[int], bool]
    needs_whole: Callable[[int], bool]
    table_entries: Callable[[int], int]
    depthwise_bytes: Callable[[int, int], int]
    fully_connected_bytes: Callable[[FullyConnectedParams], int | None]

    def tile_bytes(self, channels: int, products: int) -> int:
        parameters = _up(channels, self.channel_group) * CHANNEL_BYTES
        return parameters + _up(self.weight_bytes(channels, products), 8)


_LAYOUTS = {
    Core.PORTABLE: _Layout(
        channel_group=2,
        weight_bytes=lambda channels, products: channels * products,
        block_bytes=lambda products: _up(BLOCK_PIXELS * products, 8),
        reads_in_place=lambda depth: True,
        needs_whole=lambda depth: False,
        table_entries=lambda taps: taps,
        depthwise_bytes=lambda channels, taps: _up(channels * taps, 8),
        fully_connected_bytes=_chunk_bytes,
    ),
    Core.DSP: _Layout(
        channel_group=2,
        weight_bytes=lambda channels, products: _up(channels, 2) * _up(products, 4) * 2,
        block_bytes=lambda products: BLOCK_PIXELS * _up(products, 4) * 2,
        reads_in_place=lambda depth: False,
        needs_whole=lambda depth: depth % 4 != 0,
        table_entries=_odd_taps,
        depthwise_bytes=lambda channels, taps: _up(channels, 4) * _odd_taps(taps) * 2,
        fully_connected_bytes=_piece_bytes,
    ),
    Core.MVE: _Layout(
        channel_group=4,
        weight_bytes=lambda channels, products: _up(channels, 4) * _up(products, 16),
        block_bytes=lambda products: BLOCK_PIXELS * _up(products, 16),
        reads_in_place=lambda depth: depth % 16 == 0,
        needs_whole=lambda depth: False,
        table_entries=lambda taps: _up(taps, 3),
        depthwise_bytes=lambda channels, taps: _up(channels, 8) * _up(taps, 3),
        fully_connected_bytes=lambda params: 0 if params.inputs % 64 else params.inputs,
    ),
}


def conv_scratch(params: ConvParams, core: Core) -> int:
    """Bytes of scratch of a CONV_2D."""
    if params.tile_channels == 0:
        return 0
    layout = _LAYOUTS[core]
    channels = min(params.tile_channels, params.output.channels // params.groups)
    depth = params.input.channels // params.groups
    pointwise = _is_pointwise(params)
    size = layout.tile_bytes(channels, params.products)
    if not (pointwise and layout.reads_in_place(depth)):
        size += layout.block_bytes(params.products)
    if not pointwise and layout.needs_whole(depth):
        size += _up(params.products, 8)
    return size


def _is_pointwise(params: ConvParams) -> bool:
    """Whether every output reads one pixel, and the pixels lie in the order of the outputs."""
    one = Extent(1, 1)
    same = (params.input.height, params.input.width) == (params.output.height, params.output.width)
    return (
        params.filter == one
        and params.stride == one
        and params.padding == Extent(0, 0)
        and params.groups == 1
        and same
    )


def _as_conv(params: DepthwiseConvParams) -> ConvParams:
    """A depthwise convolution as an ordinary one with a group for each input channel."""
    return ConvParams(
        input=params.input,
        output=params.output,
        filter=params.filter,
        stride=params.stride,
        dilation=params.dilation,
        padding=params.padding,
        groups=params.input.channels,
        tile_channels=params.tile_channels,
        requantization=params.requantization,
    )


def depthwise_conv_scratch(params: DepthwiseConvParams, core: Core) -> int:
    """Bytes of scratch of a DEPTHWISE_CONV_2D."""
    if params.tile_channels == 0:
        return 0
    layout = _LAYOUTS[core]
    channels, taps = min(params.tile_channels, params.output.channels), params.products
    if params.input.channels != params.output.channels or taps > TABLE_TAPS:
        group = min(channels, params.output.channels // params.input.channels)
        return conv_scratch(_as_conv(params), core) + _up(group * taps, 8)
    size = layout.tile_bytes(channels, 0)
    tables = 2 * layout.table_entries(taps) * POINTER_BYTES
    return size + tables + _up(channels, 8) + layout.depthwise_bytes(channels, taps)


def fully_connected_scratch(params: FullyConnectedParams, core: Core) -> int:
    """Bytes of scratch of a FULLY_CONNECTED."""
    if params.tile_channels == 0:
        return 0
    layout = _LAYOUTS[core]
    direct = layout.fully_connected_bytes(params)
    if direct is not None:
        return direct
    size = layout.tile_bytes(min(params.tile_channels, params.outputs), params.inputs)
    return size if layout.reads_in_place(params.inputs) else size + layout.block_bytes(params.inputs)
