"""DEPTHWISE_CONV_2D: int8, any multiplier and dilation (TFLM reference/integer_ops/depthwise_conv.h)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tflnest.errors import FormatError
from tflnest.fixedpoint import Requantizer
from tflnest.kernels import quantized
from tflnest.kernels.convolution import convolution
from tflnest.kernels.geometry import Window, blocks, dilations, image_size, load_patch, strides
from tflnest.kernels.quantized import Requantization, exact_dtype
from tflnest.kernels.registry import Arrays, Evaluate, Kernel, Node, register
from tflnest.kernels.workspace import BLOCK_ELEMENTS, scratch
from tflnest.requantization import effective_scales

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
    taps = weights[0, rows, columns].reshape(-1, channels)
    requantizer = requantization.requantizer(taps, bias)
    return _Taps(taps, window, multiplier, requantization.input_zero_point, requantizer)


class _Taps:
    """Adds the image, shifted by each tap and times its weights.

    The columns of the image are dealt out to as many phases as the stride is wide, so that the pixels under a
    tap lie side by side.
    """

    def __init__(
        self, taps: NDArray[np.int8], window: Window, multiplier: int, zero_point: int, requantizer: Requantizer
    ) -> None:
        self.window = window
        self.multiplier = multiplier
        self.zero_point = zero_point
        self.requantizer = requantizer
        self.channels = taps.shape[1]
        self.dtype = exact_dtype(taps)
        width = window.output[1]
        longest = max(min(width, TILE_ELEMENTS // self.channels), 1)
        self.repeat = max(count for count in range(1, longest + 1) if width % count == 0)
        self.tiles = np.tile(taps.astype(self.dtype), (1, self.repeat))
        step = window.stride[1]
        offsets = [tap * window.dilation[1] for tap in range(window.size[1])]
        self.phases = sorted({offset % step for offset in offsets})
        self.extra = max(offset // step for offset in offsets)

    def __call__(self, arrays: Arrays) -> tuple[NDArray[Any], ...]:
        """Evaluate."""
        image = quantized.activation(arrays)
        height, width = self.window.output
        out = np.empty((image.shape[0], height, width, self.channels), np.int8)
        flat = out.reshape(-1, self.channels)
        first = 0
        for n0, n1, y0, y1, _, _ in blocks(
            image.shape[0], (height, 1), width * self.channels, BLOCK_ELEMENTS
        ):
            phases = self._load(image[n0:n1], y0, y1 - y0)
            sums = self._add(phases, y1 - y0)
            rows = (n1 - n0) * (y1 - y0) * width
            quantized.requantize(self.requantizer, sums.reshape(rows, self.channels), flat[first : first + rows])
            first += rows
        return (out,)

    def _load(self, image: NDArray[np.int8], row: int, rows: int) -> dict[int, NDArray[Any]]:
        """Each phase's columns of the rows that some output rows read: (samples, rows, columns * channels)."""
        window = self.window
        span = (rows - 1) * window.stride[0] + window.span[0]
        columns = window.output[1] + self.extra
        top = row * window.stride[0] - window.padding[0]
        loaded = {}
        for phase in self.phases:
            patch = scratch(f"phase {phase}", (*image.shape[:1], span, columns, image.shape[3]), self.dtype)
            load_patch(patch, image, top, phase - window.padding[1], window.stride[1], self.zero_point)
            if self.multiplier > 1:
                patch = np.repeat(patch, self.multiplier, axis=3)
            loaded[phase] = patch.reshape(image.shape[0], span, columns * self.channels)
        return loaded

    def _add(self, phases: dict[int, NDArray[Any]], rows: int) -> NDArray[Any]:
        window, repeat, channels = self.window, self.repeat, self.channels
        samples = phases[self.phases[0]].shape[0]
        width = window.output[1]
        shape = (samples, rows, width // repeat, repeat * channels)
        sums = scratch("sums", shape, self.dtype)
        product = scratch("product", shape, self.dtype)
        for tap in range(len(self.tiles)):
            y, x = divmod(tap, window.size[1])
            skip, phase = divmod(x * window.dilation[1], window.stride[1])
            y *= window.dilation[0]
            below = phases[phase][:, y : y + (rows - 1) * window.stride[0] + 1 : window.stride[0]]
            below = below[:, :, skip * channels : (skip + width) * channels].reshape(shape)
            if tap == 0:
                np.multiply(below, self.tiles[tap], out=sums)
            else:
                np.multiply(below, self.tiles[tap], out=product)
                np.add(sums, product, out=sums)
        return sums


@register("DEPTHWISE_CONV_2D")
def prepare_depthwise_conv_2d(node: Node) -> Kernel:
    """DEPTHWISE_CONV_2D; the multiplier follows from the shapes, as the option is absent in some files.

    Raises:
        UnsupportedError: Not int8.
        FormatError: The shapes contradict each other.
    """
    source, weights = quantized.operand(node, 0, "input"), quantized.operand(node, 1, "filter")
    output, options = quantized.single_output(node), node.operator.options
    for tensor, name in ((source, "input"), (weights, "filter"), (output, "output")):
        quantized.check_rank(node, tensor, 4, name)
    for tensor, name in ((source, "input"), (output, "output")):
        quantized.check_activation_tensor(node, tensor, name)
    leading, height, width, channels = weights.shape
    depth = source.shape[3]
    if leading != 1 or channels % depth:
        raise FormatError(
            f"operator {node.operator.label}: a filter of shape {list(weights.shape)} does not go with "
            f"{depth} input channels"
        )
    multiplier = int(options.get("depth_multiplier", 0)) or channels // depth
    if multiplier * depth != channels:
        raise FormatError(
            f"operator {node.operator.label}: depth multiplier {multiplier} times {depth} input channels "
            f"is not the filter's {channels}"
        )
    scales = quantized.filter_scales(node, weights, channels)
    quantized.check_bias(node, quantized.optional_operand(node, 2), channels)
    window = Window.sliding(
        options.get("padding", ""), (height, width), strides(options), dilations(options), image_size(source.shape)
    )
    quantized.check_shape(node, output, (source.shape[0], *window.output, channels), "output")
    requantization = quantized.requantization(
        node, source, effective_scales(source.scale, scales, output.scale, rounded_product=False)
    )

    def core(values: NDArray[Any], bias: NDArray[Any] | None) -> Evaluate:
        return depthwise_convolution(
            weights=values, bias=bias, window=window, requantization=requantization, multiplier=multiplier
        )

    return quantized.kernel_with_weights(node, core, source.shape[0] == 1)
