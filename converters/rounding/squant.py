"""SQuant's data-free flips, and NestQuant's nesting made of them.

SQuant (ICLR 2022) rounds to nearest and then flips roundings, first until the error of every kernel sums to
at most half a step, then until that of every output channel does. NestQuant (IEEE TMC 2025) applies it to
the higher-bit weights and stores what they miss in one more bit than the widths differ by.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from converters.rounding.flipping import as_filter, by_kernel, first, ranking
from converters.rounding.registry import Problem, method
from tflnest.nesting import MASTER_BITS, Scheme


@method("squant", Scheme.COMPENSATED)
def squant(problem: Problem) -> list[NDArray[np.int8]]:
    """NestQuant: every level by SQuant's flips of the int8 weights divided by the level's step.

    At 8 bits the codes are the source's. Below, each code is w / 2**(8 - b), clipped and then rounded up or
    down by `flip`, so what is left lies within ±(2**(8 - b) - 1) and fits the next plane with its extra bit.
    Every level of a longer chain is rounded from the int8 weights too, lowest first, and so equals the
    part-bit level of a published pair (b, 8). The one thing that would not nest, a weight rounded down at a
    level and up at the next one to what the level's code plus 1 stands for, is rounded down at both.
    Rounding level after level from the top nests as well, but rounds twice: it costs several points of
    accuracy at 4 bits.

    With a chain of one level, such as (6,), this gives SQuant's dedicated model: one plane, no extra bit,
    nothing to page in. Its codes equal those of the part-bit level of a nested model, which shows that the
    nesting itself costs NestQuant no accuracy, only the bit. The grid of either has 2**(8 - b) steps of the
    int8 weights.
    """
    weights = by_kernel(problem.weights, problem.channel_axis)
    codes: list[NDArray[np.int8]] = []
    below = 0
    for level in problem.nesting.levels:
        limit = 1 << (level - 1)
        lowest, highest = (
            np.full(weights.shape, -limit, np.int16),
            np.full(weights.shape, limit - 1, np.int16),
        )
        if codes:
            reach = 1 << (level - below)
            nested = codes[-1].astype(np.int16) << (level - below)
            lowest, highest = np.maximum(lowest, nested - reach), np.minimum(highest, nested + reach - 1)
        scaled = np.clip(weights / (1 << (MASTER_BITS - level)), -limit, limit - 1)
        codes.append(weights if level == MASTER_BITS else flip(scaled, lowest, highest))
        below = level
    return [as_filter(item, problem.weights.shape, problem.channel_axis) for item in codes]


@dataclass(frozen=True)
class _Offers:
    """The one element that each kernel offers to its output channel, arrays of (channels, kernels).

    Attributes:
        position: Of the element in its kernel.
        direction: +1 to round it up, -1 to round it down, 0 for no offer.
        priority: Its rounding error, absolute.
    """

    position: NDArray[np.intp]
    direction: NDArray[np.int8]
    priority: NDArray[np.float64]


def flip(x: NDArray[np.float64], lowest: ArrayLike, highest: ArrayLike) -> NDArray[np.int8]:
    """Round each element up or down so that the errors of kernels and output channels cancel.

    Of x within the limits, the error (code - x) of each element stays below 1, that of each kernel sums to at
    most 1 (0.5 before the channels' turn), and that of each output channel to at most 0.5. A weight beyond its
    limit keeps the error that the limit causes; others are flipped for it as long as there are any.

    Args:
        x: (output channels, kernels, elements), in steps.
        lowest: Lowest code, at least -128; one for all or one each.
        highest: Highest code, at most 127; one for all or one each.

    Returns:
        Codes, int8, shaped like x. Of elements with equal errors the first ones are flipped.
    """
    codes, offers = _flip_kernels(x, np.asarray(lowest), np.asarray(highest))
    total = (codes - x).sum(axis=(1, 2))
    usable = (offers.direction == -np.sign(total)[:, None]) & (offers.direction != 0)
    chosen = first(ranking(-offers.priority, usable), np.minimum(np.rint(np.abs(total)), usable.sum(axis=1)))
    change = np.where(chosen, offers.direction, 0)[..., None]
    rows = np.take_along_axis(codes, offers.position[..., None], axis=2) + change
    np.put_along_axis(codes, offers.position[..., None], rows, axis=2)
    return codes.astype(np.int8)


def _flip_kernels(
    x: NDArray[np.float64], lowest: NDArray[np.integer[Any]], highest: NDArray[np.integer[Any]]
) -> tuple[NDArray[np.float64], _Offers]:
    """Flip within kernels; a kernel then offers the flip that costs it least, back or one further."""
    codes = np.clip(np.rint(x), lowest, highest)
    error = codes - x
    total = error.sum(axis=2)
    direction = -np.sign(total)
    movable = np.where(error < 0, x < highest, x > lowest)
    usable = (error * direction[..., None] < 0) & movable
    available = usable.sum(axis=2)
    order = ranking(-np.abs(error), usable)
    count = np.minimum(np.rint(np.abs(total)), available)
    codes = codes + first(order, count) * direction[..., None]
    back = (count > 0) & (count >= np.abs(total))
    further = ~back & (count < available)
    rank = np.where(back, count - 1, np.where(further, count, 0)).astype(np.intp)
    position = np.take_along_axis(order, rank[..., None], axis=2)
    priority = np.abs(np.take_along_axis(codes - x, position, axis=2))[..., 0]
    offered = np.where(back, -direction, np.where(further, direction, 0)).astype(np.int8)
    return codes, _Offers(position[..., 0], offered, priority)
