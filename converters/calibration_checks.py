"""Whether calibration data looks like what the model was trained on.

Data of a wrong shape or with NaN is an error elsewhere. What is looked for here can be meant, and mostly is not:
samples on another scale than the model's input, few of them, or the same one many times; and what a single layer
gets to see of them: fewer window positions than it has weights, or inputs that never vary.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.planning import PlannedFilter
from converters.rounding import needs_data
from converters.streams import Stream, check_runnable, drop_finished, last_uses, run_operator
from tflnest.dataset import Dataset
from tflnest.errors import UnsupportedError
from tflnest.graph import Operator, Subgraph, Tensor
from tflnest.nested import CHANNEL_AXIS

#: Fewer samples than this say little of a range or a mean.
FEW_SAMPLES = 16

#: Share of copies among the samples from which on they are mentioned.
MANY_COPIES = 0.05

#: Share of values outside the input's range from which on they are mentioned; calibration by percentiles cuts
#: off a little of any data.
MANY_SATURATED = 0.05

#: Part of the input's range that samples use at least.
SMALL_SPAN = 0.25

#: A side of zero that has this part of the input's range is there to be used.
WIDE_SIDE = 0.25

#: Samples on which inputs that never vary are looked for.
VARIETY_SAMPLES = 32

#: Share of a layer's input channels that never vary from which on they are mentioned: trained models have dead
#: channels, and a few samples do not wake all the others.
MANY_CONSTANT = 0.25

#: Layers that one warning names; the others are counted.
NAMED_LAYERS = 3


@dataclass(frozen=True)
class _Interval:
    low: float
    high: float

    @property
    def span(self) -> float:
        return self.high - self.low

    @property
    def reach(self) -> float:
        return max(abs(self.low), abs(self.high))

    def __str__(self) -> str:
        return f"{self.low:.4g}..{self.high:.4g}"


def check_calibration(dataset: Dataset, tensor: Tensor) -> list[str]:
    """Reasons to doubt calibration data, with numbers; empty where there are none.

    Args:
        dataset: The calibration samples.
        tensor: The model's input. Its scale tells which real numbers the model takes; a float input has none,
            so that the scale of its samples can't be checked.
    """
    seen = _Interval(float(dataset.x.min()), float(dataset.x.max()))
    warnings = _check_number(dataset) + _check_variety(dataset, seen)
    if tensor.quantization is not None and tensor.scale > 0 and tensor.dtype.kind in "iu" and seen.span > 0:
        warnings += _check_scale(dataset, tensor, seen)
    return [f"calibration data {dataset.name}: {warning}" for warning in warnings]


def _check_number(dataset: Dataset) -> list[str]:
    if len(dataset) >= FEW_SAMPLES:
        return []
    samples = "1 sample" if len(dataset) == 1 else f"{len(dataset)} samples"
    return [f"{samples}; take at least {FEW_SAMPLES}, better a hundred"]


def _check_variety(dataset: Dataset, seen: _Interval) -> list[str]:
    """Constant data, equal samples, copies: only the worst of them."""
    if seen.span == 0:
        return [f"every value is {seen.low:.4g}, so it says nothing of the model's activations"]
    digests = {hashlib.blake2b(sample.tobytes(), digest_size=16).digest() for sample in dataset.x}
    copies = len(dataset) - len(digests)
    if len(digests) == 1 and copies:
        return [f"all {len(dataset)} samples are equal"]
    if copies > MANY_COPIES * len(dataset):
        return [f"{copies} of {len(dataset)} samples are copies of others"]
    return []


def _check_scale(dataset: Dataset, tensor: Tensor, seen: _Interval) -> list[str]:
    """Samples on another scale than the input's; the first reason that is found."""
    limits = np.iinfo(tensor.dtype)
    zero_point = tensor.zero_point
    taken = _Interval((limits.min - zero_point) * tensor.scale, (limits.max - zero_point) * tensor.scale)
    if dataset.x.dtype.kind in "iu":
        # Integers are taken as the input's own codes: they can't saturate.
        seen = _Interval((seen.low - zero_point) * tensor.scale, (seen.high - zero_point) * tensor.scale)
        saturated = 0.0
    else:
        half = tensor.scale / 2
        saturated = float(np.mean((dataset.x < taken.low - half) | (dataset.x > taken.high + half)))
    where = f"the values lie in {seen}, input {tensor.label} takes {taken}"
    advice = "scale the samples as for training"
    if saturated > MANY_SATURATED:
        factor = seen.reach / taken.reach
        size = f", about {factor:.3g} times too large" if factor >= 2 else ""
        return [f"{100 * saturated:.1f} % of the values saturate: {where}{size}; {advice}"]
    if seen.span < SMALL_SPAN * taken.span:
        steps = max(1, round(seen.span / tensor.scale))
        factor = taken.reach / max(seen.reach, tensor.scale)
        size = f", about {factor:.3g} times too small" if factor >= 2 else ""
        return [
            f"the values use {steps} of the input's {limits.max - limits.min + 1} steps: {where}{size}; {advice}"
        ]
    if seen.low >= 0 and -taken.low > WIDE_SIDE * taken.span:
        return [f"no value is negative: {where}; {advice}"]
    if seen.high <= 0 and taken.high > WIDE_SIDE * taken.span:
        return [f"no value is positive: {where}; {advice}"]
    return []


