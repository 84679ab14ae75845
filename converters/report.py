"""What a conversion did to each filter: levels, reasons, errors, and which filters hurt most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from converters.fitting import FittedLevels
from converters.layer_errors import LayerErrors, hurting_most, measure_layer_errors, weight_errors
from converters.planning import PlannedFilter
from converters.recipe import Bias, Recipe
from tflnest.errors import UnsupportedError
from tflnest.graph import Graph
from tflnest.progress import Progress, silent


@dataclass(frozen=True)
class FilterReport:
    """What happened to one filter.

    Attributes:
        name: Name of the filter tensor.
        operator: Name of the operator.
        operators: Indices of the operators that use it.
        shape: Its shape.
        weights: Number of weights.
        levels: Own chain; empty where the filter stayed flat.
        scheme: Scheme; "" where the filter stayed flat.
        rounding: Rounding method; "" where the filter stayed flat.
        reason: The rule or obstacle that decided.
        errors: For each level of the model how far the filter's outputs are from the source's on the source's own
            inputs: root mean square error over their standard deviation. Where nothing could be run, the same of
            its weights, over their root mean square. Empty where the filter stayed flat.
        loss: Loss of the model with this filter alone at its lowest level: the mean squared error of the outputs over
            their variance, and for classifiers the Kullback-Leibler divergence of the class probabilities on top.
            None where nothing was run, or the filter stayed flat.
        hurts: Whether it is among the few filters that together make up half of all losses.
    """

    name: str
    operator: str
    operators: tuple[int, ...]
    shape: tuple[int, ...]
    weights: int
    levels: tuple[int, ...]
    scheme: str
    rounding: str
    reason: str
    errors: dict[int, float] = field(default_factory=dict)
    loss: float | None = None
    hurts: bool = False

    @property
    def cost(self) -> float:
        """What filters are ranked by: the loss, or where nothing was run the squared error at the lowest level."""
        return self.loss if self.loss is not None else next(iter(self.errors.values()), 0.0) ** 2

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return vars(self) | {
            "operators": list(self.operators),
            "shape": list(self.shape),
            "levels": list(self.levels),
            "errors": [{"level": level, "error": error} for level, error in self.errors.items()],
        }


def report_filters(
    graph: Graph,
    planned: Sequence[PlannedFilter],
    fitted: FittedLevels,
    recipe: Recipe,
    inputs: Sequence[NDArray[Any]],
    losses: Mapping[tuple[int, int], float],
    progress: Progress = silent,
) -> tuple[list[FilterReport], bool]:
    """Report every filter, with errors of its outputs where the model can be run, else of its weights.

    Args:
        graph: The int8 source.
        planned: All filters.
        fitted: What became of those that nest.
        recipe: What was asked for.
        inputs: Inputs to measure on, one array per input of the model; empty where there are none.
        losses: Losses that are known already, by (subgraph, tensor).
        progress: Told of every filter.

    Returns:
        One report per filter, in the order of `planned`, and whether the errors are of outputs.
    """
    errors = _errors(graph, fitted, recipe, inputs, losses, progress)
    worst = set(hurting_most(errors))
    used = {item.plan.key: item.plan for item in fitted.filters}
    reports = [
        _report(used.get(plan.key, plan), recipe, errors.get(plan.key), plan.key in worst) for plan in planned
    ]
    return reports, any(item.outputs for item in errors.values())


def _errors(
    graph: Graph,
    fitted: FittedLevels,
    recipe: Recipe,
    inputs: Sequence[NDArray[Any]],
    losses: Mapping[tuple[int, int], float],
    progress: Progress,
) -> dict[tuple[int, int], LayerErrors]:
    scales = {place: [level.scales for level in levels] for place, levels in fitted.parameters.items()}
    correct = recipe.bias is Bias.CORRECTED
    if inputs and fitted.filters:
        try:
            return measure_layer_errors(
                graph.main, fitted.filters, scales, inputs, correct=correct, losses=losses, progress=progress
            )
        except UnsupportedError:
            pass  # The fitting has met the same operator and told of it.
    return {item.plan.key: weight_errors(item) for item in fitted.filters}


def _report(plan: PlannedFilter, recipe: Recipe, errors: LayerErrors | None, hurts: bool) -> FilterReport:
    nesting = plan.nesting
    by_level: dict[int, float] = {}
    if nesting is not None and errors is not None:
        own = errors.outputs or errors.weights
        by_level = {
            level: own[position] for level, position in zip(recipe.levels, plan.model_levels, strict=True)
        }
    return FilterReport(
        name=plan.tensor.name,
        operator=plan.operator_name,
        operators=plan.operators,
        shape=plan.tensor.shape,
        weights=plan.tensor.size,
        levels=nesting.levels if nesting is not None else (),
        scheme=str(nesting.scheme) if nesting is not None else "",
        rounding=plan.rounding,
        reason=plan.reason,
        errors=by_level,
        loss=errors.loss if errors is not None else None,
        hurts=hurts,
    )


__all__ = ["FilterReport", "report_filters"]
