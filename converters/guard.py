"""Score levels on samples that they were not fitted to, and give up codes that do harm there.

Codes that are chosen by data can fail as a whole though every layer looked good: a level collapses. The safe
codes are those of truncation, which change nothing at the full bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.fitting import WITHOUT_DATA, FittedLevels, fit_levels
from converters.planning import PlannedFilter
from converters.recipe import Recipe
from converters.rounding import needs_data
from converters.sensitivity import loss_tensor, output_loss
from converters.streams import Stream, drop_finished, evaluate, last_uses, level_node, same_inputs
from tflnest.graph import Graph, Subgraph
from tflnest.kernels import prepare
from tflnest.progress import Progress, silent

#: One of so many samples is held back.
HELD_BACK = 4

#: Fewer samples than this are all used, and nothing is checked.
MIN_SAMPLES = 16

#: A level has collapsed where its loss is more than so many times what it may be.
TOLERANCE = 1.25


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
    """Fit levels to most of the samples, score them on the others, and truncate where a level collapses.

    A level may not be clearly worse than the same level of truncated codes, or, above the base, than the next
    lower level of truncated codes: the full-bit level of those is the source itself.

    Args:
        graph: The int8 source.
        planned: All filters.
        recipe: Its levels and its scale.
        inputs: One array per graph input, samples first.
        seed: See `fit_levels`.
        targets: See `fit_levels`.
        notes: What the user should know is appended.
        progress: Told of every operator.

    Raises:
        FormatError: An operator reads what nobody wrote.
        UnsupportedError: The model has an operator that the reference kernels do not have.
    """
    notes = [] if notes is None else notes
    levels = len(recipe.levels)

    def fit(plans: Sequence[PlannedFilter], samples: Sequence[NDArray[Any]]) -> FittedLevels:
        return fit_levels(
            graph, plans, levels, samples, scale=recipe.scale, seed=seed, targets=targets, progress=progress
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
    truncated = [
        replace(plan, rounding=WITHOUT_DATA) if needs_data(plan.rounding) else plan for plan in planned
    ]
    fitted = fit(planned, fitted_to)
    losses = level_losses(graph.main, fitted, levels, held_back)
    safe = level_losses(graph.main, fit(truncated, fitted_to), levels, held_back)
    collapsed = collapsed_levels(losses, safe)
    if not collapsed:
        return fitted
    for position in collapsed:
        notes.append(
            f"level {recipe.levels[position]}: the loss on {int(held.sum())} held-back samples is {losses[position]:.4g} with "
            f"{recipe.rounding} rounding, {safe[position]:.4g} with truncation"
        )
    notes.append("all filters were truncated instead, because levels collapsed")
    return fit(truncated, inputs)


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
