"""Score levels on samples that they were not fitted to, and repair those that collapse there.

Codes that are chosen by data can fail as a whole though every layer looked good: a level collapses. The safe
codes are those of truncation, which change nothing at the full bits. A repair gives up as little as it can: first
the codes of filters whose own outputs are worse than with safe codes, and only then all codes.

The same samples decide whether codes make up for what the levels of earlier operators did to the inputs, or go by
the source's inputs. The first is better at few bits; with few samples it fits what is noise, operator after operator,
and the second is taken where it is clearly better.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.engine import prepare
from converters.fitting import WITHOUT_DATA, FittedLevels, fit_levels
from converters.layer_errors import measure_layer_errors
from converters.planning import PlannedFilter
from converters.recipe import Recipe
from converters.rounding import needs_data
from converters.sensitivity import loss_tensor, output_loss
from converters.streams import Stream, drop_finished, evaluate, last_uses, level_node, same_inputs
from tflnest.graph import Graph, Subgraph
from tflnest.progress import Progress, silent

#: One array per input of a graph, samples first.
Inputs = Sequence[NDArray[Any]]

#: One of so many samples is held back.
HELD_BACK = 4

#: Fewer samples than this are all used, and nothing is checked.
MIN_SAMPLES = 16

#: A level has collapsed where its loss is more than so many times what it may be. Losses of a few held-back samples
#: scatter, and any change at all costs some; a collapse costs many times more.
TOLERANCE = 2.0

#: Codes chosen on the source's inputs are kept where their loss is below this share of the other way's.
CLEARLY_BETTER = 0.85

#: So many filters are repaired one by one: each takes a fit of its own.
MAX_REPAIRS = 4


def fit_guarded(
    graph: Graph,
    planned: Sequence[PlannedFilter],
    recipe: Recipe,
    inputs: Sequence[NDArray[Any]],
    *,
    seed: int = 0,
    targets: Mapping[str, NDArray[np.float64]] | None = None,
    notes: list[str] | None = None,
    progress: Progress = silent,
) -> FittedLevels:
    """Fit levels to most of the samples, score them on the others, and repair what collapses.

    Data-driven codes are chosen both ways, on the inputs of each level and on those of the source; the second way is
    kept where its loss over all levels is clearly smaller.

    A level may not be clearly worse than the same level of truncated codes, or, above the base, than the next
    lower level of truncated codes: the full-bit level of those is the source itself.

    Args:
        graph: The int8 source.
        planned: All filters.
        recipe: Its levels and its scale.
        inputs: One array per graph input, samples first.
        seed: See `fit_levels`.
        targets: See `fit_levels`.
        notes: What the user should know is appended: which level collapsed, and what was done.
        progress: Told of every operator.

    Raises:
        FormatError: An operator reads what nobody wrote.
        UnsupportedError: The model has an operator that the reference kernels do not have.
    """
    notes = [] if notes is None else notes

    def fit(plans: Sequence[PlannedFilter], samples: Inputs, sequential: bool = True) -> FittedLevels:
        return fit_levels(
            graph,
            plans,
            len(recipe.levels),
            samples,
            scale=recipe.scale,
            seed=seed,
            targets=targets,
            sequential=sequential,
            progress=progress,
        )

    count = len(inputs[0])
    if not any(needs_data(plan.rounding) for plan in planned):
        return fit(planned, inputs)
    if count < MIN_SAMPLES:
        notes.append(
            f"levels were not checked on samples of their own: {count} samples are too few to hold some back"
        )
        return fit(planned, inputs)
    held = np.arange(count) % HELD_BACK == HELD_BACK - 1
    fitted_to, held_back = [array[~held] for array in inputs], [array[held] for array in inputs]
    truncated = _truncated(planned, {plan.key for plan in planned})
    safe = fit(truncated, fitted_to)
    court = _Court(graph.main, recipe, held_back, safe, notes)
    ways = [partial(fit, samples=fitted_to, sequential=sequential) for sequential in (True, False)]
    candidates = [way(planned) for way in ways]
    followed, alone = (sum(court.losses(candidate)) for candidate in candidates)
    chosen = int(alone < CLEARLY_BETTER * followed)
    fitted, way = candidates[chosen], ways[chosen]
    if court.accepts(fitted, f"{recipe.rounding} rounding"):
        return fitted
    repaired = _repaired(fitted, planned, way, court)
    if repaired is not None:
        return repaired
    notes.append("all filters were truncated instead, because levels collapsed")
    return fit(truncated, inputs)


def _repaired(
    fitted: FittedLevels, planned: Sequence[PlannedFilter], fit: Callable[..., FittedLevels], court: _Court
) -> FittedLevels | None:
    """Levels that do not collapse, with as few codes given up as that takes; None where nothing helps."""
    blamed: set[tuple[int, int]] = set()
    for _ in range(MAX_REPAIRS):
        culprit = next(iter(worse_alone(court.subgraph, fitted, court.safe, court.held_back)), None)
        if culprit is None:
            break
        court.notes.append(f"{culprit.described()}: it was truncated")
        blamed.add(culprit.plan.key)
        fitted = fit(_truncated(planned, blamed))
        if court.accepts(fitted, "the other filters rounded again"):
            return fitted
    return None


def _truncated(planned: Sequence[PlannedFilter], chosen: set[tuple[int, int]]) -> list[PlannedFilter]:
    """The plans, without data-driven codes for some filters."""
    return [
        replace(plan, rounding=WITHOUT_DATA) if plan.key in chosen and needs_data(plan.rounding) else plan
        for plan in planned
    ]


class _Court:
    """Judges levels by samples that they were not fitted to.

    Args:
        subgraph: Main subgraph of the int8 source.
        recipe: Names the levels.
        held_back: One array per graph input.
        safe: Levels with truncated codes.
        notes: What collapses is appended.
    """

    def __init__(
        self, subgraph: Subgraph, recipe: Recipe, held_back: Inputs, safe: FittedLevels, notes: list[str]
    ) -> None:
        self.subgraph, self.held_back, self.safe, self.notes = subgraph, held_back, safe, notes
        self._levels = recipe.levels
        self._limits = self.losses(safe)

    def losses(self, fitted: FittedLevels) -> list[float]:
        """Losses of all levels on the samples that are held back."""
        return level_losses(self.subgraph, fitted, len(self._levels), self.held_back)

    def accepts(self, fitted: FittedLevels, what: str) -> bool:
        """Whether no level collapses; notes say which ones do."""
        losses = self.losses(fitted)
        collapsed = collapsed_levels(losses, self._limits)
        for position in collapsed:
            self.notes.append(
                f"level {self._levels[position]}: the loss on {len(self.held_back[0])} held-back samples is "
                f"{losses[position]:.4g} with {what}, {self._limits[position]:.4g} with truncation"
            )
        return not collapsed


@dataclass(frozen=True)
class Culprit:
    """A filter whose own outputs are clearly worse than with safe codes.

    Attributes:
        plan: The filter.
        operator: Index of the first operator that uses it.
        level: The own level that is worst compared with what it may be.
        error: Root mean square error of the outputs there, over their standard deviation.
        safe: The same with safe codes.
    """

    plan: PlannedFilter
    operator: int
    level: int
    error: float
    safe: float

    def described(self) -> str:
        """For notes."""
        return (
            f"operator {self.operator} ({self.plan.operator_name}, filter {self.plan.tensor.name!r}): its outputs are off by "
            f"{100 * self.error:.3g} % at {self.level} bits, with truncation by {100 * self.safe:.3g} %"
        )


def worse_alone(
    subgraph: Subgraph, fitted: FittedLevels, safe: FittedLevels, inputs: Sequence[NDArray[Any]]
) -> list[Culprit]:
    """Filters that are to blame by themselves: on the source's own inputs, every other filter untouched.

    The first one comes first; those after it may only make up for what it did.

    Args:
        subgraph: Main subgraph of the int8 source.
        fitted: Levels with codes that were chosen by data.
        safe: Levels with truncated codes, of the same filters.
        inputs: One array per graph input, samples first.
    """
    found = []
    errors = [
        measure_layer_errors(
            subgraph,
            levels.filters,
            {place: [level.scales for level in own] for place, own in levels.parameters.items()},
            inputs,
            losses={item.plan.key: 0.0 for item in levels.filters},
        )
        for levels in (fitted, safe)
    ]
    for item in fitted.filters:
        ours, theirs = (measured[item.plan.key].outputs for measured in errors)
        if not ours or not needs_data(item.plan.rounding) or item.plan.nesting is None:
            continue
        worse = collapsed_levels([error**2 for error in ours], [error**2 for error in theirs])
        if worse:
            worst = max(worse, key=lambda own: ours[own] / max(theirs[own], theirs[max(own - 1, 0)], 1e-12))
            level = item.plan.nesting.levels[worst]
            found.append(Culprit(item.plan, item.plan.operators[0], level, ours[worst], theirs[worst]))
    return sorted(found, key=lambda culprit: culprit.operator)


def collapsed_levels(losses: Sequence[float], safe: Sequence[float]) -> list[int]:
    """Positions of the levels that are clearly worse than they may be.

    Args:
        losses: Of every level, lowest first.
        safe: The same of truncated codes.
    """
    allowed = [max(pair) for pair in zip(safe, (0.0, *safe), strict=False)]
    return [
        position
        for position, (loss, limit) in enumerate(zip(losses, allowed, strict=True))
        if not loss <= TOLERANCE * limit
    ]


def level_outputs(
    subgraph: Subgraph, fitted: FittedLevels, levels: int, inputs: Sequence[NDArray[Any]]
) -> list[NDArray[Any]]:
    """What the source and every level give, where the loss is measured.

    Args:
        subgraph: Main subgraph of the int8 source.
        fitted: What its levels consist of.
        levels: Number of levels of the model.
        inputs: One array per graph input, samples first.

    Returns:
        The outputs of the source, then of every level of the model, samples first.
    """
    users = {index: item for item in fitted.filters for index in item.plan.operators}
    watched = frozenset({loss_tensor(subgraph).index})
    source: Stream = dict(zip(subgraph.inputs, inputs, strict=True))
    streams: list[Stream] = [dict(source) for _ in range(levels)]
    last_use = last_uses(subgraph)
    for operator in subgraph.operators:
        kernel = prepare(level_node(subgraph, operator))
        evaluate(subgraph, operator, kernel, source)
        rounded = users.get(operator.index)
        for number, stream in enumerate(streams):
            if rounded is not None and rounded.plan.subgraph == subgraph.index:
                own = rounded.plan.model_levels[number]
                level = fitted.parameters[subgraph.index, operator.index][own]
                level_kernel = prepare(
                    level_node(subgraph, operator, rounded.levels[own], level.bias, level.scales)
                )
                evaluate(subgraph, operator, level_kernel, stream)
            elif same_inputs(operator, source, stream):
                stream.update({index: source[index] for index in operator.outputs})
            else:
                evaluate(subgraph, operator, kernel, stream)
        for stream in (source, *streams):
            drop_finished(stream, last_use, operator, watched)
    (index,) = watched
    return [stream[index] for stream in (source, *streams)]


def level_losses(
    subgraph: Subgraph, fitted: FittedLevels, levels: int, inputs: Sequence[NDArray[Any]]
) -> list[float]:
    """How far every level is from the source; see `output_loss`."""
    source, *outputs = level_outputs(subgraph, fitted, levels, inputs)
    return [output_loss(subgraph, loss_tensor(subgraph), source, values) for values in outputs]
