"""TRANSPOSE_CONV: int8 (TFLM reference/integer_ops/transpose_conv.h)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tflnest.graph import Tensor
from tflnest.kernels import quantized
from tflnest.kernels.checks import input_tensor, malformed, output_tensor, require_arity
from tflnest.kernels.geometry import Window, image_size, strides
from tflnest.kernels.quantized import Requantization, exact_dtype
from tflnest.kernels.registry import Arrays, Evaluate, Kernel, Node, register

#: Bound of |input - zero point| for int8.
LARGEST_CENTRED_INPUT = 255


def transpose_convolution(
    *,
    weights: NDArray[np.int8],
    bias: NDArray[np.int32] | None,
    window: Window,
    requantization: Requantization,
) -> Evaluate:
    """Prepare a transposed convolution.

    Args:
        weights: Shape (out channels, height, width, in channels); symmetric.
        bias: Shape (out channels,), or None.
        window: Of the convolution that this one is the transpose of: its `input` is what is written here.
        requantization: From accumulators to outputs.

    Returns:
        A function of one array, int8 (samples, height, width, in channels), to one array, int8
        (samples, window.input height, window.input width, out channels).
    """
    channels = weights.shape[0]
    products = weights.reshape(channels, -1).T
    dtype = exact_dtype(products, LARGEST_CENTRED_INPUT)
    requantizer = requantization.requantizer(products, bias, centred=True)
    taps = np.ascontiguousarray(weights.transpose(1, 2, 3, 0), dtype=dtype)
    height, width = window.input

    def evaluate(arrays: Arrays) -> tuple[NDArray[Any], ...]:
        image = quantized.activation(arrays)
        out = np.empty((image.shape[0], height, width, channels), np.int8)
        for sample, result in zip(image, out, strict=True):
            centred = sample.astype(dtype) - dtype(requantization.input_zero_point)
            sums = np.zeros((height, width, channels), dtype)
            for y in range(window.size[0]):
                for x in range(window.size[1]):
                    _scatter(sums, centred, taps[y, x], window, (y, x))
            quantized.requantize(requantizer, sums.reshape(-1, channels), result.reshape(-1, channels))
        return (out,)

    return evaluate


def _scatter(
    sums: NDArray[Any], image: NDArray[Any], tap: NDArray[Any], window: Window, position: tuple[int, int]
) -> None:
    """Add what one tap contributes: pixel i goes to i * stride + tap - padding, where that is inside."""
    inside = []
    for axis in (0, 1):
        origin = position[axis] - window.padding[axis]
        stride, size = window.stride[axis], sums.shape[axis]
        first = max(-(origin // stride), 0)
        last = min((size - 1 - origin) // stride, image.shape[axis] - 1)
        if last < first:
            return
        target = first * stride + origin
        inside.append((slice(first, last + 1), slice(target, target + (last - first) * stride + 1, stride)))
    (from_y, to_y), (from_x, to_x) = inside
    sums[to_y, to_x] += image[from_y, from_x] @ tap


@dataclass(frozen=True)
class CheckedTransposeConv:
    """A TRANSPOSE_CONV that makes sense.

    Attributes:
        source: Its activation input.
        weights: Its filter.
        bias: None where there is none.
        output: Its output.
        window: Of the convolution that it is the transpose of: its `input` is the output here.
        requantization: From accumulators to outputs.
    """

    source: Tensor
    weights: Tensor
    bias: Tensor | None
    output: Tensor
    window: Window
    requantization: Requantization


def checked_transpose_conv(node: Node) -> CheckedTransposeConv:
    """Check a TRANSPOSE_CONV; inputs are output shape, filter, input and an optional bias.

    Raises:
        UnsupportedError: Not int8.
        FormatError: The shapes contradict each other.
    """
    require_arity(node, range(3, 5))
    weights, source, output = input_tensor(node, 1), input_tensor(node, 2), output_tensor(node)
    options = node.operator.options
    quantized.check_images(node, source, weights, output)
    channels, height, width, depth = weights.shape
    bias = quantized.optional_input(node, 3)
    quantized.check_bias(node, bias, channels)
    scales = quantized.filter_scales(node, weights, channels)
    if (source.shape[0], source.shape[3], channels) != (output.shape[0], depth, output.shape[3]):
        raise malformed(
            node,
            f"input {list(source.shape)}, filter {list(weights.shape)} and output {list(output.shape)} "
            "do not go together",
        )
    window = Window.sliding(
        options.get("padding", ""), (height, width), strides(options), (1, 1), image_size(output.shape)
    )
    requantization = quantized.requantization(node, source, scales)
    return CheckedTransposeConv(source, weights, bias, output, window, requantization)


@register("TRANSPOSE_CONV")
def prepare_transpose_conv(node: Node) -> Kernel:
    """TRANSPOSE_CONV; see `checked_transpose_conv`.

    Raises:
        UnsupportedError: Not int8.
        FormatError: The shapes contradict each other.
    """
    checked = checked_transpose_conv(node)

    def core(values: NDArray[Any], bias: NDArray[Any] | None) -> Evaluate:
        return transpose_convolution(
            weights=values, bias=bias, window=checked.window, requantization=checked.requantization
        )

    batchable = checked.source.shape[0] == 1
    return quantized.kernel_with_weights(node, core, batchable, source=2, weights=1, bias=3)
