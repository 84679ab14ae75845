"""Biases of part-bit levels.

A part-bit filter differs from the full-bit one, which shifts the mean of every output channel. The bias of
the level takes the shift back: b_level = b + W . E[x] - Q . E[x_level], where E is the mean over samples and
window positions of the input without its zero point, x the input in the source model, and x_level the input
when everything before runs at the level too. The means come from calibration data, or from synthetic inputs
where there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.parameters import LevelParameters, Parameters, source_parameters
from converters.planning import RoundedFilter, source_bias
from converters.recipe import Bias
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
from tflnest.kernels import prepare
from tflnest.kernels.geometry import Window, dilations, strides
from tflnest.progress import Progress, silent

#: Largest change of a bias, in accumulator units: keeps the corrected bias far from int32's ends.
MAX_CORRECTION = 1 << 28


def corrected_parameters(
    graph: Graph,
    filters: Sequence[RoundedFilter],
    levels: int,
    inputs: Sequence[NDArray[Any]],
    progress: Progress = silent,
) -> Parameters:
    """Biases of every own level of every nested operator of the main subgraph.

    All levels of the model run side by side through the graph, each on its own activations, so that a level's
    bias also makes up for what the levels of earlier operators did.

    Args:
        graph: The int8 source.
        filters: The rounded filters.
        levels: Number of levels of the model.
        inputs: One array per graph input, (samples, ...), of the input's dtype.
        progress: Told of every operator.

    Returns:
        For each operator one int32 bias per own level. Where an own level serves several levels of the model
        the lowest of them decides. A level whose weights equal the source's keeps the source's bias.

    Raises:
        UnsupportedError: The model has an operator that the reference kernels do not have.
    """
    parameters = source_parameters(graph, filters)
    return _Correction(graph.main, filters, levels, parameters).run(inputs, progress)


def choose_parameters(
    bias: Bias,
    graph: Graph,
    filters: Sequence[RoundedFilter],
    levels: int,
    inputs: Sequence[NDArray[Any]],
    progress: Progress = silent,
) -> Parameters:
    """Parameters as a recipe asks for them."""
    if bias is Bias.SOURCE:
        return source_parameters(graph, filters)
    return corrected_parameters(graph, filters, levels, inputs, progress)


class _Correction:
    """One pass through the graph with the source and all levels side by side."""

    def __init__(
        self, subgraph: Subgraph, filters: Sequence[RoundedFilter], levels: int, parameters: Parameters
    ) -> None:
        check_runnable(subgraph)
        self._subgraph = subgraph
        self._filters = {
            index: rounded
            for rounded in filters
            if rounded.plan.subgraph == subgraph.index
            for index in rounded.plan.operators
        }
        self._levels = levels
        self._parameters = parameters

    def run(self, inputs: Sequence[NDArray[Any]], progress: Progress) -> Parameters:
        """Walk the operators in order."""
        subgraph = self._subgraph
        source: Stream = dict(zip(subgraph.inputs, inputs, strict=True))
        streams: list[Stream] = [dict(source) for _ in range(self._levels)]
        last_use = last_uses(subgraph)
        for operator in subgraph.operators:
            progress("correcting biases", operator.index, len(subgraph.operators))
            if operator.index in self._filters:
                self._correct(operator, self._filters[operator.index], source, streams)
            else:
                self._pass_on(operator, source, streams)
            for stream in (source, *streams):
                drop_finished(stream, last_use, operator)
        progress("correcting biases", len(subgraph.operators), len(subgraph.operators))
        return self._parameters

    def _pass_on(self, operator: Operator, source: Stream, streams: Sequence[Stream]) -> None:
        """Run an operator that is the same at all levels; a stream that has not left the source shares its result."""
        kernel = prepare(level_node(self._subgraph, operator))
        evaluate(self._subgraph, operator, kernel, source)
        for stream in streams:
            if same_inputs(operator, source, stream):
                stream.update({index: source[index] for index in operator.outputs})
            else:
                evaluate(self._subgraph, operator, kernel, stream)

    def _correct(
        self, operator: Operator, rounded: RoundedFilter, source: Stream, streams: Sequence[Stream]
    ) -> None:
        subgraph, plan = self._subgraph, rounded.plan
        assert plan.tensor.data is not None
        bias = source_bias(subgraph, operator)
        activation = subgraph.tensors[operator.inputs[0]]
        full_mean = mean_accumulator(operator, plan.tensor.data, source[activation.index], activation)
        kernel = prepare(level_node(subgraph, operator))
        evaluate(subgraph, operator, kernel, source)
        corrected: dict[int, NDArray[np.int32]] = {}
        for own, stream in zip(plan.model_levels, streams, strict=True):
            weights = rounded.levels[own]
            exact = np.array_equal(weights, plan.tensor.data)
            if exact:
                corrected.setdefault(own, bias)
                if same_inputs(operator, source, stream):
                    stream.update({index: source[index] for index in operator.outputs})
                    continue
            elif own not in corrected:
                mean = mean_accumulator(operator, weights, stream[activation.index], activation)
                corrected[own] = corrected_bias(bias, full_mean - mean)
            level_kernel = prepare(level_node(subgraph, operator, weights, corrected[own]))
            evaluate(subgraph, operator, level_kernel, stream)
        self._parameters[subgraph.index, operator.index] = [
            LevelParameters(corrected[own]) for own in range(len(rounded.levels))
        ]


def corrected_bias(bias: NDArray[np.int32], change: NDArray[np.float64]) -> NDArray[np.int32]:
    """A bias with a correction added.

    Args:
        bias: int32 (channels,).
        change: What the mean accumulator of the level lacks, (channels,).
    """
    limits = np.iinfo(np.int32)
    step = np.clip(np.rint(change), -MAX_CORRECTION, MAX_CORRECTION)
    corrected: NDArray[np.int32] = np.clip(bias + step, limits.min, limits.max).astype(np.int32)
    return corrected


def mean_accumulator(
    operator: Operator, weights: NDArray[np.int8], values: NDArray[np.int8], activation: Tensor
) -> NDArray[np.float64]:
    """Mean of every output channel's accumulator, without bias, over samples and positions."""
    matrix = weights.astype(np.float64)
    if operator.name == "FULLY_CONNECTED":
        rows = values.reshape(-1, weights.shape[1])
        mean: NDArray[np.float64] = matrix @ (rows.mean(axis=0, dtype=np.float64) - activation.zero_point)
        return mean
    total = values.sum(axis=0, dtype=np.int64) - len(values) * activation.zero_point
    means = _tap_means(operator, weights.shape[1:3], total, len(values))
    if operator.name == "DEPTHWISE_CONV_2D":
        multiplier = weights.shape[3] // means.shape[2]
        total_seen: NDArray[np.float64] = (matrix[0] * np.repeat(means, multiplier, axis=2)).sum(axis=(0, 1))
        return total_seen
    groups = means.shape[2] // weights.shape[3]
    by_group = means.reshape(*means.shape[:2], groups, weights.shape[3])
    split = matrix.reshape(groups, -1, *weights.shape[1:])
    grouped: NDArray[np.float64] = np.einsum("gohwi,hwgi->go", split, by_group)
    return grouped.reshape(-1)


