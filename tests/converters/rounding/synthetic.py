"""Synthetic weights, and a plain version of the flips to compare with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def gauss(channels: int = 64, kernels: int = 64, elements: int = 9, seed: int = 0) -> NDArray[np.float64]:
    """Gaussian weights in steps of an 8-bit grid that spans the smallest to the largest of each channel."""
    weights = np.random.default_rng(seed).standard_normal((channels, kernels, elements))
    low, high = weights.min((1, 2), keepdims=True), weights.max((1, 2), keepdims=True)
    inverse_step = 255 / (high - low)
    zero_point = np.rint(inverse_step * low) + 128
    return np.clip(inverse_step * weights - zero_point, -128, 127)


def rms(values: NDArray[np.float64]) -> float:
    """Root of the mean square."""
    return float(np.sqrt((values**2).mean()))


def figures(error: NDArray[np.float64]) -> tuple[float, float, float]:
    """Root mean square of the errors, of their sums over kernels, and over output channels."""
    return rms(error), rms(error.sum(axis=2)), rms(error.sum(axis=(1, 2)))


def plain_flip(x: NDArray[np.float64], lowest: int, highest: int) -> NDArray[np.int64]:
    """SQuant's flips, one channel, kernel and element after the other."""
    return np.array([_channel(channel, lowest, highest) for channel in x.tolist()])


def _channel(kernels: list[list[float]], lowest: int, highest: int) -> list[list[int]]:
    codes, offers = [], []
    for number, kernel in enumerate(kernels):
        rounded, offer = _kernel(kernel, lowest, highest)
        codes.append(rounded)
        if offer is not None:
            position, direction = offer
            offers.append((-abs(rounded[position] - kernel[position]), number, position, direction))
    total = sum(
        code - x
        for row, kernel in zip(codes, kernels, strict=True)
        for code, x in zip(row, kernel, strict=True)
    )
    wanted = [offer for offer in sorted(offers) if offer[3] * total < 0]
    for _, number, position, direction in wanted[: round(abs(total))]:
        codes[number][position] += direction
    return codes


def _kernel(kernel: list[float], lowest: int, highest: int) -> tuple[list[int], tuple[int, int] | None]:
    """Codes of a kernel, and the position and direction of the flip that it offers to its channel."""
    codes = [min(max(round(x), lowest), highest) for x in kernel]
    errors = [code - x for code, x in zip(codes, kernel, strict=True)]
    total = sum(errors)
    if total == 0:
        return codes, None
    direction = -1 if total > 0 else 1
    usable = [
        (-abs(error), position)
        for position, (error, x) in enumerate(zip(errors, kernel, strict=True))
        if error * direction < 0 and (x < highest if direction > 0 else x > lowest)
    ]
    order = [position for _, position in sorted(usable)]
    count = min(round(abs(total)), len(order))
    for position in order[:count]:
        codes[position] += direction
    if count and count >= abs(total):
        return codes, (order[count - 1], -direction)
    return codes, (order[count], direction) if count < len(order) else None
