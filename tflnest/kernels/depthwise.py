"""DEPTHWISE_CONV_2D: int8, any multiplier and dilation (TFLM reference/integer_ops/depthwise_conv.h)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tflnest.fixedpoint import Requantizer
from tflnest.kernels import quantized
from tflnest.kernels.checks import input_tensor, malformed, output_tensor, require_arity
from tflnest.kernels.convolution import convolution
from tflnest.kernels.geometry import Window, blocks, load_patch
from tflnest.kernels.quantized import CheckedConvolution, Requantization, exact_dtype
from tflnest.kernels.registry import Arrays, Evaluate, Kernel, Node, register
from tflnest.kernels.workspace import BLOCK_ELEMENTS, scratch

#: The taps' weights are repeated over neighbouring pixels to about this length, for long inner loops.
TILE_ELEMENTS = 2048


def depthwise_convolution(
    *,
    weights: NDArray[np.int8],
    bias: NDArray[np.int32] | None,
    window: Window,
    requantization: Requantization,
    multiplier: int,
) -> Evaluate:
    """Prepare a depthwise convolution.

    Args:
        weights: Shape (1, height, width, out channels); symmetric.
        bias: Shape (out channels,), or None.
        window: Placement of the filter.
        requantization: From accumulators to outputs.
        multiplier: Output channels per input channel.

    Returns:
        A function of one array, int8 (samples, height, width, out channels / multiplier), to one array,
        int8 (samples, out height, out width, out channels).
    """
    channels = weights.shape[3]
    if multiplier == channels:
        return convolution(
            weights=np.ascontiguousarray(weights.transpose(3, 1, 2, 0)),
            bias=bias,
            window=window,
            requantization=requantization,
        )
    window, (rows, columns) = window.cropped()
    taps = weights[0, rows, columns]
    requantizer = requantization.requantizer(taps.reshape(-1, channels), bias)
    return _Taps(taps, window, multiplier, requantization.input_zero_point, requantizer)


@dataclass(frozen=True)
class _Phase:
    """The taps of one phase: every `stride`-th column of the image, starting at `first`.

    Attributes:
        first: Column of the padded image where the phase starts.
        skip: Columns of the phase before the first tap.
        step: Columns of the phase from one tap to the next.
        tiles: Weights, shape (rows of taps, columns of taps, pixels side by side * channels).
    """

    first: int
    skip: int
    step: int
    tiles: NDArray[Any]


class _Taps:
    """Sums the image, shifted by each tap, times the tap's weights.

    The columns of the image are dealt out to phases, as many as the stride is wide, so that the pixels under a
    tap lie side by side in memory.
    """

    def __init__(
        self,
        weights: NDArray[np.int8],
        window: Window,
        multiplier: int,
        zero_point: int,
        requantizer: Requantizer,
    ) -> None:
        self.window = window
        self.multiplier = multiplier
        self.zero_point = zero_point
        self.requantizer = requantizer
        self.channels = weights.shape[2]
        self.dtype = exact_dtype(weights.reshape(-1, self.channels))
        longest = max(min(window.output[1], TILE_ELEMENTS // self.channels), 1)
        self.repeat = max(count for count in range(1, longest + 1) if window.output[1] % count == 0)
        tiles = np.tile(weights.astype(self.dtype), (1, 1, self.repeat))
        self.phases = _phases(tiles, window)
        self.columns = window.output[1] + max(
            phase.skip + (phase.tiles.shape[1] - 1) * phase.step for phase in self.phases
        )

    def __call__(self, arrays: Arrays) -> tuple[NDArray[Any], ...]:
        """Evaluate."""
        image = quantized.activation(arrays)
        height, width = self.window.output
        out = np.empty((image.shape[0], height, width, self.channels), np.int8)
        flat = out.reshape(-1, self.channels)
        first = 0
        cost = width * self.channels
        for n0, n1, y0, y1, _, _ in blocks(image.shape[0], (height, 1), cost, BLOCK_ELEMENTS):
            sums = self._sums(image[n0:n1], y0, y1 - y0)
            rows = (n1 - n0) * (y1 - y0) * width
            quantized.requantize(
                self.requantizer, sums.reshape(rows, self.channels), flat[first : first + rows]
            )
            first += rows
        return (out,)

    def _sums(self, image: NDArray[np.int8], row: int, rows: int) -> NDArray[Any]:
        """Sums of products for some output rows of all images."""
        width = self.window.output[1]
        shape = (image.shape[0], rows, width // self.repeat, self.repeat * self.channels)
        sums = scratch("sums", shape, self.dtype)
        for number, phase in enumerate(self.phases):
            target = scratch("phase sums", shape, self.dtype) if number else sums
            np.einsum("yxnrpc,yxc->nrpc", self._under_taps(image, phase, row, shape), phase.tiles, out=target)
            if number:
                np.add(sums, target, out=sums)
        return sums

    def _under_taps(
        self, image: NDArray[np.int8], phase: _Phase, row: int, shape: tuple[int, ...]
    ) -> NDArray[Any]:
        """The pixels of a phase as (row of taps, column of taps, *shape), a view of scratch memory."""
        window = self.window
        span = (shape[1] - 1) * window.stride[0] + window.span[0]
        patch = scratch("patch", (shape[0], span, self.columns, image.shape[3]), self.dtype)
        top = row * window.stride[0] - window.padding[0]
        load_patch(patch, image, top, phase.first - window.padding[1], window.stride[1], self.zero_point)
        if self.multiplier > 1:
            patch = np.repeat(patch, self.multiplier, axis=3)
        n, y, x, c = patch.strides
        strides_in_bytes = (
            window.dilation[0] * y, phase.step * x, n, window.stride[0] * y, self.repeat * x, c,
        )  # fmt: skip
        taps = phase.tiles.shape[:2]
        return np.ndarray((*taps, *shape), self.dtype, patch, phase.skip * x, strides_in_bytes)


def _phases(tiles: NDArray[Any], window: Window) -> list[_Phase]:
    """Deal the columns of taps out to the phases they read."""
    stride, dilation = window.stride[1], window.dilation[1]
    by_phase: dict[int, list[int]] = {}
    for tap in range(window.size[1]):
        by_phase.setdefault(tap * dilation % stride, []).append(tap)
    phases = []
    for first, taps in sorted(by_phase.items()):
        skips = [tap * dilation // stride for tap in taps]
        step = skips[1] - skips[0] if len(skips) > 1 else 0
        phases.append(_Phase(first, skips[0], step, np.ascontiguousarray(tiles[:, taps])))
    return phases


def checked_depthwise_conv_2d(node: Node) -> CheckedConvolution:
    """Check a DEPTHWISE_CONV_2D; the multiplier follows from the shapes, as the option is absent in some files.

    Raises:
        UnsupportedError: Not int8.
        FormatError: The shapes contradict each other.
    """
    require_arity(node, range(2, 4))
    source, weights, output = input_tensor(node, 0), input_tensor(node, 1), output_tensor(node)
    quantized.check_images(node, source, weights, output)
    leading, height, width, channels = weights.shape
    depth = source.shape[3]
    if leading != 1 or channels % depth:
        raise malformed(
            node, f"a filter of shape {list(weights.shape)} does not go with {depth} input channels"
        )
    multiplier = int(node.operator.options.get("depth_multiplier", 0)) or channels // depth
    if multiplier * depth != channels:
        raise malformed(
            node,
            f"depth multiplier {multiplier} times {depth} input channels is not the filter's {channels}",
        )
    return quantized.checked_convolution(node, (height, width), channels, depth)


@register("DEPTHWISE_CONV_2D")
def prepare_depthwise_conv_2d(node: Node) -> Kernel:
    """DEPTHWISE_CONV_2D; see `checked_depthwise_conv_2d`.

    Raises:
        UnsupportedError: Not int8.
        FormatError: The shapes contradict each other.
    """
    checked = checked_depthwise_conv_2d(node)

    def core(values: NDArray[Any], bias: NDArray[Any] | None) -> Evaluate:
        return depthwise_convolution(
            weights=values,
            bias=bias,
            window=checked.window,
            requantization=checked.requantization,
            multiplier=values.shape[3] // checked.groups,
        )

    return quantized.kernel_with_weights(node, core, checked.source.shape[0] == 1)