def _tap_means(
    operator: Operator, size: Sequence[int], total: NDArray[np.int64], samples: int
) -> NDArray[np.float64]:
    """Mean input that each tap of a window sees; positions beyond the edges count as zero.

    Args:
        operator: A convolution.
        size: Taps (height, width).
        total: Sum over samples of the input without its zero point, (height, width, channels).
        samples: Number of samples.

    Returns:
        float64 (tap rows, tap columns, channels).
    """
    window = Window.sliding(
        operator.options["padding"],
        (size[0], size[1]),
        strides(operator.options),
        dilations(operator.options),
        (total.shape[0], total.shape[1]),
    )
    means = np.zeros((*size, total.shape[2]))
    for row in range(size[0]):
        rows = _seen(window, 0, row)
        for column in range(size[1]):
            means[row, column] = total[rows, _seen(window, 1, column)].sum(axis=(0, 1))
    return means / (samples * window.output[0] * window.output[1])


def _seen(window: Window, axis: int, tap: int) -> slice:
    """Indices of the image that a tap sees along an axis."""
    stride, start = window.stride[axis], tap * window.dilation[axis] - window.padding[axis]
    first = start + (-(start // stride)) * stride if start < 0 else start
    stop = min(start + (window.output[axis] - 1) * stride + 1, window.input[axis])
    return slice(first, max(stop, first), stride)
