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

#: Share of the mean diagonal that is added to the second moments: keeps them regular, and weights near the source's.
DAMPING = 0.02

#: Damping where there are fewer than two rows per column: the moments are mostly noise there.
DAMPING_FEW = 0.3

#: Columns that are handled together; between blocks the rest follows by one matrix product.
BLOCK = 64

#: Columns of one system of equations. Wider filters are cut, so that time and memory stay linear in the width.
MAX_COLUMNS = 2048

#: Sweeps over all columns with all levels in view.
SWEEPS = 2

#: How far one sweep may move a full-bit code.
REACH = 32

ASYMMETRIC = True

Matrix = NDArray[np.float64]


@method("joint", Scheme.BUCKET, needs_data=True)
def joint(problem: Problem) -> list[NDArray[np.int8]]:
    """Codes of all levels by second-order rounding from data.

    The full-bit codes change: by less than what the base level gains, but they do.
    """
    assert problem.inputs is not None
    target = problem.target if problem.target is not None else problem.weights
    weights = by_group(target, problem.channel_axis, len(problem.inputs.source))
    columns = weights.shape[2]
    parts: list[list[NDArray[np.int64]]] = []
    for first in range(0, columns, MAX_COLUMNS):
        part = slice(first, first + MAX_COLUMNS)
        source = _centred(problem.inputs.source[..., part])
        levels = [_centred(rows[..., part]) for rows in problem.inputs.levels]
        parts.append(_Part(weights[..., part], source, levels, problem.nesting).codes())
    return [
        as_filter(np.concatenate(level, axis=2).astype(np.int8), problem.weights.shape, problem.channel_axis)
        for level in zip(*parts, strict=True)
    ]


def _centred(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows without their mean, which the bias takes care of."""
    centred: NDArray[np.float32] = rows - rows.mean(axis=1, keepdims=True, dtype=np.float64).astype(
        np.float32
    )
    return centred


@dataclass(frozen=True)
class _Goal:
    """What one level is to come close to: the cost of weights Q is the sum of (Q - target) H (Q - target)'.

    Attributes:
        target: (groups, channels, columns), in steps of the int8 weights.
        moments: Regular second moments H of the level's inputs, (groups, columns, columns).
    """

    target: Matrix
    moments: Matrix


def goal(weights: Matrix, source: NDArray[np.float32], level: NDArray[np.float32]) -> _Goal:
    """The target of a level: the weights that would give the source's outputs on the level's inputs.

    Args:
        weights: Of the source, (groups, channels, columns).
        source: Centred inputs of the source, (groups, rows, columns).
        level: The same of the level.
    """
    count, columns = level.shape[1:]
    few = count < 2 * columns
    moments = (level.transpose(0, 2, 1) @ level).astype(np.float64) / count
    diagonal = np.einsum("gkk->gk", moments)
    mean = diagonal.mean(axis=1, keepdims=True)
    floor = np.where(mean > 0, mean, 1.0) * (DAMPING_FEW if few else DAMPING)
    diagonal += floor
    if not ASYMMETRIC or few or level is source:
        return _Goal(weights, moments)
    cross = (source.transpose(0, 2, 1) @ level).astype(np.float64) / count
    np.einsum("gkk->gk", cross)[...] += floor
    target = np.linalg.solve(moments, (weights @ cross).transpose(0, 2, 1)).transpose(0, 2, 1)
    return _Goal(np.ascontiguousarray(target), moments)


class _Part:
    """All columns of a filter, or some thousand of them."""

    def __init__(
        self,
        weights: Matrix,
        source: NDArray[np.float32],
        levels: Sequence[NDArray[np.float32]],
        nesting: Nesting,
    ) -> None:
        self._nesting = nesting
        known: dict[int, _Goal] = {}
        self._goals = []
        for rows in levels:
            if id(rows) not in known:
                known[id(rows)] = goal(weights, source, rows)
            self._goals.append(known[id(rows)])

    def codes(self) -> list[NDArray[np.int64]]:
        """Signed codes of every level."""
        codes: list[NDArray[np.int64]] = []
        below = 0
        for level, target in zip(self._nesting.levels, self._goals, strict=True):
            growth = level - below
            shape = target.target.shape
            lowest = codes[-1] << growth if codes else np.full(shape, -(1 << (level - 1)))
            grid = _Grid(1 << (MASTER_BITS - level), self._nesting.mid(level))
            codes.append(second_order(target, grid, lowest, lowest + (1 << growth) - 1))
            below = level
        if SWEEPS:
            codes = sweep(codes, self._goals, self._nesting)
        return codes


@dataclass(frozen=True)
class _Grid:
    """What the codes of a level stand for: code * step + mid."""

    step: int
    mid: int

    def nearest(self, values: NDArray[Any]) -> NDArray[np.int64]:
        return np.floor((values - self.mid) / self.step + 0.5).astype(np.int64)

    def values(self, codes: NDArray[np.int64]) -> Matrix:
        return codes.astype(np.float64) * self.step + self.mid


def second_order(
    goal: _Goal, grid: _Grid, lowest: NDArray[np.int64], highest: NDArray[np.int64]
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


def sweep(
    codes: Sequence[NDArray[np.int64]], goals: Sequence[_Goal], nesting: Nesting
) -> list[NDArray[np.int64]]:
    """Replace single weights where that lowers the sum of the errors of all levels.

    Args:
        codes: Of every level, nested.
        goals: One per level.
        nesting: Chain, of scheme bucket.

    Returns:
        Codes of every level, nested.
    """
    top = codes[-1].copy()
    highest = nesting.levels[-1]
    shifts = [highest - level for level in nesting.levels]
    grids = [_Grid(1 << (MASTER_BITS - level), nesting.mid(level)) for level in nesting.levels]
    moves = np.arange(-REACH, REACH + 1)
    limit = 1 << (highest - 1)
    columns = top.shape[2]
    gradients = [
        (grid.values(top >> shift) - goal.target) @ goal.moments
        for grid, shift, goal in zip(grids, shifts, goals, strict=True)
    ]
    parts = list(zip(grids, shifts, goals, gradients, strict=True))
    for _ in range(SWEEPS):
        for first in range(0, columns, BLOCK):
            last = min(first + BLOCK, columns)
            changes = [np.zeros((*top.shape[:2], last - first)) for _ in parts]
            for column in range(first, last):
                now = top[..., column, None]
                moved = np.clip(now + moves, -limit, limit - 1)
                cost = np.zeros(moved.shape)
                steps = []
                for grid, shift, goal, gradient in parts:
                    step = grid.values(moved >> shift) - grid.values(now >> shift)
                    curvature = goal.moments[:, column, column][:, None, None]
                    cost += step * (step * curvature + 2 * gradient[..., column, None])
                    steps.append(step)
                best = np.argmin(cost, axis=2)[..., None]
                top[..., column] = np.take_along_axis(moved, best, axis=2)[..., 0]
                for (_, _, goal, gradient), step, change in zip(parts, steps, changes, strict=True):
                    taken = np.take_along_axis(step, best, axis=2)
                    change[..., column - first] = taken[..., 0]
                    gradient[..., first:last] += taken * goal.moments[:, None, column, first:last]
            for (_, _, goal, gradient), change in zip(parts, changes, strict=True):
                gradient[..., :first] += change @ goal.moments[:, first:last, :first]
                gradient[..., last:] += change @ goal.moments[:, first:last, last:]
    return [top >> shift for shift in shifts]
