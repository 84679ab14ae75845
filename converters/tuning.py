"""Tune the biases of part-bit levels by what comes out at the end.

Statistics layer by layer give every level its biases; they do not see what the errors of many layers add up to. So
each part-bit level then runs as a whole, on the integer kernels, and the mean squared error of its scores
from the source's goes back through the operators (`converters.gradients`) to the biases, which Adam (Kingma and
Ba, ICLR 2015) moves some dozens of steps. All scores count, not the classes alone: the divergence of
classes hangs on a few undecided samples, and is learned by heart.

Only biases that one level alone uses are moved, so that no level changes another. Some samples are held back,
and a level that is not better on them keeps what it had; one that is hardly off is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.correction import corrected_bias
from converters.engine import prepare
from converters.fitting import FittedLevels
from converters.gradients import Gradient, Place, input_gradients, unclamped
from converters.parameters import LevelParameters
from converters.planning import RoundedFilter
from converters.sensitivity import loss_tensor, relative_error
from converters.streams import Stream, check_runnable, drop_finished, evaluate, last_uses, level_node
from tflnest.graph import Operator, Subgraph
from tflnest.nested import CHANNEL_AXIS, STOCK_OPTIONS
from tflnest.progress import Progress, silent

#: One of so many samples is held back.
HELD_BACK = 4

#: With fewer samples nothing is tuned: they are learned by heart. 60 images made MobileNetV2 worse on others, 256 make
#: ResNet8 clearly better.
MIN_SAMPLES = 128

#: Samples of a step.
BATCH = 16

#: Steps: as many as their multiply-accumulates allow, within limits.
MIN_STEPS, MAX_STEPS = 60, 160
WORK = 1 << 38

#: First step of Adam, in standard deviations of an operator's outputs. It falls to zero as half a cosine.
RATE = 0.003

#: Adam's decay of its mean gradient and of its mean square.
MOMENTUM, SQUARES = 0.9, 0.99

#: Levels whose scores are off by less (mean square over variance) are left alone: near the noise of the roundings there
#: is nothing to learn.
LEAST_ERROR = 0.04

#: Outputs that vary less, in their own steps, are taken to vary so much.
LEAST_DEVIATION = 0.5

Inputs = Sequence[NDArray[Any]]


def tune_levels(
    subgraph: Subgraph,
    fitted: FittedLevels,
    levels: int,
    inputs: Inputs,
    *,
    seed: int = 0,
    progress: Progress = silent,
) -> FittedLevels:
    """Tune the biases of every part-bit level.

    Args:
        subgraph: Main subgraph of the int8 source.
        fitted: What its levels consist of.
        levels: Number of levels of the model.
        inputs: One array per graph input, samples first: those that the levels were fitted to.
        seed: For the order of the samples.
        progress: Told of every step.

    Returns:
        The same codes with other biases; just what was given where there are too few samples, or
        where the outputs are not int8.

    Raises:
        FormatError: An operator reads what nobody wrote.
        UnsupportedError: The model has an operator that the reference kernels do not have.
    """
    count = len(inputs[0])
    if count < MIN_SAMPLES:
        return fitted
    check_runnable(subgraph)
    if loss_tensor(subgraph).type != "INT8":
        return fitted
    held = np.arange(count) % HELD_BACK == HELD_BACK - 1
    parts = [array[~held] for array in inputs], [array[held] for array in inputs]
    parameters = dict(fitted.parameters)
    tunable = [level for level in (_Level(subgraph, fitted, n) for n in range(levels)) if level.tuned]
    for number, level in enumerate(tunable):
        told = partial(_told, progress, number, len(tunable))
        better = _Tuner(level, *parts, np.random.default_rng([seed, level.position])).run(told)
        for index, own in better.items():
            kept = list(parameters[subgraph.index, index])
            kept[level.own(index)] = own
            parameters[subgraph.index, index] = kept
    return FittedLevels(fitted.filters, parameters)


def _told(progress: Progress, number: int, levels: int, share: float) -> None:
    progress("tuning levels", round(100 * (number + share)), 100 * levels)


class _Level:
    """One level of a model, as far as it differs from the source.

    Args:
        subgraph: Of the source.
        fitted: Codes and parameters.
        position: Of the level.

    Attributes:
        parameters: Of the operators that nest, by index.
        tuned: Operators whose parameters this level alone uses, and whose weights are not the source's.
        operators: From the first of them to the one that writes what the loss looks at.
    """

    def __init__(self, subgraph: Subgraph, fitted: FittedLevels, position: int) -> None:
        self.subgraph, self.position = subgraph, position
        self._users: dict[int, RoundedFilter] = {
            index: item
            for item in fitted.filters
            for index in item.plan.operators
            if item.plan.subgraph == subgraph.index
        }
        self.parameters = {
            index: fitted.parameters[subgraph.index, index][self.own(index)] for index in self._users
        }
        self.tuned = [index for index in sorted(self._users) if self._is_own(index)]
        self.watched = loss_tensor(subgraph)
        last = max(
            operator.index for operator in subgraph.operators if self.watched.index in operator.outputs
        )
        self.tuned = [index for index in self.tuned if index <= last]
        changed = [index for index in sorted(self._users) if self._is_changed(index)]
        first = changed[0] if changed else 0
        self.before = subgraph.operators[:first]
        self.operators = subgraph.operators[first : last + 1]
        self._kernels = {
            operator.index: prepare(level_node(subgraph, operator))
            for operator in self.operators
            if operator.index not in self._users
        }

    def own(self, index: int) -> int:
        """Which own level of an operator this level runs."""
        return self._users[index].plan.model_levels[self.position]

    def _is_changed(self, index: int) -> bool:
        item = self._users[index]
        assert item.plan.tensor.data is not None
        return not np.array_equal(item.levels[self.own(index)], item.plan.tensor.data)

    def _is_own(self, index: int) -> bool:
        return self._users[index].plan.model_levels.count(self.own(index)) == 1 and self._is_changed(index)

    def weights(self, operator: Operator) -> NDArray[np.int8]:
        """The weights that an operator runs with."""
        if operator.index in self._users:
            return self._users[operator.index].levels[self.own(operator.index)]
        data = self.subgraph.tensors[operator.inputs[1]].data
        assert data is not None
        return data

    def factors(self, operator: Operator) -> NDArray[np.float32]:
        """Output steps per accumulator step, (channels,) or (1,)."""
        own = self.parameters[operator.index].scales if operator.index in self.parameters else None
        activation, weights, output = (
            self.subgraph.tensors[index] for index in (*operator.inputs[:2], operator.outputs[0])
        )
        assert weights.quantization is not None
        scales = weights.quantization.scale if own is None else own
        factors: NDArray[np.float32] = (activation.scale * scales / output.scale).astype(np.float32)
        return factors

    def start(self, inputs: Inputs) -> Stream:
        """What the operators read that this level shares with the source."""
        stream: Stream = dict(zip(self.subgraph.inputs, inputs, strict=True))
        read = frozenset(index for operator in self.operators for index in operator.inputs)
        uses = last_uses(self.subgraph)
        for operator in self.before:
            evaluate(self.subgraph, operator, prepare(level_node(self.subgraph, operator)), stream)
            drop_finished(stream, uses, operator, read)
        return {index: values for index, values in stream.items() if index in read}

    def source(self, start: Stream) -> NDArray[Any]:
        """What the source gives."""
        stream = dict(start)
        for operator in self.operators:
            evaluate(self.subgraph, operator, prepare(level_node(self.subgraph, operator)), stream)
        return stream[self.watched.index]

    def run(self, start: Stream, parameters: Mapping[int, LevelParameters]) -> Stream:
        """All activations with some parameters."""
        stream = dict(start)
        for operator in self.operators:
            kernel = self._kernels.get(operator.index)
            if kernel is None:
                own = parameters[operator.index]
                kernel = prepare(
                    level_node(self.subgraph, operator, self.weights(operator), own.bias, own.scales)
                )
            evaluate(self.subgraph, operator, kernel, stream)
        return stream

    def gradients(self, stream: Stream, gradient: Gradient) -> dict[int, Gradient]:
        """Gradients by the outputs of the tuned operators, summed over samples and positions: (channels,) each.

        Args:
            stream: All activations.
            gradient: By the integers that the loss looks at.
        """
        left, found = {self.watched.index: gradient}, {}
        for operator in reversed(self.operators):
            if operator.index < self.tuned[0]:
                break
            own = left.pop(operator.outputs[0], None)
            if own is None:
                continue
            output = self.subgraph.tensors[operator.outputs[0]]
            own = unclamped(operator, output, stream[output.index], own)
            if operator.index in self.tuned:
                found[operator.index] = own.reshape(-1, own.shape[-1]).sum(axis=0)
            for index, part in input_gradients(self._place(operator, stream), own).items():
                left[index] = left[index] + part if index in left else part
        return found

    def _place(self, operator: Operator, stream: Stream) -> Place:
        tensors = tuple(self.subgraph.tensors[index] if index >= 0 else None for index in operator.inputs)
        shapes = {
            tensor.index: stream[tensor.index].shape
            for tensor in tensors
            if tensor is not None and not tensor.is_constant
        }
        output = self.subgraph.tensors[operator.outputs[0]]
        weights = tensors[1] if operator.name in STOCK_OPTIONS else None
        if weights is None or not weights.is_constant or weights.type != "INT8":
            return Place(operator, tensors, output, shapes)
        return Place(operator, tensors, output, shapes, self.weights(operator), self.factors(operator))


class _Tuner:
    """Moves the biases of one level.

    Args:
        level: The level.
        inputs: Samples to learn from.
        held_back: Samples to judge by.
        generator: Orders the samples.
    """

    def __init__(
        self, level: _Level, inputs: Inputs, held_back: Inputs, generator: np.random.Generator
    ) -> None:
        self._level, self._generator = level, generator
        self._start, self._held_back = level.start(inputs), level.start(held_back)
        self._target, self._held_target = level.source(self._start), level.source(self._held_back)
        self._deviations = self._measured_deviations()
        self._shifts = {index: np.zeros(len(level.parameters[index].bias)) for index in level.tuned}

    def run(self, told: Callable[[float], None]) -> dict[int, LevelParameters]:
        """Better parameters of the tuned operators; none where they are not better on what was held back.

        Args:
            told: Of the share of the work that is done.
        """
        level = self._level
        before = self._held_loss()
        if before < LEAST_ERROR:
            return {}
        steps = _steps(level)
        batches = self._batches()
        mean = {index: np.zeros_like(shift) for index, shift in self._shifts.items()}
        square = {index: np.zeros_like(shift) for index, shift in self._shifts.items()}
        for step in range(steps):
            told(step / steps)
            rate = RATE * (1 + np.cos(np.pi * step / steps)) / 2
            for index, by_output in self._gradients(next(batches)).items():
                gradient = by_output * self._deviations[index]
                mean[index] = MOMENTUM * mean[index] + (1 - MOMENTUM) * gradient
                square[index] = SQUARES * square[index] + (1 - SQUARES) * gradient**2
                way = mean[index] / (1 - MOMENTUM ** (step + 1))
                size = np.sqrt(square[index] / (1 - SQUARES ** (step + 1)))
                self._shifts[index] -= rate * np.divide(way, size, out=np.zeros_like(way), where=size > 0)
        told(1.0)
        if self._held_loss() >= before:
            return {}
        return {index: own for index, own in self._parameters().items() if index in self._shifts}

    def _batches(self) -> Iterator[NDArray[np.int64]]:
        """Samples of step after step; the order is drawn again when all were seen."""
        count = len(self._target)
        while True:
            order = self._generator.permutation(count)
            for first in range(0, max(count - BATCH, 0) + 1, BATCH):
                yield np.sort(order[first : first + BATCH])

    def _gradients(self, batch: NDArray[np.int64]) -> dict[int, Gradient]:
        stream = self._level.run(
            {index: values[batch] for index, values in self._start.items()}, self._parameters()
        )
        reached = stream[self._level.watched.index].astype(np.float32)
        return self._level.gradients(stream, reached - self._target[batch].astype(np.float32))

    def _parameters(self) -> dict[int, LevelParameters]:
        """The level's parameters with the biases as they are now."""
        now = dict(self._level.parameters)
        for index, shift in self._shifts.items():
            factors = self._level.factors(self._level.subgraph.operators[index]).astype(np.float64)
            moved = shift * self._deviations[index] / factors
            now[index] = replace(now[index], bias=corrected_bias(now[index].bias, moved))
        return now

    def _measured_deviations(self) -> dict[int, NDArray[np.float64]]:
        """Standard deviation of every output channel of the tuned operators, in steps of the output."""
        few = {index: values[:BATCH] for index, values in self._start.items()}
        stream = self._level.run(few, self._level.parameters)
        found = {}
        for index in self._level.tuned:
            values = stream[self._level.subgraph.operators[index].outputs[0]]
            deviations = values.reshape(-1, values.shape[-1]).std(axis=0, dtype=np.float64)
            found[index] = np.maximum(deviations, LEAST_DEVIATION)
        return found

    def _held_loss(self) -> float:
        watched = self._level.watched
        reached = self._level.run(self._held_back, self._parameters())[watched.index]
        return relative_error(watched, self._held_target, reached)


def _steps(level: _Level) -> int:
    """How many steps a level gets: fewer where a sample takes many multiply-accumulates."""
    work = 1
    for operator in level.operators:
        if operator.name in STOCK_OPTIONS:
            weights = level.subgraph.tensors[operator.inputs[1]]
            channels = max(weights.shape[CHANNEL_AXIS[operator.name]], 1)
            work += level.subgraph.tensors[operator.outputs[0]].size * weights.size // channels
    return min(max(WORK // (work * BATCH), MIN_STEPS), MAX_STEPS)
