"""How much each filter's width costs the whole model.

One filter at a time is cut to fewer bits, its bias makes up for the shift of the mean, and the model runs on
from there; the loss compares what comes out with the untouched model. Everything before the filter is reused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.correction import corrected_bias, mean_accumulator
from converters.engine import prepare
from converters.planning import PlannedFilter, source_bias
from converters.streams import Stream, check_runnable, evaluate, level_node
from tflnest.graph import Operator, Subgraph, Tensor
from tflnest.kernels import Kernel
from tflnest.nested import CHANNEL_AXIS
from tflnest.nesting import MASTER_BITS, Nesting
from tflnest.progress import Progress, silent

#: Widths at which the loss is measured; the last one only for the floor (see `separate_losses`).
MEASURED_WIDTHS = (2, 3, 4, 6)

#: Samples that are enough to rank the filters of a large model; more rank them better, and are taken where they are
#: cheap.
MIN_SAMPLES, MAX_SAMPLES = 48, 256

#: Multiply-accumulates that a scan may take for the sake of more samples.
CHEAP_WORK = 1 << 36


@dataclass(frozen=True)
class Sensitivity:
    """What a filter's width costs.

    Attributes:
        plan: The filter.
        losses: Loss of the model by width, falling; 8 bits cost nothing.
    """

    plan: PlannedFilter
    losses: Mapping[int, float]

    @property
    def weights(self) -> int:
        """Number of weights."""
        return self.plan.tensor.size


def measure_sensitivities(
    subgraph: Subgraph,
    planned: Sequence[PlannedFilter],
    inputs: Sequence[NDArray[Any]],
    widths: Sequence[int] = MEASURED_WIDTHS,
    progress: Progress = silent,
) -> list[Sensitivity]:
    """Measure every filter at some widths.

    Args:
        subgraph: Main subgraph of an int8 model.
        planned: Filters of it; all that are asked about.
        inputs: One array per input, samples first; the first `useful_samples` are used.
        widths: Bit-widths to measure.
        progress: Told of every filter.

    Raises:
        UnsupportedError: The model has an operator that the reference kernels do not have.
    """
    samples = useful_samples(subgraph, planned, len(widths))
    scan = Scan(subgraph, [array[:samples] for array in inputs])
    result = []
    for number, plan in enumerate(planned):
        progress("measuring sensitivity", number, len(planned))
        measured = {width: scan.loss(plan, width) for width in widths}
        result.append(Sensitivity(plan, separate_losses(measured)))
    progress("measuring sensitivity", len(planned), len(planned))
    return result


def useful_samples(subgraph: Subgraph, planned: Sequence[PlannedFilter], widths: int) -> int:
    """How many samples a scan takes: `MIN_SAMPLES`, and up to `MAX_SAMPLES` where they are cheap.

    Args:
        subgraph: The model.
        planned: The filters that are measured; what other operators take is not counted.
        widths: Number of widths; each filter and width takes a run through half of the model on average.
    """
    work = 1
    for plan in planned:
        channels = plan.tensor.shape[CHANNEL_AXIS[plan.operator_name]]
        outputs = sum(subgraph.tensors[subgraph.operators[index].outputs[0]].size for index in plan.operators)
        work += outputs * plan.tensor.size // max(channels, 1)
    return min(max(2 * CHEAP_WORK // (work * max(len(planned) * widths, 1)), MIN_SAMPLES), MAX_SAMPLES)


def separate_losses(measured: Mapping[int, float]) -> dict[int, float]:
    """Losses of all widths from those of some, without what any change at all costs.

    The smallest change before many roundings to int8 flips some of them, so the loss does not go to zero with
    the width: the loss at the highest measured width is that floor, and it is taken off. Between the measured
    widths lines in the logarithm join the rest, and above them each bit divides it by four, as the power of a
    rounding error does. The result falls strictly with the width.
    """
    *widths, highest = sorted(measured)
    floor = measured[highest]
    smallest = max(1e-3 * floor, 1e-9)
    values = np.log([max(measured[width] - floor, smallest) for width in widths])
    values = np.minimum.accumulate(values)
    losses = {MASTER_BITS: 0.0}
    for width in range(1, MASTER_BITS):
        value = np.interp(width, widths, values) - 1e-3 * (width - widths[0])
        value += np.log(4.0) * (max(widths[0] - width, 0) - max(width - widths[-1], 0))
        losses[width] = float(np.exp(value))
    return losses


class Scan:
    """The untouched model's activations, and runs that start at a changed filter.

    Memory is that of all activations of all samples.

    Args:
        subgraph: Main subgraph of an int8 model.
        inputs: One array per input, samples first.

    Raises:
        UnsupportedError: The model has an operator that the reference kernels do not have.
    """

    def __init__(self, subgraph: Subgraph, inputs: Sequence[NDArray[Any]]) -> None:
        check_runnable(subgraph)
        self._subgraph = subgraph
        self.source: Stream = dict(zip(subgraph.inputs, inputs, strict=True))
        self._kernels: dict[int, Kernel] = {}
        for operator in subgraph.operators:
            self._kernels[operator.index] = prepare(level_node(subgraph, operator))
            evaluate(subgraph, operator, self._kernels[operator.index], self.source)
        self._outputs = loss_tensors(subgraph)

    def loss(self, plan: PlannedFilter, width: int) -> float:
        """Loss with one filter cut to a width, its bias corrected."""
        assert plan.tensor.data is not None
        nesting = Nesting((width,))
        weights = nesting.join(nesting.split(nesting.truncate(plan.tensor.data)), width)
        return self.loss_of(self.follow(plan, weights))

    def loss_of(self, changed: Stream) -> float:
        """How far changed activations take the model's outputs; see `ranking_loss`."""
        return sum(
            ranking_loss(self._subgraph, tensor, self.source[tensor.index], changed[tensor.index])
            for tensor in self._outputs
            if tensor.index in changed
        )

    def follow(
        self,
        plan: PlannedFilter,
        weights: NDArray[np.int8],
        scales: NDArray[np.float32] | None = None,
        correct: bool = True,
    ) -> Stream:
        """Run the model with other weights of one filter, from its first operator to the outputs.

        Args:
            plan: The filter.
            weights: int8, shaped like it.
            scales: Filter scales, as many as the source has; None for the source's own.
            correct: Whether the biases make up for the shift of the mean.

        Returns:
            The activations that can have changed.
        """
        changed: Stream = {}
        for operator in self._subgraph.operators[plan.operators[0] :]:
            if operator.index in plan.operators:
                changed.update(self._run_changed(operator, weights, scales, correct, changed))
            elif any(index in changed for index in operator.inputs):
                view = {**self.source, **changed}
                evaluate(self._subgraph, operator, self._kernels[operator.index], view)
                changed.update({index: view[index] for index in operator.outputs})
        return changed

    def alone(
        self,
        operator: Operator,
        weights: NDArray[np.int8],
        scales: NDArray[np.float32] | None = None,
        correct: bool = True,
    ) -> NDArray[Any]:
        """First output of one operator with other weights, on the source's own inputs; see `follow`."""
        return self._run_changed(operator, weights, scales, correct, {})[operator.outputs[0]]

    def _run_changed(
        self,
        operator: Operator,
        weights: NDArray[np.int8],
        scales: NDArray[np.float32] | None,
        correct: bool,
        changed: Stream,
    ) -> Stream:
        bias = source_bias(self._subgraph, operator)
        if correct:
            bias = self._corrected(operator, bias, weights, scales, changed)
        view = {**self.source, **changed}
        evaluate(
            self._subgraph,
            operator,
            prepare(level_node(self._subgraph, operator, weights, bias, scales)),
            view,
        )
        return {index: view[index] for index in operator.outputs}

    def _corrected(
        self,
        operator: Operator,
        bias: NDArray[np.int32],
        weights: NDArray[np.int8],
        scales: NDArray[np.float32] | None,
        changed: Stream,
    ) -> NDArray[np.int32]:
        """The bias for other weights and scales: see `converters.correction`."""
        activation, tensor = (self._subgraph.tensors[index] for index in operator.inputs[:2])
        assert tensor.data is not None and tensor.quantization is not None
        source = self.source[activation.index]
        wanted = bias + mean_accumulator(operator, tensor.data, source, activation)
        mean = mean_accumulator(operator, weights, changed.get(activation.index, source), activation)
        ratios = 1.0 if scales is None else scales.astype(np.float64) / tensor.quantization.scale
        return corrected_bias(bias, wanted / ratios - bias - mean)


