"""Fit the levels of a model to what they will see: codes, biases and scales, operator by operator.

The source and all levels of the model run side by side through the graph, each on its own activations. At every
nested operator the codes of its levels are chosen, where the rounding method looks at data, then the bias and
the scale of each level; then the operator runs at every level, and the walk goes on. So each operator also makes
up for what the levels of earlier ones did. Time and memory grow linearly with operators and samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.correction import corrected_bias, fitted_scales, mean_accumulator
from converters.engine import prepare
from converters.parameters import LevelParameters, Parameters, source_parameters
from converters.patches import PatchSampler
from converters.planning import PlannedFilter, RoundedFilter, round_filter, source_bias
from converters.recipe import Scale
from converters.rounding import LevelInputs, needs_data
from converters.streams import (
    Stream,
    check_runnable,
    drop_finished,
    evaluate,
    last_uses,
    level_node,
    same_inputs,
)
from tflnest.graph import Graph, Operator, Subgraph, Tensor
from tflnest.progress import Progress, silent

#: The rounding method of filters that no data reaches.
WITHOUT_DATA = "truncate"


@dataclass(frozen=True)
class FittedLevels:
    """What the levels of a model consist of.

    Attributes:
        filters: All filters that nest, in file order.
        parameters: Bias and scales of every own level of every nested operator.
    """

    filters: list[RoundedFilter]
    parameters: Parameters


def fit_levels(
    graph: Graph,
    planned: Sequence[PlannedFilter],
    levels: int,
    inputs: Sequence[NDArray[Any]],
    *,
    scale: Scale = Scale.SOURCE,
    seed: int = 0,
    targets: Mapping[str, NDArray[np.float64]] | None = None,
    sequential: bool = True,
    progress: Progress = silent,
) -> FittedLevels:
    """Codes, biases and scales of every own level of every nested operator of the main subgraph.

    Filters of other subgraphs are rounded without data, and keep the source's biases and scales.

    Args:
        graph: The int8 source.
        planned: All filters.
        levels: Number of levels of the model.
        inputs: One array per graph input, (samples, ...), of the input's dtype.
        scale: Where the scales of the levels come from.
        seed: For what is drawn at random.
        targets: Weights that rounding is to come close to, by name of the filter, in steps of the int8 ones; a
            filter that is not named has its int8 weights as target. Truncation and the peers' methods go by the
            int8 weights alone.
        sequential: Whether codes are chosen on the inputs that each level has after what earlier operators did
            to them; otherwise on the source's. Biases and scales always go by the inputs of the level.
        progress: Told of every operator.

    Returns:
        Where an own level serves several levels of the model the lowest of them decides. A level whose weights
        equal the source's keeps the source's bias and scales.

    Raises:
        FormatError: An operator reads what nobody wrote.
        UnsupportedError: The model has an operator that the reference kernels do not have.
    """
    walk = _Walk(graph.main, levels, scale, seed, targets or {}, sequential)
    for plan in planned:
        if plan.nesting is None:
            continue
        if needs_data(plan.rounding) and plan.subgraph == graph.main.index:
            walk.add(plan)
        else:
            method = WITHOUT_DATA if needs_data(plan.rounding) else None
            target = (targets or {}).get(plan.tensor.name)
            walk.add(round_filter(plan, seed, target=target, method=method))
    return walk.run(graph, inputs, progress)


def fit_parameters(
    graph: Graph,
    filters: Sequence[RoundedFilter],
    levels: int,
    inputs: Sequence[NDArray[Any]],
    *,
    scale: Scale = Scale.SOURCE,
    seed: int = 0,
    progress: Progress = silent,
) -> Parameters:
    """Only biases and scales, for filters that are rounded already; see `fit_levels`."""
    walk = _Walk(graph.main, levels, scale, seed, {})
    for rounded in filters:
        walk.add(rounded)
    return walk.run(graph, inputs, progress).parameters


class _Walk:
    """One pass through the graph with the source and all levels side by side."""

    def __init__(
        self,
        subgraph: Subgraph,
        levels: int,
        scale: Scale,
        seed: int,
        targets: Mapping[str, NDArray[np.float64]],
        sequential: bool = True,
    ) -> None:
        check_runnable(subgraph)
        self._subgraph, self._levels, self._scale = subgraph, levels, scale
        self._seed, self._targets, self._sequential = seed, targets, sequential
        self._filters: list[PlannedFilter | RoundedFilter] = []
        self._user: dict[int, int] = {}
        self._fitted: dict[int, list[LevelParameters]] = {}

    def add(self, item: PlannedFilter | RoundedFilter) -> None:
        """A filter that nests: rounded, or to be rounded on the way."""
        plan = item.plan if isinstance(item, RoundedFilter) else item
        if plan.subgraph == self._subgraph.index:
            self._user.update(dict.fromkeys(plan.operators, len(self._filters)))
        self._filters.append(item)

    def run(self, graph: Graph, inputs: Sequence[NDArray[Any]], progress: Progress) -> FittedLevels:
        """Walk the operators in order."""
        subgraph = self._subgraph
        source: Stream = dict(zip(subgraph.inputs, inputs, strict=True))
        streams: list[Stream] = [dict(source) for _ in range(self._levels)]
        last_use = last_uses(subgraph)
        for operator in subgraph.operators:
            progress("fitting levels", operator.index, len(subgraph.operators))
            if operator.index in self._user:
                self._fit(operator, source, streams)
            else:
                self._pass_on(operator, source, streams)
            for stream in (source, *streams):
                drop_finished(stream, last_use, operator)
        progress("fitting levels", len(subgraph.operators), len(subgraph.operators))
        filters = [item for item in self._filters if isinstance(item, RoundedFilter)]
        parameters = source_parameters(graph, filters)
        parameters.update({(subgraph.index, index): levels for index, levels in self._fitted.items()})
        return FittedLevels(filters, parameters)

    def _pass_on(self, operator: Operator, source: Stream, streams: Sequence[Stream]) -> None:
        """Run an operator that is the same at all levels; a stream that has not left the source shares its result."""
        kernel = prepare(level_node(self._subgraph, operator))
        evaluate(self._subgraph, operator, kernel, source)
        for stream in streams:
            if same_inputs(operator, source, stream):
                stream.update({index: source[index] for index in operator.outputs})
            else:
                evaluate(self._subgraph, operator, kernel, stream)

    def _fit(self, operator: Operator, source: Stream, streams: Sequence[Stream]) -> None:
        number = self._user[operator.index]
        item = self._filters[number]
        plan = item.plan if isinstance(item, RoundedFilter) else item
        index = operator.inputs[0]
        first_stream = [streams[plan.model_levels.index(own)] for own in range(len(set(plan.model_levels)))]
        values = [stream[index] for stream in first_stream]
        patches = None
        if not isinstance(item, RoundedFilter) or self._scale is Scale.CORRECTED:
            patches = self._patches(operator, plan.tensor, source[index], values)
        if not isinstance(item, RoundedFilter):
            seen = patches
            if patches is not None and not self._sequential:
                seen = LevelInputs(patches.source, [patches.source] * len(patches.levels))
            item = round_filter(plan, self._seed, seen, self._targets.get(plan.tensor.name))
            self._filters[number] = item
        fitted = [
            self._parameters(operator, item, own, source[index], values[own], patches)
            for own in range(len(item.levels))
        ]
        self._fitted[operator.index] = fitted
        self._run(operator, item, fitted, source, streams)

    def _patches(
        self,
        operator: Operator,
        tensor: Tensor,
        source: NDArray[np.int8],
        values: Sequence[NDArray[np.int8]],
    ) -> LevelInputs:
        activation = self._subgraph.tensors[operator.inputs[0]]
        sampler = PatchSampler(operator, tensor.shape, activation, source, self._seed)
        known = {id(source): sampler.rows(source)}
        for array in values:
            if id(array) not in known:
                known[id(array)] = sampler.rows(array)
        return LevelInputs(known[id(source)], [known[id(array)] for array in values])

    def _parameters(
        self,
        operator: Operator,
        rounded: RoundedFilter,
        own: int,
        source: NDArray[np.int8],
        values: NDArray[np.int8],
        patches: LevelInputs | None,
    ) -> LevelParameters:
        full, weights = rounded.plan.tensor.data, rounded.levels[own]
        assert full is not None
        bias = source_bias(self._subgraph, operator)
        if np.array_equal(weights, full):
            return LevelParameters(bias)
        activation = self._subgraph.tensors[operator.inputs[0]]
        wanted = mean_accumulator(operator, full, source, activation)
        mean = mean_accumulator(operator, weights, values, activation)
        scales = None
        if self._scale is Scale.CORRECTED and patches is not None:
            scales = fitted_scales(self._subgraph, operator, weights, patches.source, patches.levels[own])
        if scales is None:
            return LevelParameters(corrected_bias(bias, wanted - mean))
        quantization = rounded.plan.tensor.quantization
        assert quantization is not None
        ratios = scales.astype(np.float64) / quantization.scale
        return LevelParameters(corrected_bias(bias, (bias + wanted) / ratios - bias - mean), scales)

    def _run(
        self,
        operator: Operator,
        rounded: RoundedFilter,
        fitted: Sequence[LevelParameters],
        source: Stream,
        streams: Sequence[Stream],
    ) -> None:
        full = rounded.plan.tensor.data
        assert full is not None
        evaluate(self._subgraph, operator, prepare(level_node(self._subgraph, operator)), source)
        for own, stream in zip(rounded.plan.model_levels, streams, strict=True):
            weights, level = rounded.levels[own], fitted[own]
            if np.array_equal(weights, full) and same_inputs(operator, source, stream):
                stream.update({index: source[index] for index in operator.outputs})
                continue
            kernel = prepare(level_node(self._subgraph, operator, weights, level.bias, level.scales))
            evaluate(self._subgraph, operator, kernel, stream)
