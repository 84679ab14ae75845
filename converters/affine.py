"""Scales and zero points of int8 tensors, after the TensorFlow Lite 8-bit quantization specification."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from converters.calibration import Range

#: Smallest scale of an activation. Runtimes abort on degenerate scales, and no signal is this small.
MIN_SCALE = 1e-9

#: Scale of a tensor that is zero throughout, where any would do.
SCALE_OF_ZERO = 1.0 / 255.0

#: Quantized biases stay below this, so that adding the products cannot overflow an int32 accumulator.
_MAX_BIAS = float(1 << 30)

#: Smallest input scale * weight scale / output scale that fixed-point requantization still resolves.
_MIN_MULTIPLIER = 2.0**-30


@dataclass(frozen=True)
class Affine:
    """Quantization of an int8 tensor: real = scale * (q - zero_point).

    Attributes:
        scale: > 0, a float32 value.
        zero_point: In [-128, 127].
    """

    scale: float
    zero_point: int

    @property
    def range(self) -> Range:
        """The real numbers that -128 and 127 stand for."""
        return Range(self.scale * (-128 - self.zero_point), self.scale * (127 - self.zero_point))

    def quantize(self, values: NDArray[np.float32]) -> NDArray[np.int8]:
        """Real numbers as int8, rounded half away from zero and clamped."""
        integers = round_half_away(values.astype(np.float64) / self.scale) + self.zero_point
        return np.clip(integers, -128, 127).astype(np.int8)


#: Outputs whose range the specification fixes.
UNIT = Affine(1.0 / 256.0, -128)
SIGNED_UNIT = Affine(1.0 / 128.0, 0)


def round_half_away(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round to whole numbers, halves away from zero, as the runtimes do."""
    return np.trunc(values + np.copysign(0.5, values))


def from_range(seen: Range) -> Affine:
    """The asymmetric quantization that covers a range and represents 0 exactly."""
    low, high = min(seen.low, 0.0), max(seen.high, 0.0)
    if low == high:
        return Affine(float(np.float32(SCALE_OF_ZERO)), -128)
    scale = float(np.float32(max((high - low) / 255.0, MIN_SCALE)))
    return Affine(scale, int(np.clip(np.rint(-128.0 - low / scale), -128, 127)))


def weight_scales(
    weights: NDArray[np.float32],
    axis: int,
    bias: NDArray[np.float32] | None,
    source: Affine,
    target: Affine,
    wanted: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Symmetric scale of each output channel of a filter.

    The scale is the wanted one, or max|w| / 127, and larger only where that would overflow the int32 bias or give a multiplier
    that runtimes cannot represent: channels that are zero, or nearly so.

    Args:
        weights: The filter.
        axis: Its output channel dimension.
        bias: Shape (channels,), or None.
        source: Quantization of the input.
        target: Quantization of the output.
        wanted: Shape (channels,), all > 0, or None.

    Returns:
        Shape (channels,), all > 0.
    """
    others = tuple(dimension for dimension in range(weights.ndim) if dimension != axis)
    covering = np.abs(weights).max(axis=others).astype(np.float64) / 127.0
    scales = covering if wanted is None else wanted.astype(np.float64)
    scales = np.maximum(scales, _MIN_MULTIPLIER * target.scale / source.scale)
    if bias is not None:
        scales = np.maximum(scales, np.abs(bias.astype(np.float64)) / (source.scale * _MAX_BIAS))
    single: NDArray[np.float32] = scales.astype(np.float32)
    return single


def quantize_weights(
    weights: NDArray[np.float32], scales: NDArray[np.float32], axis: int
) -> NDArray[np.int8]:
    """A filter as int8 in [-127, 127] with one scale per channel, rounded half away from zero."""
    shape = [1] * weights.ndim
    shape[axis] = -1
    scaled = weights.astype(np.float64) / scales.astype(np.float64).reshape(shape)
    return np.clip(round_half_away(scaled), -127, 127).astype(np.int8)


def quantize_bias(bias: NDArray[np.float32], scales: NDArray[np.float64]) -> NDArray[np.int32]:
    """A bias as int32 with scale input * weight of each channel."""
    limit = np.iinfo(np.int32)
    return np.clip(round_half_away(bias.astype(np.float64) / scales), limit.min, limit.max).astype(np.int32)
