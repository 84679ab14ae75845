"""CONV_2D: int8, any stride, dilation and number of groups (TFLM reference/integer_ops/conv.h)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tflnest.kernels import quantized
from tflnest.kernels.checks import input_tensor, malformed, output_tensor, require_arity
from tflnest.kernels.geometry import Window, blocks, load_patch
from tflnest.kernels.quantized import (
    GEMM_BLOCK_ELEMENTS,
    CheckedConvolution,
    Requantization,
    SumsOfProducts,
)
from tflnest.kernels.registry import Arrays, Evaluate, Kernel, Node, register
from tflnest.kernels.workspace import scratch


def convolution(
    *,
    weights: NDArray[np.int8],
    bias: NDArray[np.int32] | None,
    window: Window,
    requantization: Requantization,
    groups: int = 1,
) -> Evaluate:
    """Prepare a convolution.

    Args:
        weights: Shape (out channels, height, width, in channels / groups); symmetric.
        bias: Shape (out channels,), or None.
        window: Placement of the filter.
        requantization: From accumulators to outputs.
        groups: Divides the input and output channels.

    Returns:
        A function of one array, int8 (samples, height, width, in channels), to one array, int8
        (samples, out height, out width, out channels).
    """
    window, (rows, columns) = window.cropped()
    weights = weights[:, rows, columns]
    channels = weights.shape[0]
    matrix: NDArray[Any] = weights.reshape(channels, -1).T
    if groups > 1:
        matrix = matrix.reshape(-1, groups, channels // groups).transpose(1, 0, 2)
    sums = SumsOfProducts(matrix, bias, requantization)
    if window.size == (1, 1) and window.padding == (0, 0) and groups == 1:
        return _pointwise(sums, window)
    return _windowed(sums, window, groups, requantization.input_zero_point)


def _pointwise(sums: SumsOfProducts, window: Window) -> Evaluate:
    """A 1x1 filter needs no window: the pixels are the rows of the matrix."""
    height, width = window.output
    step_y, step_x = window.stride

    def evaluate(arrays: Arrays) -> tuple[NDArray[Any], ...]:
        image = quantized.activation(arrays)
        pixels = image[:, ::step_y, ::step_x][:, :height, :width].reshape(-1, image.shape[3])
        return (sums.of_rows(pixels).reshape(image.shape[0], height, width, sums.channels),)

    return evaluate


def _windowed(sums: SumsOfProducts, window: Window, groups: int, zero_point: int) -> Evaluate:
    """Lay the pixels under each window position out as a row of a matrix, block by block."""
    height, width = window.output
    taps = window.size

    def evaluate(arrays: Arrays) -> tuple[NDArray[Any], ...]:
        image = quantized.activation(arrays)
        samples, depth = image.shape[0], image.shape[3]
        out = np.empty((samples, height, width, sums.channels), np.int8)
        flat = out.reshape(-1, sums.channels)
        products = taps[0] * taps[1] * depth
        first = 0
        for n0, n1, y0, y1, x0, x1 in blocks(
            samples, window.output, max(products, sums.channels), GEMM_BLOCK_ELEMENTS
        ):
            positions = (n1 - n0, y1 - y0, x1 - x0)
            patch = _patch(image[n0:n1], window, positions, (y0, x0), zero_point, sums.dtype)
            left = _columns(patch, window, positions, groups)
            rows = positions[0] * positions[1] * positions[2]
            sums(left, flat[first : first + rows])
            first += rows
        return (out,)

    return evaluate


def _patch(
    image: NDArray[np.int8],
    window: Window,
    positions: tuple[int, int, int],
    origin: tuple[int, int],
    zero_point: int,
    dtype: type[np.floating[Any]],
) -> NDArray[Any]:
    """The part of the padded image that a block of window positions reads, as floats."""
    rows = (positions[1] - 1) * window.stride[0] + window.span[0]
    columns = (positions[2] - 1) * window.stride[1] + window.span[1]
    patch = scratch("patch", (positions[0], rows, columns, image.shape[3]), dtype)
    top = origin[0] * window.stride[0] - window.padding[0]
    left = origin[1] * window.stride[1] - window.padding[1]
    load_patch(patch, image, top, left, 1, zero_point)
    return patch


def _columns(
    patch: NDArray[Any], window: Window, positions: tuple[int, int, int], groups: int
) -> NDArray[Any]:
    """One row per window position: (rows, products), or (groups, rows, products)."""
    depth = patch.shape[3] // groups
    n, y, x, c = patch.strides
    rows = positions[0] * positions[1] * positions[2]
    products = window.size[0] * window.size[1] * depth
    shape = (groups, *positions, *window.size, depth)
    strides_in_bytes = (
        depth * c, n, y * window.stride[0], x * window.stride[1], y * window.dilation[0], x * window.dilation[1], c,
    )  # fmt: skip
    windows: NDArray[Any] = np.ndarray(shape, patch.dtype, patch, 0, strides_in_bytes)
    columns = scratch("columns", (groups, rows, products), patch.dtype)
    np.copyto(columns.reshape(shape), windows)
    return columns if groups > 1 else columns[0]


def checked_conv_2d(node: Node) -> CheckedConvolution:
    """Check a CONV_2D; the number of groups is input channels / filter channels.

    Raises:
        UnsupportedError: Not int8.
        FormatError: The shapes contradict each other.
    """
    require_arity(node, range(2, 4))
    source, weights, output = input_tensor(node, 0), input_tensor(node, 1), output_tensor(node)
    quantized.check_images(node, source, weights, output)
    channels, height, width, depth = weights.shape
    groups = source.shape[3] // depth
    if groups * depth != source.shape[3] or channels % groups:
        raise malformed(
            node,
            f"{source.shape[3]} input channels, a filter of {depth} and {channels} output channels make no "
            "whole groups",
        )
    return quantized.checked_convolution(node, (height, width), channels, groups)


@register("CONV_2D")
def prepare_conv_2d(node: Node) -> Kernel:
    """CONV_2D; see `checked_conv_2d`.

    Raises:
        UnsupportedError: Not int8.
        FormatError: The shapes contradict each other.
    """
    checked = checked_conv_2d(node)

    def core(values: NDArray[Any], bias: NDArray[Any] | None) -> Evaluate:
        return convolution(
            weights=values,
            bias=bias,
            window=checked.window,
            requantization=checked.requantization,
            groups=checked.groups,
        )

    return quantized.kernel_with_weights(node, core, checked.source.shape[0] == 1)
