"""Whether calibration data looks like what the model was trained on.

Data of a wrong shape or with NaN is an error elsewhere. What is looked for here can be meant, and mostly is not:
samples on another scale than the model's input, few of them, or the same one many times.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from tflnest.dataset import Dataset
from tflnest.graph import Tensor

#: Fewer samples than this say little of a range or a mean.
FEW_SAMPLES = 16

#: Share of copies among the samples from which on they are mentioned.
MANY_COPIES = 0.05

#: Share of values outside the input's range from which on they are mentioned; calibration by percentiles cuts
#: off a little of any data.
MANY_SATURATED = 0.05

#: Part of the input's range that samples use at least.
SMALL_SPAN = 0.25

#: A side of zero that has this part of the input's range is there to be used.
WIDE_SIDE = 0.25


@dataclass(frozen=True)
class _Interval:
    low: float
    high: float

    @property
    def span(self) -> float:
        return self.high - self.low

    @property
    def reach(self) -> float:
        return max(abs(self.low), abs(self.high))

    def __str__(self) -> str:
        return f"{self.low:.4g}..{self.high:.4g}"


def check_calibration(dataset: Dataset, tensor: Tensor) -> list[str]:
    """Reasons to doubt calibration data, with numbers; empty where there are none.

    Args:
        dataset: The calibration samples.
        tensor: The model's input. Its scale tells which real numbers the model takes; a float input has none,
            so that the scale of its samples can't be checked.
    """
    seen = _Interval(float(dataset.x.min()), float(dataset.x.max()))
    warnings = _check_number(dataset) + _check_variety(dataset, seen)
    if tensor.quantization is not None and tensor.scale > 0 and tensor.dtype.kind in "iu" and seen.span > 0:
        warnings += _check_scale(dataset, tensor, seen)
    return [f"calibration data {dataset.name}: {warning}" for warning in warnings]


def _check_number(dataset: Dataset) -> list[str]:
    if len(dataset) >= FEW_SAMPLES:
        return []
    samples = "1 sample" if len(dataset) == 1 else f"{len(dataset)} samples"
    return [f"{samples}; take at least {FEW_SAMPLES}, better a hundred"]


def _check_variety(dataset: Dataset, seen: _Interval) -> list[str]:
    """Constant data, equal samples, copies: only the worst of them."""
    if seen.span == 0:
        return [f"every value is {seen.low:.4g}, so it says nothing of the model's activations"]
    digests = {hashlib.blake2b(sample.tobytes(), digest_size=16).digest() for sample in dataset.x}
    copies = len(dataset) - len(digests)
    if len(digests) == 1 and copies:
        return [f"all {len(dataset)} samples are equal"]
    if copies > MANY_COPIES * len(dataset):
        return [f"{copies} of {len(dataset)} samples are copies of others"]
    return []


def _check_scale(dataset: Dataset, tensor: Tensor, seen: _Interval) -> list[str]:
    """Samples on another scale than the input's; the first reason that is found."""
    limits = np.iinfo(tensor.dtype)
    zero_point = tensor.zero_point
    taken = _Interval((limits.min - zero_point) * tensor.scale, (limits.max - zero_point) * tensor.scale)
    if dataset.x.dtype.kind in "iu":
        # Integers are taken as the input's own codes: they can't saturate.
        seen = _Interval((seen.low - zero_point) * tensor.scale, (seen.high - zero_point) * tensor.scale)
        saturated = 0.0
    else:
        half = tensor.scale / 2
        saturated = float(np.mean((dataset.x < taken.low - half) | (dataset.x > taken.high + half)))
    where = f"the values lie in {seen}, input {tensor.label} takes {taken}"
    advice = "scale the samples as for training"
    if saturated > MANY_SATURATED:
        factor = seen.reach / taken.reach
        size = f", about {factor:.3g} times too large" if factor >= 2 else ""
        return [f"{100 * saturated:.1f} % of the values saturate: {where}{size}; {advice}"]
    if seen.span < SMALL_SPAN * taken.span:
        steps = max(1, round(seen.span / tensor.scale))
        factor = taken.reach / max(seen.reach, tensor.scale)
        size = f", about {factor:.3g} times too small" if factor >= 2 else ""
        return [
            f"the values use {steps} of the input's {limits.max - limits.min + 1} steps: {where}{size}; {advice}"
        ]
    if seen.low >= 0 and -taken.low > WIDE_SIDE * taken.span:
        return [f"no value is negative: {where}; {advice}"]
    if seen.high <= 0 and taken.high > WIDE_SIDE * taken.span:
        return [f"no value is positive: {where}; {advice}"]
    return []


__all__ = ["check_calibration"]