def loss_tensors(subgraph: Subgraph) -> tuple[Tensor, ...]:
    """What the loss looks at: every output, or the logits before its SOFTMAX."""
    writers = {index: operator for operator in subgraph.operators for index in operator.outputs}
    tensors = []
    for output in subgraph.output_tensors():
        writer = writers.get(output.index)
        is_softmax = writer is not None and writer.name == "SOFTMAX"
        tensors.append(subgraph.tensors[writer.inputs[0]] if writer is not None and is_softmax else output)
    return tuple(tensors)


def loss_tensor(subgraph: Subgraph) -> Tensor:
    """What the loss looks at in the first output."""
    return loss_tensors(subgraph)[0]


def is_classifier(subgraph: Subgraph, tensor: Tensor) -> bool:
    """Whether an output looks like one score per class: not of the input's shape, and more than one."""
    same_as_input = any(given.shape == tensor.shape for given in subgraph.input_tensors())
    return len(tensor.shape) == 2 and tensor.shape[1] > 1 and not same_as_input


def output_loss(subgraph: Subgraph, tensor: Tensor, reference: NDArray[Any], values: NDArray[Any]) -> float:
    """How far outputs are from the reference's.

    Args:
        subgraph: The model; classifiers are judged by the Kullback-Leibler divergence of their class
            probabilities, everything else by the mean squared error over the reference's variance.
        tensor: Gives the scale.
        reference: Integer outputs of the reference, samples first.
        values: The same of the model that is judged.
    """
    if not is_classifier(subgraph, tensor):
        return relative_error(tensor, reference, values)
    logs = [array - _log_sum_exp(array) for array in _real(tensor, reference, values)]
    return float(np.mean(np.sum(np.exp(logs[0]) * (logs[0] - logs[1]), axis=1)))


