"""Second-order rounding of all levels together, inside nested buckets.

For one filter, level by level from the base up, the weights are rounded column after column, and what each
rounding does to the outputs is made up for by the columns that are still to come (GPTQ): the outputs are those
of the level's own inputs, and their target is the output that the source has with its own. Every higher level
is rounded the same way inside the buckets of the one below. Then sweeps over the columns look at all levels at
once, and replace single codes where that lowers the sum of the errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.patches import as_filter, by_group
from converters.rounding.registry import Problem, method
from tflnest.nesting import MASTER_BITS, Nesting, Scheme

#: Share of the mean diagonal that is added to the second moments: keeps them regular, and weights near the target.
DAMPING = 0.05

#: The same per column and row, where that is more: the fewer rows, the more of the moments is noise.
DAMPING_FEW = 1.0

#: How far the target of a level goes from the source's weights to those that would also make up for what earlier
#: operators did to the level's inputs. All the way serves the base level a little better, the others worse.
COMPENSATION = 0.5

#: Columns that are handled together; between blocks the rest follows by one matrix product.
BLOCK = 64

#: Columns of one system of equations. Wider filters are cut, so that time and memory stay linear in the width.
MAX_COLUMNS = 2048

#: Sweeps over all columns with all levels in view.
SWEEPS = 2

#: How far one sweep may move a full-bit code.
REACH = 32

Matrix = NDArray[np.float64]


@method("joint", Scheme.BUCKET, needs_data=True)
def joint(problem: Problem) -> list[NDArray[np.int8]]:
    """Codes of all levels by second-order rounding from data.

    The full-bit codes change: by less than what the base level gains, but they do.
    """
    assert problem.inputs is not None
    source, levels = problem.inputs.source, problem.inputs.levels
    target = problem.target if problem.target is not None else problem.weights
    weights = by_group(target, problem.channel_axis, len(source))
    parts = []
    for first in range(0, weights.shape[2], MAX_COLUMNS):
        part = slice(first, first + MAX_COLUMNS)
        known: dict[int, Goal] = {}
        for rows in levels:
            if id(rows) not in known:
                seen = source[..., part]
                known[id(rows)] = goal(weights[..., part], seen, seen if rows is source else rows[..., part])
        parts.append(nested_codes([known[id(rows)] for rows in levels], problem.nesting))
    return [
        as_filter(np.concatenate(level, axis=2).astype(np.int8), problem.weights.shape, problem.channel_axis)
        for level in zip(*parts, strict=True)
    ]


@dataclass(frozen=True)
class Goal:
    """What one level is to come close to: the cost of weights Q is the sum of (Q - target) H (Q - target)'.

    Attributes:
        target: (groups, channels, columns), in steps of the int8 weights.
        moments: Regular second moments H of the level's inputs, (groups, columns, columns).
    """

    target: Matrix
    moments: Matrix

    def cost(self, weights: Matrix) -> float:
        """The cost of some weights, shaped like the target."""
        error = weights - self.target
        return float(np.sum((error @ self.moments) * error))


def goal(weights: Matrix, source: NDArray[np.float32], level: NDArray[np.float32]) -> Goal:
    """The goal of a level; the means of the inputs are left to the bias.

    The target lies between the source's weights W and the weights W C (H + D)^-1 that would best give the
    source's outputs on the level's inputs, with C the moments of the source's and the level's inputs, and D the
    damping.

    Args:
        weights: Of the source, (groups, channels, columns).
        source: Inputs of the source, (groups, rows, columns).
        level: The same of the level; the very array of the source where they are the same.
    """
    count, columns = level.shape[1:]
    centred = _centred(level)
    moments = (centred.transpose(0, 2, 1) @ centred).astype(np.float64) / count
    diagonal = np.einsum("gkk->gk", moments)
    mean = diagonal.mean(axis=1, keepdims=True)
    damping = np.where(mean > 0, mean, 1.0) * max(DAMPING, DAMPING_FEW * columns / count)
    diagonal += damping
    if level is source:
        return Goal(weights, moments)
    cross = (_centred(source).transpose(0, 2, 1) @ centred).astype(np.float64) / count
    np.einsum("gkk->gk", cross)[...] += damping
    matched = np.linalg.solve(moments, (weights @ cross).transpose(0, 2, 1)).transpose(0, 2, 1)
    return Goal(weights + COMPENSATION * (matched - weights), moments)


def _centred(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    centred: NDArray[np.float32] = rows - rows.mean(axis=1, keepdims=True)
    return centred


@dataclass(frozen=True)
class _Grid:
    """What the codes of a level stand for: code * step + mid."""

    step: int
    mid: int

    def nearest(self, values: NDArray[Any]) -> NDArray[np.int64]:
        return np.floor((values - self.mid) / self.step + 0.5).astype(np.int64)

    def values(self, codes: NDArray[np.int64]) -> Matrix:
        return codes.astype(np.float64) * self.step + self.mid


def nested_codes(goals: Sequence[Goal], nesting: Nesting) -> list[NDArray[np.int64]]:
    """Signed codes of every level, nested, shaped like the targets.

    Args:
        goals: One per level.
        nesting: Chain, of scheme bucket.
    """
    codes: list[NDArray[np.int64]] = []
    below = 0
    for level, goal in zip(nesting.levels, goals, strict=True):
        growth = level - below
        lowest = codes[-1] << growth if codes else np.full(goal.target.shape, -(1 << (level - 1)))
        codes.append(second_order(goal, _grid(nesting, level), lowest, lowest + (1 << growth) - 1))
        below = level
    return _Sweeps(codes[-1], goals, nesting).run()


def _grid(nesting: Nesting, level: int) -> _Grid:
    return _Grid(1 << (MASTER_BITS - level), nesting.mid(level))


def second_order(
    goal: Goal, grid: _Grid, lowest: NDArray[np.int64], highest: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Round column after column, the strongest input first; the later ones make up for the earlier.

    Args:
        goal: Target and moments.
        grid: Of the level.
        lowest: Lowest code of each weight.
        highest: Highest code of each weight.

    Returns:
        Codes, shaped like the target.
    """
    order = np.argsort(-np.einsum("gkk->gk", goal.moments), axis=1, kind="stable")
    sorted_moments = np.take_along_axis(
        np.take_along_axis(goal.moments, order[:, :, None], axis=1), order[:, None, :], axis=2
    )
    # Row k of the upper factor of the inverse says how an error of column k is spread over the later columns.
    factor = np.linalg.cholesky(np.linalg.inv(sorted_moments)).transpose(0, 2, 1)
    spread = factor / np.einsum("gkk->gk", factor)[:, :, None]
    pick = order[:, None, :]
    left, low, high = (np.take_along_axis(item, pick, axis=2) for item in (goal.target, lowest, highest))
    codes = np.empty(left.shape, np.int64)
    columns = left.shape[2]
    for first in range(0, columns, BLOCK):
        last = min(first + BLOCK, columns)
        errors = np.empty((*left.shape[:2], last - first))
        for column in range(first, last):
            wanted = left[..., column]
            codes[..., column] = np.clip(grid.nearest(wanted), low[..., column], high[..., column])
            errors[..., column - first] = wanted - grid.values(codes[..., column])
            left[..., column + 1 : last] -= (
                errors[..., column - first, None] * spread[:, None, column, column + 1 : last]
            )
        left[..., last:] -= errors @ spread[:, first:last, last:]
    restored = np.empty_like(codes)
    np.put_along_axis(restored, np.broadcast_to(pick, codes.shape), codes, axis=2)
    return restored