def check_layers(
    subgraph: Subgraph, planned: Sequence[PlannedFilter], inputs: Sequence[NDArray[Any]]
) -> list[str]:
    """Layers whose rounding the calibration data can't decide; empty where all is well or nothing looks at data.

    Args:
        subgraph: Main subgraph of the int8 model.
        planned: All filters; only those whose rounding needs data are looked at.
        inputs: Calibration inputs, one array per input of the model, samples first.
    """
    plans = {
        index: plan
        for plan in planned
        if plan.subgraph == subgraph.index and plan.nesting is not None and needs_data(plan.rounding)
        for index in plan.operators
    }
    if not plans or not inputs:
        return []
    return _check_positions(subgraph, plans, len(inputs[0])) + _check_constant_inputs(subgraph, plans, inputs)


def _check_positions(subgraph: Subgraph, plans: dict[int, PlannedFilter], samples: int) -> list[str]:
    """Fewer window positions than weights per channel: the rounding has more to choose than it sees."""
    found, enough = [], 0
    for index, plan in plans.items():
        operator = subgraph.operators[index]
        shape = subgraph.tensors[operator.outputs[0]].shape
        channels = plan.tensor.shape[CHANNEL_AXIS[operator.name]]
        per_sample = max(1, int(np.prod(shape)) // channels)
        columns = plan.tensor.size // channels
        if samples * per_sample < columns:
            found.append((columns / per_sample, plan, samples * per_sample, columns))
            enough = max(enough, -(-columns // per_sample))
    found.sort(key=lambda item: -item[0])
    if not found:
        return []
    named = "; ".join(
        f"{plan.tensor.label} sees {rows:,} positions for {columns:,} weights per channel"
        for _, plan, rows, columns in found[:NAMED_LAYERS]
    )
    return [
        f"{samples:,} calibration samples are few for {_count(len(found))}: {named}{_rest(len(found))}; what the data "
        f"leaves open is rounded to nearest; {enough:,} samples would decide all of it"
    ]


def _check_constant_inputs(
    subgraph: Subgraph, plans: dict[int, PlannedFilter], inputs: Sequence[NDArray[Any]]
) -> list[str]:
    """Inputs that never vary: the second moments are singular, and the data says nothing of their weights."""
    count = min(len(inputs[0]), VARIETY_SAMPLES)
    found = []
    for operator, values in _operator_inputs(subgraph, plans, [array[:count] for array in inputs]):
        flat = values.reshape(-1, values.shape[-1])
        constant = int(np.sum(flat.min(axis=0) == flat.max(axis=0)))
        if constant > MANY_CONSTANT * flat.shape[1]:
            found.append((constant, flat.shape[1], plans[operator.index].tensor.label))
    found.sort(key=lambda item: -item[0] / item[1])
    if not found:
        return []
    named = "; ".join(f"{constant} of {total} of {name}" for constant, total, name in found[:NAMED_LAYERS])
    return [
        f"input channels never vary on {count} calibration samples: {named}{_rest(len(found))}; their weights are "
        "rounded to nearest; if the model uses these channels, the calibration data lacks what they react to"
    ]


def _operator_inputs(
    subgraph: Subgraph, plans: dict[int, PlannedFilter], inputs: Sequence[NDArray[Any]]
) -> Iterator[tuple[Operator, NDArray[Any]]]:
    """Run the source, and give what each operator of the plans reads; nothing where it can't be run."""
    stream: Stream = dict(zip(subgraph.inputs, inputs, strict=True))
    uses = last_uses(subgraph)
    try:
        check_runnable(subgraph)
        for operator in subgraph.operators:
            if operator.index in plans:
                yield operator, stream[operator.inputs[0]]
            run_operator(subgraph, operator, stream)
            drop_finished(stream, uses, operator)
    except UnsupportedError:
        return  # The fitting meets the same operator, and tells of it.


def _count(layers: int) -> str:
    return "1 layer" if layers == 1 else f"{layers} layers"


def _rest(layers: int) -> str:
    return f"; and {layers - NAMED_LAYERS} more" if layers > NAMED_LAYERS else ""


__all__ = ["check_calibration", "check_layers"]
