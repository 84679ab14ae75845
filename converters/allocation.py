"""Which width each filter gets at each level, under budgets.

A budget counts the bits of all filters at a level, flat ones at 8 bits. Bits go one by one to the filter where
one more bit saves the most loss for its size; since losses fall ever more slowly with the width, that is the
most accurate assignment within the budget, up to the last filter that no longer fits.

The lowest level has the recipe's budget. A level between it and the full-bit one has its own name: level 6 takes
6 bits per weight on average. It starts from the widths of the level below, so that what is resident stays in use.
Where dense filters do much of the work, they are mixed at the lowest level alone.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from converters.planning import PlannedFilter
from converters.recipe import Recipe
from converters.sensitivity import MEASURED_WIDTHS, Sensitivity, measure_sensitivities
from tflnest.errors import UsageError
from tflnest.graph import Subgraph
from tflnest.nesting import MASTER_BITS
from tflnest.progress import Progress, silent
from tflnest.widths import weighted_operators

#: Widths from here up are measured whether or not a filter may have them: three points draw the curve.
LEAST_MEASURED = 3

#: Share of a model's multiply-accumulates from which on its dense filters are mixed at the lowest level alone.
DENSE_SHARE = 0.1


@dataclass(frozen=True)
class MixedWidths:
    """Filters with the widths that they got, and why.

    Attributes:
        filters: All filters of the model.
        losses: Loss of the model with one filter alone at its base width, by (subgraph, tensor) of the filters that
            could get another one.
    """

    filters: list[PlannedFilter]
    losses: dict[tuple[int, int], float] = field(default_factory=dict)


def mix_widths(
    subgraph: Subgraph,
    planned: Sequence[PlannedFilter],
    recipe: Recipe,
    inputs: Sequence[NDArray[Any]],
    progress: Progress = silent,
) -> MixedWidths:
    """Give the filters of the main subgraph the widths that serve the model best within the budget of each level.

    Args:
        subgraph: Main subgraph of the int8 model.
        planned: All filters of the model.
        recipe: Its budget, or that of a uniform base where it has none.
        inputs: Calibration inputs, one array per input of the model.
        progress: Told of every filter.

    Returns:
        The same filters; those that are `adjustable` with new chains.

    Raises:
        UsageError: The budget can't be met; the message says the smallest that can.
        UnsupportedError: The model has an operator that the reference kernels do not have.
    """
    chosen = [
        plan
        for plan in planned
        if plan.adjustable and plan.nesting is not None and plan.subgraph == subgraph.index
    ]
    if not chosen:
        return MixedWidths(list(planned))
    lowest = max(1, recipe.levels[0] - 1)
    budget = _budget_bits(planned, chosen, recipe, lowest)
    widths_asked = [width for width in MEASURED_WIDTHS if width >= min(lowest, LEAST_MEASURED)]
    sensitivities = measure_sensitivities(subgraph, chosen, inputs, widths_asked, progress)
    dense = _dense_that_count(subgraph, sensitivities)
    highest = recipe.levels[-1]
    widths = allocate_widths(sensitivities, budget, dict.fromkeys(map(_key, sensitivities), lowest), highest)
    by_level = [widths]
    for position, level in enumerate(recipe.levels[1:-1], 1):
        named = level * sum(plan.tensor.size for plan in planned) - _fixed_bits(planned, chosen, position)
        by_level.append(_allocate_between(sensitivities, named, by_level[-1], level, highest, dense))
    if len(recipe.levels) > 1:
        by_level.append(dict.fromkeys(widths, highest))
    filters = [
        plan.with_widths([level[plan.key] for level in by_level]) if plan.key in widths else plan
        for plan in planned
    ]
    return MixedWidths(filters, {_key(item): item.losses[widths[_key(item)]] for item in sensitivities})


def _dense_that_count(subgraph: Subgraph, sensitivities: Sequence[Sensitivity]) -> frozenset[tuple[int, int]]:
    """Dense filters of a model in which dense layers do much of the work, by (subgraph, tensor)."""
    work = {item.index: item.macs for item in weighted_operators(subgraph)}
    dense = [item for item in sensitivities if item.plan.operator_name == "FULLY_CONNECTED"]
    own = sum(work[index] for item in dense for index in item.plan.operators)
    return frozenset(map(_key, dense)) if own >= DENSE_SHARE * sum(work.values()) else frozenset()


def _allocate_between(
    sensitivities: Sequence[Sensitivity],
    budget_bits: int,
    below: Mapping[tuple[int, int], int],
    level: int,
    highest: int,
    dense: frozenset[tuple[int, int]],
) -> dict[tuple[int, int], int]:
    """Widths at a level between the lowest and the full-bit one.

    Filters in `dense` have the level's own width: each of their weights is used once per inference, so that
    decoding counts, and the device multiplies rows of the chains 3,6,8, 4,6,8 and 5,6,8 as they are packed.
    """
    kept = {key: max(level, below[key]) for key in dense}
    others = [item for item in sensitivities if _key(item) not in kept]
    spent = sum(item.weights * kept[_key(item)] for item in sensitivities if _key(item) in kept)
    return kept | allocate_widths(others, budget_bits - spent, below, highest)


def _budget_bits(
    planned: Sequence[PlannedFilter], chosen: Sequence[PlannedFilter], recipe: Recipe, lowest: int
) -> int:
    """Bits that the chosen filters may take together at the lowest level."""
    weights = sum(plan.tensor.size for plan in chosen)
    if recipe.base_bits is None and recipe.base_bytes is None:
        return weights * recipe.levels[0]
    total = sum(plan.tensor.size for plan in planned)
    fixed = _fixed_bits(planned, chosen, 0)
    budget = int(recipe.base_bits * total) if recipe.base_bits is not None else 8 * (recipe.base_bytes or 0)
    smallest = fixed + weights * lowest
    if budget < smallest:
        asked = (
            f"{recipe.base_bits:g} bits per weight"
            if recipe.base_bits is not None
            else f"{recipe.base_bytes:,} bytes"
        )
        raise UsageError(
            f"a base of {asked} can't be had: with {lowest} bits for every filter that nests it takes "
            f"{smallest / total:.2f} bits per weight, {-(-smallest // 8):,} bytes",
            "raise the budget, start the chain of levels lower, or let more filters nest (--recipe uniform)",
        )
    return budget - fixed


def _fixed_bits(planned: Sequence[PlannedFilter], chosen: Sequence[PlannedFilter], position: int) -> int:
    """Bits that the filters which were not chosen take at a level of the model, by its position."""
    bits = 0
    for plan in planned:
        if plan not in chosen:
            own = plan.nesting.levels[plan.model_levels[position]] if plan.nesting is not None else 0
            stored = MASTER_BITS if plan.nesting is None else plan.nesting.stored_bits(own)
            bits += stored * plan.tensor.size
    return bits


def allocate_widths(
    sensitivities: Sequence[Sensitivity],
    budget_bits: int,
    lowest: Mapping[tuple[int, int], int],
    highest: int = MASTER_BITS,
) -> dict[tuple[int, int], int]:
    """Widths of filters at one level.

    Args:
        sensitivities: The filters that nest.
        budget_bits: Bits that all of them together may take; where it is less than the lowest widths take, those.
        lowest: No filter gets fewer bits than this, by (subgraph, tensor).
        highest: No filter gets more bits.

    Returns:
        Width by (subgraph, tensor) of the filter.
    """
    widths = {_key(item): lowest[_key(item)] for item in sensitivities}
    left = budget_bits - sum(item.weights * widths[_key(item)] for item in sensitivities)
    queue = [
        (-_gain(item, widths[_key(item)]), number)
        for number, item in enumerate(sensitivities)
        if widths[_key(item)] < highest
    ]
    heapq.heapify(queue)
    while queue:
        _, number = heapq.heappop(queue)
        item = sensitivities[number]
        if item.weights > left:
            continue
        left -= item.weights
        width = widths[_key(item)] = widths[_key(item)] + 1
        if width < highest:
            heapq.heappush(queue, (-_gain(item, width), number))
    return widths


def _key(item: Sensitivity) -> tuple[int, int]:
    return item.plan.key


def _gain(item: Sensitivity, width: int) -> float:
    """Loss that one more bit saves, per bit of the file.

    Where a later bit saves more than this one, the two count together: a filter may have to cross a plateau.
    """
    best = 0.0
    for target in range(width + 1, MASTER_BITS + 1):
        saved = item.losses[width] - item.losses[target]
        best = max(best, saved / ((target - width) * item.weights))
    return best
