"""Biases and scales of part-bit levels.

A part-bit filter differs from the full-bit one, which shifts the mean of every output channel. The bias of
the level takes the shift back: b_level = b + W . E[x] - Q . E[x_level], where E is the mean over samples and
window positions of the input without its zero point, x the input in the source model, and x_level the input
when everything before runs at the level too. The means come from calibration data, or from synthetic inputs
where there is none.

Errors of the weights and of the inputs also stretch or shrink what varies around the mean. The scale of the
level is that of the source times g, the ratio of the standard deviations of the source's accumulators and the
level's; the bias is then b_level = (b + W . E[x]) / g - Q . E[x_level], in the level's own units. (The slope of
a regression would shrink the outputs by the share of their errors, operator after operator.)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from converters.patches import by_group
from converters.planning import filter_multipliers
from tflnest.errors import FormatError
from tflnest.graph import Operator, Subgraph, Tensor
from tflnest.kernels.geometry import Window, dilations, strides
from tflnest.nested import CHANNEL_AXIS
from tflnest.requantization import recover_filter_scales

#: Largest change of a bias, in accumulator units: keeps the corrected bias far from int32's ends.
MAX_CORRECTION = 1 << 28

#: Ratios outside are not taken for real.
RATIO_LIMITS = (0.5, 2.0)


def corrected_bias(bias: NDArray[np.int32], change: NDArray[np.float64]) -> NDArray[np.int32]:
    """A bias with a correction added.

    Args:
        bias: int32 (channels,).
        change: What the mean accumulator of the level lacks, (channels,).
    """
    limits = np.iinfo(np.int32)
    step = np.clip(np.rint(change), -MAX_CORRECTION, MAX_CORRECTION)
    corrected: NDArray[np.int32] = np.clip(bias + step, limits.min, limits.max).astype(np.int32)
    return corrected


def fitted_scales(
    subgraph: Subgraph,
    operator: Operator,
    weights: NDArray[np.int8],
    source: NDArray[np.float32],
    level: NDArray[np.float32],
) -> NDArray[np.float32] | None:
    """Filter scales of a level: the source's, times the ratio of what varies in its accumulators and the level's.

    Args:
        subgraph: Of the source.
        operator: A stock operator of it.
        weights: int8 weights of the level.
        source: Patches of the source's inputs, float32 (groups, rows, columns).
        level: The same of the level.

    Returns:
        float32, as many as the source has; a channel whose scale has no multiplier keeps the source's. None where
        that is so everywhere.
    """
    tensor = subgraph.tensors[operator.inputs[1]]
    assert tensor.data is not None and tensor.quantization is not None
    axis, groups = CHANNEL_AXIS[operator.name], len(source)
    full = _accumulators(by_group(tensor.data, axis, groups), source)
    part = _accumulators(by_group(weights, axis, groups), level)
    wanted, got = (full * full).sum(axis=1), (part * part).sum(axis=1)
    own = tensor.quantization.scale
    if own.size == 1:
        wanted, got = wanted.sum(keepdims=True), got.sum(keepdims=True)
    ratios = np.sqrt(np.divide(wanted, got, out=np.ones_like(got), where=got > 0))
    scales = (own * np.clip(ratios, *RATIO_LIMITS)).astype(np.float32)
    usable = _recovered(subgraph, operator, tensor, scales)
    if usable is not None:
        return usable
    for channel in range(scales.size):
        if _recovered(subgraph, operator, tensor, scales[channel : channel + 1]) is None:
            scales[channel] = own[channel]
    return _recovered(subgraph, operator, tensor, scales)


def _accumulators(matrix: NDArray[np.float64], rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Accumulators without their mean, (channels, rows)."""
    values = (matrix.astype(np.float32) @ rows.transpose(0, 2, 1)).astype(np.float64)
    values -= values.mean(axis=2, keepdims=True)
    return values.reshape(-1, rows.shape[1])


def _recovered(
    subgraph: Subgraph, operator: Operator, tensor: Tensor, scales: NDArray[np.float32]
) -> NDArray[np.float32] | None:
    """The scales that a reader computes back from the multipliers of these; None where there are none."""
    activation, output = subgraph.tensors[operator.inputs[0]], subgraph.tensors[operator.outputs[0]]
    try:
        multiplier, shift = filter_multipliers(subgraph, tensor, operator, scales)
        if not multiplier.all():
            return None
        return recover_filter_scales(activation.scale, output.scale, multiplier, shift)
    except FormatError:
        return None


def mean_accumulator(
    operator: Operator, weights: NDArray[np.int8], values: NDArray[np.int8], activation: Tensor
) -> NDArray[np.float64]:
    """Mean of every output channel's accumulator, without bias, over samples and positions."""
    matrix = weights.astype(np.float64)
    if operator.name == "FULLY_CONNECTED":
        rows = values.reshape(-1, weights.shape[1])
        mean: NDArray[np.float64] = matrix @ (rows.mean(axis=0, dtype=np.float64) - activation.zero_point)
        return mean
    total = values.sum(axis=0, dtype=np.int64) - len(values) * activation.zero_point
    means = _tap_means(operator, weights.shape[1:3], total, len(values))
    if operator.name == "DEPTHWISE_CONV_2D":
        multiplier = weights.shape[3] // means.shape[2]
        total_seen: NDArray[np.float64] = (matrix[0] * np.repeat(means, multiplier, axis=2)).sum(axis=(0, 1))
        return total_seen
    groups = means.shape[2] // weights.shape[3]
    by_group = means.reshape(*means.shape[:2], groups, weights.shape[3])
    split = matrix.reshape(groups, -1, *weights.shape[1:])
    grouped: NDArray[np.float64] = np.einsum("gohwi,hwgi->go", split, by_group)
    return grouped.reshape(-1)


def _tap_means(
    operator: Operator, size: Sequence[int], total: NDArray[np.int64], samples: int
) -> NDArray[np.float64]:
    """Mean input that each tap of a window sees; positions beyond the edges count as zero.

    Args:
        operator: A convolution.
        size: Taps (height, width).
        total: Sum over samples of the input without its zero point, (height, width, channels).
        samples: Number of samples.

    Returns:
        float64 (tap rows, tap columns, channels).
    """
    window = Window.sliding(
        operator.options["padding"],
        (size[0], size[1]),
        strides(operator.options),
        dilations(operator.options),
        (total.shape[0], total.shape[1]),
    )
    means = np.zeros((*size, total.shape[2]))
    for row in range(size[0]):
        rows = _seen(window, 0, row)
        for column in range(size[1]):
            means[row, column] = total[rows, _seen(window, 1, column)].sum(axis=(0, 1))
    return means / (samples * window.output[0] * window.output[1])


def _seen(window: Window, axis: int, tap: int) -> slice:
    """Indices of the image that a tap sees along an axis."""
    stride, start = window.stride[axis], tap * window.dilation[axis] - window.padding[axis]
    first = start + (-(start // stride)) * stride if start < 0 else start
    stop = min(start + (window.output[axis] - 1) * stride + 1, window.input[axis])
    return slice(first, max(stop, first), stride)
