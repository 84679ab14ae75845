"""The integer kernels once more, as plain Python loops over plain integers: what the fast ones must equal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


def wrap(value: int) -> int:
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)


def high_mul(a: int, b: int) -> int:
    """SaturatingRoundingDoublingHighMul with C's division, which truncates."""
    if a == b == -(1 << 31):
        return (1 << 31) - 1
    product = a * b
    nudged = product + ((1 << 30) if product >= 0 else 1 - (1 << 30))
    return abs(nudged) // (1 << 31) * (1 if nudged >= 0 else -1)


def divide_by_pot(x: int, exponent: int) -> int:
    mask = (1 << exponent) - 1
    threshold = (mask >> 1) + (1 if x < 0 else 0)
    return (x >> exponent) + (1 if (x & mask) > threshold else 0)


def multiply(x: int, multiplier: int, shift: int, single: bool = False) -> int:
    """MultiplyByQuantizedMultiplier."""
    if single:
        total = 31 - shift
        return wrap((x * multiplier + (1 << (total - 1))) >> total)
    return divide_by_pot(high_mul(wrap(x << max(shift, 0)), multiplier), max(-shift, 0))


@dataclass(frozen=True)
class Scaling:
    """What a kernel does to its accumulators."""

    multiplier: NDArray[np.int32]
    shift: NDArray[np.int32]
    input_zero_point: int
    output_zero_point: int
    low: int = -128
    high: int = 127
    single: bool = False

    def __call__(self, acc: int, channel: int) -> int:
        scaled = multiply(acc, int(self.multiplier[channel]), int(self.shift[channel]), self.single)
        return min(max(scaled + self.output_zero_point, self.low), self.high)


def output_size(image: int, size: int, stride: int, dilation: int, padding: str) -> tuple[int, int]:
    """Number of positions and padding before the image."""
    span = (size - 1) * dilation + 1
    if padding == "VALID":
        return (image - span) // stride + 1, 0
    count = (image + stride - 1) // stride
    return count, max((count - 1) * stride + span - image, 0) // 2


def convolution(
    image: NDArray[np.int8],
    weights: NDArray[np.int8],
    bias: NDArray[np.int32] | None,
    scaling: Scaling,
    stride: tuple[int, int],
    dilation: tuple[int, int],
    padding: str,
    groups: int,
) -> NDArray[np.int8]:
    samples, height, width, _ = image.shape
    channels, kh, kw, depth = weights.shape
    rows, top = output_size(height, kh, stride[0], dilation[0], padding)
    columns, left = output_size(width, kw, stride[1], dilation[1], padding)
    out = np.zeros((samples, rows, columns, channels), np.int8)
    for n, oy, ox, oc in np.ndindex(*out.shape):
        acc = 0 if bias is None else int(bias[oc])
        first = oc // (channels // groups) * depth
        for ky, kx, c in np.ndindex(kh, kw, depth):
            y, x = oy * stride[0] - top + ky * dilation[0], ox * stride[1] - left + kx * dilation[1]
            if 0 <= y < height and 0 <= x < width:
                acc += (int(image[n, y, x, first + c]) - scaling.input_zero_point) * int(
                    weights[oc, ky, kx, c]
                )
        out[n, oy, ox, oc] = scaling(acc, oc)
    return out


def depthwise(
    image: NDArray[np.int8],
    weights: NDArray[np.int8],
    bias: NDArray[np.int32] | None,
    scaling: Scaling,
    stride: tuple[int, int],
    dilation: tuple[int, int],
    padding: str,
    multiplier: int,
) -> NDArray[np.int8]:
    """A convolution in as many groups as there are input channels."""
    as_groups = np.ascontiguousarray(weights.transpose(3, 1, 2, 0))
    groups = weights.shape[3] // multiplier
    return convolution(image, as_groups, bias, scaling, stride, dilation, padding, groups)


def fully_connected(
    rows: NDArray[np.int8],
    weights: NDArray[np.int8],
    bias: NDArray[np.int32] | None,
    scaling: Scaling,
    filter_zero_point: int = 0,
) -> NDArray[np.int8]:
    out = np.zeros((len(rows), len(weights)), np.int8)
    for n, oc in np.ndindex(*out.shape):
        acc = 0 if bias is None else int(bias[oc])
        for value, weight in zip(rows[n], weights[oc], strict=True):
            acc += (int(value) - scaling.input_zero_point) * (int(weight) - filter_zero_point)
        out[n, oc] = scaling(acc, oc)
    return out


def transpose_convolution(
    image: NDArray[np.int8],
    weights: NDArray[np.int8],
    bias: NDArray[np.int32] | None,
    scaling: Scaling,
    stride: tuple[int, int],
    padding: str,
    size: tuple[int, int],
) -> NDArray[np.int8]:
    samples, height, width, depth = image.shape
    channels, kh, kw, _ = weights.shape
    _, top = output_size(size[0], kh, stride[0], 1, padding)
    _, left = output_size(size[1], kw, stride[1], 1, padding)
    sums = np.zeros((samples, *size, channels), np.int64)
    for n, iy, ix, ky, kx, oc in np.ndindex(samples, height, width, kh, kw, channels):
        y, x = iy * stride[0] - top + ky, ix * stride[1] - left + kx
        if 0 <= y < size[0] and 0 <= x < size[1]:
            for c in range(depth):
                sums[n, y, x, oc] += (int(image[n, iy, ix, c]) - scaling.input_zero_point) * int(
                    weights[oc, ky, kx, c]
                )
    out = np.zeros(sums.shape, np.int8)
    for n, y, x, oc in np.ndindex(*sums.shape):
        out[n, y, x, oc] = scaling(int(sums[n, y, x, oc]) + (0 if bias is None else int(bias[oc])), oc)
    return out