class _Sweeps:
    """Coordinate descent: replace single codes where that lowers the sum of the costs of all levels.

    Args:
        codes: Codes of the highest level; those of the others are their upper bits.
        goals: One per level.
        nesting: Chain, of scheme bucket.
    """

    def __init__(self, codes: NDArray[np.int64], goals: Sequence[Goal], nesting: Nesting) -> None:
        self._codes, self._goals = codes.copy(), goals
        self._grids = [_grid(nesting, level) for level in nesting.levels]
        self._shifts = [nesting.levels[-1] - level for level in nesting.levels]
        self._limit = 1 << (nesting.levels[-1] - 1)
        self._gradients = [
            (grid.values(codes >> shift) - goal.target) @ goal.moments
            for grid, shift, goal in zip(self._grids, self._shifts, goals, strict=True)
        ]

    def run(self) -> list[NDArray[np.int64]]:
        """Codes of every level after all sweeps."""
        columns = self._codes.shape[2]
        for _ in range(SWEEPS):
            for first in range(0, columns, BLOCK):
                self._sweep_block(slice(first, min(first + BLOCK, columns)))
        return [self._codes >> shift for shift in self._shifts]

    def _sweep_block(self, block: slice) -> None:
        """Within the block gradients follow at once, elsewhere after it."""
        changes = np.zeros((len(self._goals), *self._codes.shape[:2], block.stop - block.start))
        for column in range(block.start, block.stop):
            for level, change in enumerate(self._move(column)):
                changes[level, ..., column - block.start] = change
                moments = self._goals[level].moments[:, None, column, block]
                self._gradients[level][..., block] += change[..., None] * moments
        for goal, gradient, change in zip(self._goals, self._gradients, changes, strict=True):
            for rest in (slice(0, block.start), slice(block.stop, None)):
                gradient[..., rest] += change @ goal.moments[:, block, rest]

    def _move(self, column: int) -> list[Matrix]:
        """Move the codes of a column to where the cost is least; returns the change of each level's weights."""
        now = self._codes[..., column, None]
        moved = np.clip(now + np.arange(-REACH, REACH + 1), -self._limit, self._limit - 1)
        cost = np.zeros(moved.shape)
        steps = []
        for grid, shift, goal, gradient in zip(
            self._grids, self._shifts, self._goals, self._gradients, strict=True
        ):
            step = grid.values(moved >> shift) - grid.values(now >> shift)
            curvature = goal.moments[:, column, column][:, None, None]
            cost += step * (step * curvature + 2 * gradient[..., column, None])
            steps.append(step)
        best = np.argmin(cost, axis=2)[..., None]
        self._codes[..., column] = np.take_along_axis(moved, best, axis=2)[..., 0]
        return [np.take_along_axis(step, best, axis=2)[..., 0] for step in steps]