def ranking_loss(subgraph: Subgraph, tensor: Tensor, reference: NDArray[Any], values: NDArray[Any]) -> float:
    """`output_loss`, and for classifiers the relative error of all their scores on top.

    The divergence of the classes is what counts, but a few undecided samples make up most of it; the error of the
    scores varies little from sample to sample, so that a few dozen samples rank filters.

    Args:
        subgraph: See `output_loss`.
        tensor: See `output_loss`.
        reference: See `output_loss`.
        values: See `output_loss`.
    """
    loss = output_loss(subgraph, tensor, reference, values)
    return loss + relative_error(tensor, reference, values) if is_classifier(subgraph, tensor) else loss


def relative_error(tensor: Tensor, reference: NDArray[Any], values: NDArray[Any]) -> float:
    """Mean squared error over the reference's variance."""
    real = _real(tensor, reference, values)
    return float(np.mean((real[0] - real[1]) ** 2) / max(float(real[0].var()), 1e-12))


def _real(tensor: Tensor, *arrays: NDArray[Any]) -> list[NDArray[np.float64]]:
    """Integers of a tensor as real numbers, (samples, values)."""
    return [
        (array.reshape(len(array), -1).astype(np.float64) - tensor.zero_point) * tensor.scale
        for array in arrays
    ]


def _log_sum_exp(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    top = logits.max(axis=1, keepdims=True)
    result: NDArray[np.float64] = top + np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
    return result
