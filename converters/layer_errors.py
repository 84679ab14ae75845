"""What each level does to each layer, for the report: the error of its own output, and what that costs the model.

A layer is judged by itself: it gets the inputs that it has in the source, so that an error stands where it
arises. What it costs is the loss of the whole model with this layer alone at its lowest level: a large error of a
late layer can cost less than a small one of an early layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.planning import RoundedFilter
from converters.sensitivity import Scan
from tflnest.graph import Subgraph
from tflnest.progress import Progress, silent

#: Samples that are enough to find the worst layers.
MAX_SAMPLES = 8

#: The layers that hurt most are those that together make up this part of all the losses.
LARGEST_PART = 0.5

#: Rounding to an integer has this variance, in squared steps.
ROUNDING_VARIANCE = 1 / 12


@dataclass(frozen=True)
class LayerErrors:
    """What the levels of one filter do.

    Attributes:
        outputs: For each own level the root mean square error of the outputs on the source's inputs, relative to
            their standard deviation; of several operators the worst. Empty where nothing was run.
        weights: For each own level the same of the weights, relative to their root mean square.
        loss: Loss of the model with this filter alone at its lowest level, see `sensitivity.ranking_loss`; None
            where nothing was run.
    """

    outputs: tuple[float, ...]
    weights: tuple[float, ...]
    loss: float | None = field(default=None)


def weight_errors(rounded: RoundedFilter) -> LayerErrors:
    """Errors of the weights alone."""
    full = rounded.plan.tensor.data
    assert full is not None
    source = full.astype(np.float64)
    power = max(float(np.mean(source**2)), ROUNDING_VARIANCE)
    errors = [float(np.sqrt(np.mean((level - source) ** 2) / power)) for level in rounded.levels]
    return LayerErrors((), tuple(errors))


def measure_layer_errors(
    subgraph: Subgraph,
    filters: Sequence[RoundedFilter],
    scales: Mapping[tuple[int, int], Sequence[NDArray[np.float32] | None]],
    inputs: Sequence[NDArray[Any]],
    *,
    correct: bool = True,
    losses: Mapping[tuple[int, int], float] | None = None,
    progress: Progress = silent,
) -> dict[tuple[int, int], LayerErrors]:
    """Measure every nested filter at every level of its own.

    Args:
        subgraph: Main subgraph of the int8 source.
        filters: All filters that nest; those of other subgraphs have errors of their weights alone.
        scales: Filter scales of every own level by (subgraph, operator); None stands for the source's.
        inputs: One array per input, samples first; the first `MAX_SAMPLES` are used.
        correct: Whether biases make up for the shift of the mean.
        losses: Losses that are known already, by (subgraph, tensor).
        progress: Told of every filter.

    Returns:
        By (subgraph, tensor) of the filter.

    Raises:
        UnsupportedError: The model has an operator that the reference kernels do not have.
    """
    scan = Scan(subgraph, [array[:MAX_SAMPLES] for array in inputs])
    known, errors = losses or {}, {}
    for number, rounded in enumerate(filters):
        progress("measuring errors", number, len(filters))
        plan, found = rounded.plan, weight_errors(rounded)
        if plan.subgraph == subgraph.index:
            own = [scales[subgraph.index, index] for index in plan.operators]
            loss = known.get(plan.key)
            if loss is None:
                loss = scan.loss_of(scan.follow(plan, rounded.levels[0], own[0][0], correct))
            outputs = _output_errors(scan, subgraph, rounded, own, correct)
            found = LayerErrors(outputs, found.weights, loss)
        errors[plan.key] = found
    progress("measuring errors", len(filters), len(filters))
    return errors


def _output_errors(
    scan: Scan,
    subgraph: Subgraph,
    rounded: RoundedFilter,
    scales: Sequence[Sequence[NDArray[np.float32] | None]],
    correct: bool,
) -> tuple[float, ...]:
    """Of every own level the worst operator's."""
    worst = []
    for position, weights in enumerate(rounded.levels):
        found = []
        for index, own in zip(rounded.plan.operators, scales, strict=True):
            operator = subgraph.operators[index]
            values = scan.alone(operator, weights, own[position], correct)
            found.append(_relative(scan.source[operator.outputs[0]], values))
        worst.append(max(found))
    return tuple(worst)


def _relative(source: NDArray[Any], values: NDArray[Any]) -> float:
    """Root mean square difference over the source's standard deviation."""
    difference = values.astype(np.float64) - source
    spread = max(float(source.astype(np.float64).var()), ROUNDING_VARIANCE)
    return float(np.sqrt(np.mean(difference**2) / spread))


def hurting_most(errors: Mapping[tuple[int, int], LayerErrors]) -> list[tuple[int, int]]:
    """The filters that together make up most of what the lowest level costs, the worst first.

    Args:
        errors: By filter. Losses decide where they were measured, else the squared errors of the weights.

    Returns:
        The fewest filters that make up `LARGEST_PART` of the sum; none where nothing is lost.
    """
    costs = {key: item.weights[0] ** 2 if item.loss is None else item.loss for key, item in errors.items()}
    total, part = sum(costs.values()), 0.0
    worst = []
    for key in sorted(costs, key=lambda item: -costs[item]):
        if part >= LARGEST_PART * total:
            break
        worst.append(key)
        part += costs[key]
    return worst


__all__ = ["LayerErrors", "hurting_most", "measure_layer_errors", "weight_errors"]
