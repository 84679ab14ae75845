"""AVERAGE_POOL_2D and MAX_POOL_2D, int8.

Sources: TFLM kernels/pooling_common.cc, reference/integer_ops/pooling.h.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tflnest.fixedpoint import activation_range
from tflnest.graph import Tensor
from tflnest.kernels.checks import (
    fused_activation,
    input_tensor,
    leads_with_samples,
    output_tensor,
    require_arity,
    require_rank,
    require_same_type,
    require_shape,
    require_type,
    scale_of,
    unsupported,
    zero_point_of,
)
from tflnest.kernels.geometry import Window, load_patch, strides
from tflnest.kernels.registry import Arrays, Kernel, Node, register

INT8_MIN = -128

#: Largest difference between input and output scale that TFLM takes for none.
SCALE_TOLERANCE = 1e-6


@dataclass(frozen=True)
class CheckedPool:
    """A pooling operator that makes sense.

    Attributes:
        source: Its input.
        output: Its output.
        window: Placement of the window.
        low: Smallest output.
        high: Largest output.
        batchable: Whether samples lead.
    """

    source: Tensor
    output: Tensor
    window: Window
    low: int
    high: int
    batchable: bool


def checked_pool(node: Node) -> CheckedPool:
    """An int8 AVERAGE_POOL_2D or MAX_POOL_2D.

    Raises:
        UnsupportedError: It is not int8, or rescales.
        FormatError: The operator contradicts itself.
    """
    require_arity(node, 1)
    tensor, output = input_tensor(node, 0), output_tensor(node)
    require_type(node, tensor, ("INT8",))
    require_same_type(node, [tensor, output])
    require_rank(node, tensor, 4)
    options = node.operator.options
    window = Window.sliding(
        options.get("padding", "SAME"),
        (int(options.get("filter_height", 0)), int(options.get("filter_width", 0))),
        strides(options),
        (1, 1),
        (tensor.shape[1], tensor.shape[2]),
    )
    require_shape(node, output, (tensor.shape[0], *window.output, tensor.shape[3]))
    difference = abs(scale_of(node, tensor) - scale_of(node, output))
    if difference > SCALE_TOLERANCE or zero_point_of(node, tensor) != zero_point_of(node, output):
        raise unsupported(node, "input and output must have the same scale and zero point")
    low, high = activation_range(fused_activation(node), output.scale, output.zero_point)
    return CheckedPool(tensor, output, window, low, high, leads_with_samples(node))


def _combine_windows(
    values: NDArray[np.int8], window: Window, combine: np.ufunc, fill: int, dtype: Any
) -> NDArray[Any]:
    """Combine the taps of every window position, first along columns, then along rows.

    Args:
        values: int8, shape (samples, height, width, channels).
        window: Without taps that never touch the image.
        combine: A ufunc that is associative and commutative.
        fill: Value of the padding, neutral to `combine`.
        dtype: Of the result.
    """
    if window.size == window.input and window.output == (1, 1):
        whole: NDArray[Any] = combine.reduce(values, axis=(1, 2), dtype=dtype, keepdims=True)
        return whole
    (rows, columns), (top, left) = window.reach, window.padding
    image = values
    if (top, left) != (0, 0) or rows > window.input[0] or columns > window.input[1]:
        image = np.empty((values.shape[0], rows, columns, values.shape[3]), dtype=np.int8)
        load_patch(image, values, -top, -left, 1, fill)
    down, across = ((count - 1) * step + 1 for count, step in zip(window.output, window.stride, strict=True))
    vertical = image[:, : down : window.stride[0]].astype(dtype)
    for tap in range(1, window.size[0]):
        combine(vertical, image[:, tap : tap + down : window.stride[0]], out=vertical)
    result = vertical[:, :, : across : window.stride[1]].copy()
    for tap in range(1, window.size[1]):
        combine(result, vertical[:, :, tap : tap + across : window.stride[1]], out=result)
    return result


def _counts(window: Window) -> NDArray[Any]:
    """Taps inside the image at each position, shape (1, height, width, 1)."""
    axes = []
    for axis in (0, 1):
        start = np.arange(window.output[axis]) * window.stride[axis] - window.padding[axis]
        stop = np.minimum(start + window.size[axis], window.input[axis])
        axes.append(stop - np.maximum(start, 0))
    counts: NDArray[Any] = np.multiply.outer(axes[0], axes[1]).astype(np.int32)
    return counts[None, :, :, None]


@register("AVERAGE_POOL_2D")
def prepare_average_pool(node: Node) -> Kernel:
    """AVERAGE_POOL_2D: INT8; padding does not count, halves are rounded away from zero."""
    pool = checked_pool(node)
    counts: Any = _counts(pool.window)
    if np.all(counts == counts.flat[0]):
        counts = counts.flat[0]
    half = counts // 2
    window, _ = pool.window.cropped()
    dtype = np.int16 if window.size[0] * window.size[1] <= 255 else np.int32

    def evaluate(inputs: Arrays) -> tuple[NDArray[Any], ...]:
        values = inputs[0]
        assert values is not None
        sums = _combine_windows(values, window, np.add, 0, dtype).astype(np.int32)
        mean = (np.abs(sums) + half) // counts
        np.negative(mean, out=mean, where=sums < 0)
        return (np.clip(mean, pool.low, pool.high).astype(np.int8),)

    return Kernel(evaluate, pool.batchable)


@register("MAX_POOL_2D")
def prepare_max_pool(node: Node) -> Kernel:
    """MAX_POOL_2D: INT8."""
    pool = checked_pool(node)
    window, _ = pool.window.cropped()

    def evaluate(inputs: Arrays) -> tuple[NDArray[Any], ...]:
        values = inputs[0]
        assert values is not None
        result = _combine_windows(values, window, np.maximum, INT8_MIN, np.int8)
        return (np.clip(result, pool.low, pool.high),)

    return Kernel(evaluate, pool.batchable)
