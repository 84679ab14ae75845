"""SQuant's flips without an extra bit: inside nested buckets."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from converters.rounding.flipping import as_filter, by_kernel, first, ranking
from converters.rounding.registry import Problem, method
from tflnest.nesting import MASTER_BITS, Nesting, Scheme

#: How far a weight may lie outside the bucket that it is moved to, in steps of the int8 weights. A larger
#: reach serves the base level better and the full-bit level worse.
REACH = 4.0


@method("hierarchical", Scheme.BUCKET)
def hierarchical(problem: Problem) -> list[NDArray[np.int8]]:
    """Buckets by flips, from the base up, every level within the buckets of the one below.

    Needs no data, and at exactly n bits per weight comes close to what SQuant reaches for each level alone.
    The full-bit codes change: a weight that was moved across the edge of a bucket ends at that edge.
    """
    target = problem.weights if problem.target is None else problem.target
    weights = by_kernel(target, problem.channel_axis).astype(np.float64)
    return [
        as_filter(codes, problem.weights.shape, problem.channel_axis)
        for codes in nested_codes(weights, problem.nesting, REACH)
    ]


def nested_codes(x: NDArray[np.float64], nesting: Nesting, reach: float = REACH) -> list[NDArray[np.int8]]:
    """Codes of all levels, each nested in the one before.

    The error of a weight is what its code decodes to minus x, in steps of the level. Per level: take the
    nearest code, or the nearest that the level below allows; move the weights that are closest to their
    neighbouring code until the errors of every kernel sum to about half a step; then move one weight in each of as
    many kernels as the sum over the output channel needs.

    Args:
        x: (output channels, kernels, elements), in steps of the int8 weights.
        nesting: Chain, of scheme bucket.
        reach: Farthest that x may lie outside the bucket that it is moved to, in steps of the int8 weights.

    Returns:
        One int8 array per level, shaped like x, in [-2**(b-1), 2**(b-1) - 1].
    """
    codes: list[NDArray[np.int8]] = []
    below = 0
    for level in nesting.levels:
        growth = level - below
        nested = codes[-1].astype(np.int64) << growth if codes else np.full(x.shape, -(1 << (level - 1)))
        step = 1 << (MASTER_BITS - level)
        place = (x - nesting.mid(level)) / step + 0.5
        codes.append(_Buckets(place, nested, nested + (1 << growth) - 1, reach / step).codes())
        below = level
    return codes


class _Buckets:
    """The choice of buckets of one level.

    Args:
        place: Where the weights lie, in buckets: those from q to q + 1 are nearest to what bucket q decodes to.
        lowest: Lowest bucket of each weight.
        highest: Highest bucket of each weight.
        reach: Farthest that a weight may lie outside its bucket by choice, in buckets.
    """

    def __init__(
        self,
        place: NDArray[np.float64],
        lowest: NDArray[np.int64],
        highest: NDArray[np.int64],
        reach: float,
    ) -> None:
        self._place, self._lowest, self._highest, self._reach = place, lowest, highest, reach
        self._codes = np.clip(np.floor(place).astype(np.int64), lowest, highest)

    def codes(self) -> NDArray[np.int8]:
        """Move within kernels, then within output channels."""
        if self._place.shape[2] > 1:
            self._move_in_kernels()
        self._move_in_channels()
        return self._codes.astype(np.int8)

    def _error(self) -> NDArray[np.float64]:
        return self._codes + 0.5 - self._place

    def _distance(self, direction: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """How far each weight lies outside its neighbouring bucket, and whether it may move there."""
        target = self._codes + direction
        distance = np.maximum(np.maximum(target - self._place, self._place - target - 1), 0.0)
        allowed = (target >= self._lowest) & (target <= self._highest) & (distance <= self._reach)
        return distance, allowed & (direction != 0)

    def _move_in_kernels(self) -> None:
        total = self._error().sum(axis=2)
        direction = -np.sign(total).astype(np.int64)[..., None]
        distance, usable = self._distance(direction)
        count = np.minimum(np.rint(np.abs(total)), usable.sum(axis=2))
        self._codes += first(ranking(distance, usable), count) * direction

    def _move_in_channels(self) -> None:
        """One weight of each of some kernels: first of those whose own error it takes towards zero."""
        kernels = self._error().sum(axis=2)
        total = kernels.sum(axis=1)
        direction = -np.sign(total).astype(np.int64)[:, None]
        distance, usable = self._distance(direction[..., None])
        best = ranking(distance, usable)[..., :1]
        offered = np.take_along_axis(usable, best, axis=2)[..., 0]
        cost = np.take_along_axis(distance, best, axis=2)[..., 0]
        cost[kernels * direction >= 0] += distance.max() + 1.0
        chosen = first(ranking(cost, offered), np.minimum(np.rint(np.abs(total)), offered.sum(axis=1)))
        moved = np.take_along_axis(self._codes, best, axis=2) + (chosen * direction)[..., None]
        np.put_along_axis(self._codes, best, moved, axis=2)
