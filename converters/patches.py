"""What a filter sees of its input: a random part of all window positions, laid out as rows.

A filter of n output channels is a matrix per group of input channels: (groups, output channels of a group,
columns), one column per weight that an output channel has. A patch is the row of inputs that meets these
columns at one position of the window, without the input's zero point; beyond the edges it is zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tflnest.graph import Operator, Tensor
from tflnest.kernels.geometry import Window, dilations, strides

#: Most rows that are drawn.
MAX_ROWS = 8192

#: Most values of all rows together, which bounds the memory.
MAX_VALUES = 1 << 23


def by_group(weights: NDArray[Any], channel_axis: int, groups: int) -> NDArray[np.float64]:
    """A filter as matrices.

    Args:
        weights: Shaped as in the file.
        channel_axis: Axis that counts output channels; 3 for a depthwise filter.
        groups: Groups of input channels; a depthwise filter has one per input channel.

    Returns:
        float64 (groups, output channels of a group, columns).
    """
    if channel_axis == 3:
        matrix = weights.reshape(-1, groups, weights.shape[3] // groups).transpose(1, 2, 0)
    else:
        matrix = weights.reshape(groups, weights.shape[0] // groups, -1)
    return matrix.astype(np.float64)


def as_filter(matrix: NDArray[np.int8], shape: tuple[int, ...], channel_axis: int) -> NDArray[np.int8]:
    """The inverse of `by_group`: int8, contiguous, shaped as in the file."""
    ordered = matrix.transpose(2, 0, 1) if channel_axis == 3 else matrix
    return np.ascontiguousarray(ordered).reshape(shape)


class PatchSampler:
    """Draws the same positions from the inputs of the source and of every level.

    Args:
        operator: CONV_2D, DEPTHWISE_CONV_2D or FULLY_CONNECTED.
        shape: Of its filter.
        activation: Its input.
        values: The input of all samples, (samples, ...).
        seed: Equal seeds draw equal positions.
    """

    def __init__(
        self,
        operator: Operator,
        shape: tuple[int, ...],
        activation: Tensor,
        values: NDArray[np.int8],
        seed: int,
    ) -> None:
        self._operator, self._shape, self._zero_point = operator, shape, activation.zero_point
        generator = np.random.default_rng([seed, operator.index])
        if operator.name == "FULLY_CONNECTED":
            total, width = values.size // shape[1], shape[1]
        else:
            self._window = Window.sliding(
                operator.options["padding"],
                (shape[1], shape[2]),
                strides(operator.options),
                dilations(operator.options),
                (values.shape[1], values.shape[2]),
            )
            total = len(values) * self._window.output[0] * self._window.output[1]
            width = shape[1] * shape[2] * values.shape[3]
        count = min(total, MAX_ROWS, max(MAX_VALUES // width, 1))
        self._positions = np.sort(generator.choice(total, count, replace=False))

    def rows(self, values: NDArray[np.int8]) -> NDArray[np.float32]:
        """The patches at the drawn positions.

        Args:
            values: int8 input, shaped like the one that the sampler was made for.

        Returns:
            float32 (groups, rows, columns).
        """
        if self._operator.name == "FULLY_CONNECTED":
            rows = values.reshape(-1, self._shape[1])[self._positions]
            return (rows.astype(np.float32) - np.float32(self._zero_point))[None]
        patches = self._windows(values)
        count, _, depth = patches.shape
        group = 1 if self._operator.name == "DEPTHWISE_CONV_2D" else self._shape[3]
        split = patches.reshape(count, -1, depth // group, group).transpose(2, 0, 1, 3)
        return np.ascontiguousarray(split).reshape(depth // group, count, -1)

    def _windows(self, values: NDArray[np.int8]) -> NDArray[np.float32]:
        """(rows, taps, channels)."""
        window = self._window
        sample, place = np.divmod(self._positions, window.output[0] * window.output[1])
        starts = np.divmod(place, window.output[1])
        seen = []
        for axis, start in enumerate(starts):
            taps = np.arange(window.size[axis]) * window.dilation[axis] - window.padding[axis]
            seen.append(start[:, None] * window.stride[axis] + taps)
        rows, columns = seen
        inside = [(axis >= 0) & (axis < size) for axis, size in zip(seen, window.input, strict=True)]
        y = np.clip(rows, 0, window.input[0] - 1)[:, :, None]
        x = np.clip(columns, 0, window.input[1] - 1)[:, None, :]
        patches = values[sample[:, None, None], y, x].astype(np.float32) - np.float32(self._zero_point)
        patches *= (inside[0][:, :, None] & inside[1][:, None, :])[..., None]
        return patches.reshape(len(sample), -1, values.shape[3])
