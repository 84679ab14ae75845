"""Part-bit filters as INT4 tensors, which stock runtimes compute with directly.

An INT4 filter holds codes -8 to 7 times a scale per output channel, two codes in a byte. Weights of `bits` bits from
the bucket scheme are odd multiples of half a bucket. With 3 bits or fewer they are codes -7 to 7 times that half;
with 4 bits only those of channels that leave the outer buckets empty are. Levels of the `compensated` scheme are whole
multiples of a bucket: codes -8 to 7 with 4 bits. Where a filter is of neither kind, the middle of a bucket lies
between two codes; the full-bit weights are rounded to the nearest codes then, with the scale of each channel that
makes the least squared error.

The accumulators of an INT4 filter are in coarser units than those of the level: the bias is rounded to them, and so
not even an exact filter has to give the very same outputs. A filter that was rounded anew gets a bias with the mean
error of its channel taken out, on calibration data or on noise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.correction import mean_accumulator
from converters.engine import prepare
from converters.exporting.level_export import LevelExport
from converters.streams import (
    Stream,
    check_runnable,
    drop_finished,
    evaluate,
    last_uses,
    level_node,
    run_operator,
)
from converters.synthetic import synthetic_samples
from tflnest.dataset import Dataset
from tflnest.errors import UnsupportedError
from tflnest.graph import Operator, Subgraph, Tensor
from tflnest.int4 import HIGHEST, LOWEST, pack
from tflnest.materialization import materialize
from tflnest.model import Model, add_buffer, opcode_index
from tflnest.nested import CHANNEL_AXIS, nested_operators
from tflnest.progress import Progress, silent
from tflnest.pruning import prune
from tflnest.runner import single_input
from tflnest.schema import enum_value, schema

#: Bits of a level that an INT4 filter can stand for.
MAX_BITS = 4

#: Operator versions with INT4 filters. LiteRT has none for DEPTHWISE_CONV_2D among its reference kernels, and takes
#: INT4 in the versions that it has.
VERSIONS = {"CONV_2D": 7, "FULLY_CONNECTED": 10}

#: Scales that are tried for a channel, as parts of the one that reaches its largest weight.
SCALE_PARTS = np.linspace(0.6, 1.0, 41)

#: Samples that means are measured on.
MAX_SAMPLES = 64


class Form(StrEnum):
    """What became of a filter."""

    EXACT = "exact"
    ROUNDED = "rounded"
    INT8 = "int8"


@dataclass(frozen=True)
class Int4Filter:
    """What became of one nested filter.

    Attributes:
        operator: Index of the operator.
        kind: Name of the operator.
        name: Name of the filter; may be empty.
        bits: Bits of its own level.
        form: Exact and rounded filters are INT4.
        reason: Why it stayed int8; empty where it did not.
        weight_error: Root mean square error of its weights, relative to those of the full-bit level.
        level_error: The same of the level's own weights.
        output_difference: Mean absolute difference of its operator's outputs from those of the level, in steps, where
            all before is exported too.
    """

    operator: int
    kind: str
    name: str
    bits: int
    form: Form
    reason: str = ""
    weight_error: float = 0.0
    level_error: float = 0.0
    output_difference: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**vars(self), "form": str(self.form)}


@dataclass(frozen=True)
class Int4Export(LevelExport[Int4Filter]):
    """A level of a model with INT4 filters; its `filters` are those of the nested operators.

    Attributes:
        twin: The same with the codes as int8 filters: what engines without INT4 run to get the same outputs.
        measured_on: What the means were measured on.
    """

    twin: Model
    measured_on: str

    def facts(self) -> dict[str, Any]:
        """What the means were measured on."""
        return {"measured_on": self.measured_on}


@dataclass(frozen=True)
class Codes:
    """A filter on the INT4 grid.

    Attributes:
        codes: int8 in -8..7, of the filter's shape.
        step: What code 1 stands for in weights of the level, (1,) or (channels,).
        exact: Whether codes times step are the level's weights.
    """

    codes: NDArray[np.int8]
    step: NDArray[np.float64]
    exact: bool


def export_int4(
    source: Model,
    level: int | None = None,
    data: Dataset | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Int4Export:
    """A level with every filter of up to 4 bits as an INT4 tensor.

    Args:
        source: A nested model.
        level: One of its levels; None for the lowest one.
        data: Samples that the means of rounded filters are measured on; None for noise.
        seed: Of the noise.
        progress: Told after each operator.

    Raises:
        UsageError: The model is not nested, or has no such level.
        UnsupportedError: None of its filters can become INT4.
    """
    directory = source.directory
    if level is None and directory is not None:
        level = directory.levels[0]
    full, stock = materialize(source), materialize(source, level)
    assert directory is not None and level is not None
    filters = _plan(source, stock, directory.levels.index(level))
    if all(item.form is Form.INT8 for item in filters.values()):
        reasons = sorted({item.reason for item in filters.values()}) or ["it has no nested filters"]
        raise UnsupportedError(
            f"no filter of level {level} can become INT4: {'; '.join(reasons)}",
            "choose another level with --level, or write it as int8 with tflnest materialize",
        )
    samples = synthetic_samples(stock.graph.main, seed) if data is None else _samples(stock, data)
    twin = stock.copy()
    rounding = _Rounding(full.graph.main, stock.graph.main, twin, filters)
    rounding.run(samples, progress)
    prune(twin.tree)
    twin.changed()
    twin = Model.from_bytes(twin.to_bytes())
    made = tuple(rounding.filters[index] for index in sorted(rounding.filters))
    return Int4Export(
        model=_packed(twin, (item.operator for item in made if item.form is not Form.INT8)),
        twin=twin,
        level=level,
        filters=made,
        int8_bytes=len(full.to_bytes()),
        measured_on="synthetic inputs" if data is None else data.name,
    )


def _samples(model: Model, data: Dataset) -> list[NDArray[Any]]:
    limited = data.limited(min(len(data), MAX_SAMPLES))
    return [limited.inputs_for(single_input(model))]


# ------------------------------------------------------------------------------------------------------ planning


def _plan(source: Model, stock: Model, position: int) -> dict[int, Int4Filter]:
    """For each nested operator of the main subgraph, by index, whether its filter can become INT4."""
    subgraph = stock.graph.main
    users: dict[int, int] = dict.fromkeys(subgraph.outputs, 1)
    for operator in subgraph.operators:
        for place, index in enumerate(operator.inputs):
            if place != 1 or operator.name not in CHANNEL_AXIS:
                users[index] = 1
    found = {}
    for owner, nested in nested_operators(source.graph):
        if owner.index != subgraph.index:
            continue
        operator = subgraph.operators[nested.operator.index]
        tensor = subgraph.tensors[operator.inputs[1]]
        bits = nested.level_at(position)
        reason = ""
        if bits > MAX_BITS:
            reason = f"{bits} bits at this level"
        elif operator.name == "FULLY_CONNECTED" and _scales(tensor).size > 1:
            reason = "one scale per channel, and TensorFlow Lite Micro takes INT4 with one scale here"
        elif tensor.index in users:
            reason = "something else reads it too"
        form = Form.INT8 if reason else Form.ROUNDED
        found[operator.index] = Int4Filter(operator.index, operator.name, tensor.name, bits, form, reason)
    return found


def _scales(tensor: Tensor) -> NDArray[np.float64]:
    assert tensor.quantization is not None
    return tensor.quantization.scale.astype(np.float64)


def exact_codes(weights: NDArray[np.int8], axis: int, per_channel: bool) -> Codes | None:
    """Weights as codes and steps without an error; None where that is not possible.

    Args:
        weights: int8 weights of a level.
        axis: The axis of output channels.
        per_channel: Whether each channel may have a step of its own.
    """
    rows = _rows(weights.astype(np.int64), axis, per_channel)
    step = np.maximum(np.gcd.reduce(rows, axis=1), 1)
    codes = rows // step[:, np.newaxis]
    if codes.min() < LOWEST or codes.max() > HIGHEST:
        return None
    return Codes(_shaped(codes, weights.shape, axis, per_channel), step.astype(np.float64), True)


def nearest_codes(weights: NDArray[np.float64], axis: int, per_channel: bool) -> Codes:
    """Codes and steps with the least squared error among `SCALE_PARTS`.

    Args:
        weights: What is to be represented, in any unit.
        axis: The axis of output channels.
        per_channel: Whether each channel may have a step of its own.
    """
    rows = _rows(weights, axis, per_channel)
    reach = np.maximum(rows.max(axis=1) / HIGHEST, rows.min(axis=1) / LOWEST)
    reach = np.where(reach > 0, reach, 1.0)
    best = np.full(len(rows), np.inf)
    step, codes = reach.copy(), np.zeros(rows.shape)
    for part in SCALE_PARTS:
        trial = reach * part
        rounded = np.clip(np.rint(rows / trial[:, np.newaxis]), LOWEST, HIGHEST)
        error = ((rounded * trial[:, np.newaxis] - rows) ** 2).sum(axis=1)
        better = error < best
        best[better], step[better], codes[better] = error[better], trial[better], rounded[better]
    return Codes(_shaped(codes, weights.shape, axis, per_channel), step, False)


def _rows(weights: NDArray[Any], axis: int, per_channel: bool) -> NDArray[Any]:
    """Weights with one row per scale."""
    if not per_channel:
        return weights.reshape(1, -1)
    return np.moveaxis(weights, axis, 0).reshape(weights.shape[axis], -1)


def _shaped(rows: NDArray[Any], shape: tuple[int, ...], axis: int, per_channel: bool) -> NDArray[np.int8]:
    """The inverse of `_rows`, as int8."""
    if not per_channel:
        return rows.reshape(shape).astype(np.int8)
    moved = (shape[axis], *shape[:axis], *shape[axis + 1 :])
    return np.ascontiguousarray(np.moveaxis(rows.reshape(moved), 0, axis)).astype(np.int8)


# ------------------------------------------------------------------------------------------------------ rounding


class _Rounding:
    """Gives every operator its codes and bias, and runs the level beside the result.

    Args:
        full: The full-bit level's main subgraph.
        level: The level's.
        twin: A copy of the level, which is edited.
        filters: What `_plan` found; filled in.

    Attributes:
        filters: The same with forms and errors.
    """

    def __init__(
        self, full: Subgraph, level: Subgraph, twin: Model, filters: Mapping[int, Int4Filter]
    ) -> None:
        self._full, self._level, self._twin = full, level, twin
        self.filters = dict(filters)
        self._codes: dict[int, Codes] = {}

    def run(self, samples: list[NDArray[Any]], progress: Progress) -> None:
        """Go through all operators in order."""
        subgraph = self._level
        check_runnable(subgraph)
        streams: list[Stream] = [dict(zip(subgraph.inputs, samples, strict=True)) for _ in range(2)]
        uses = last_uses(subgraph)
        for number, operator in enumerate(subgraph.operators):
            item = self.filters.get(operator.index)
            run_operator(subgraph, operator, streams[0])
            if item is None or item.form is Form.INT8:
                run_operator(subgraph, operator, streams[1])
            else:
                item = self._convert(operator, item, streams)
            if item is not None:
                first, second = (stream[operator.outputs[0]].astype(np.float64) for stream in streams)
                self.filters[operator.index] = replace(
                    item, output_difference=float(np.abs(first - second).mean())
                )
            for stream in streams:
                drop_finished(stream, uses, operator)
            progress("rounding", number + 1, len(subgraph.operators))

    def _convert(self, operator: Operator, item: Int4Filter, streams: list[Stream]) -> Int4Filter:
        subgraph, axis = self._level, CHANNEL_AXIS[operator.name]
        tensor, bias = subgraph.tensors[operator.inputs[1]], subgraph.tensors[operator.inputs[2]]
        assert tensor.data is not None and bias.data is not None
        wanted = self._target(operator, tensor, axis)
        per_channel = _scales(tensor).size > 1
        if tensor.index not in self._codes:
            exact = exact_codes(tensor.data, axis, per_channel)
            self._codes[tensor.index] = exact or nearest_codes(wanted, axis, per_channel)
        found = self._codes[tensor.index]
        total = bias.data.astype(np.float64)
        if not found.exact:
            activation = subgraph.tensors[operator.inputs[0]]
            level, own = (stream[operator.inputs[0]] for stream in streams)
            total += mean_accumulator(operator, tensor.data, level, activation)
            total -= mean_accumulator(operator, found.codes, own, activation) * found.step
        limits = np.iinfo(np.int32)
        new_bias = np.clip(np.rint(total / found.step), limits.min, limits.max).astype(np.int32)
        scales = (_scales(tensor) * found.step).astype(np.float32)
        node = level_node(subgraph, operator, found.codes, new_bias, scales)
        evaluate(subgraph, operator, prepare(node), streams[1])
        self._write(operator, tensor, found, scales, new_bias)
        values = _spread(found.step, found.codes.shape, axis) * found.codes
        return replace(
            item,
            form=Form.EXACT if found.exact else Form.ROUNDED,
            weight_error=_relative(values, wanted),
            level_error=_relative(tensor.data.astype(np.float64), wanted),
        )

    def _target(self, operator: Operator, tensor: Tensor, axis: int) -> NDArray[np.float64]:
        """The full-bit weights in the level's unit."""
        full = self._full.tensors[self._full.operators[operator.index].inputs[1]]
        assert full.data is not None
        return full.data * _spread(_scales(full) / _scales(tensor), tensor.shape, axis)

    def _write(
        self,
        operator: Operator,
        tensor: Tensor,
        found: Codes,
        scales: NDArray[np.float32],
        bias: NDArray[np.int32],
    ) -> None:
        """Put codes and bias into the twin."""
        tree = self._twin.tree
        target = tree.subgraphs[self._level.index]
        item = target.operators[operator.index]
        filter_tree = target.tensors[tensor.index]
        filter_tree.buffer = add_buffer(tree, found.codes)
        filter_tree.quantization.scale = scales
        old = target.tensors[operator.inputs[2]]
        new = schema().TensorT()
        new.name, new.shape, new.type = old.name, old.shape, old.type
        new.buffer = add_buffer(tree, bias)
        new.quantization = schema().QuantizationParametersT()
        activation = self._level.tensors[operator.inputs[0]]
        new.quantization.scale = (np.float32(activation.scale) * scales).astype(np.float32)
        new.quantization.zeroPoint = np.zeros(scales.size, np.int64)
        target.tensors.append(new)
        inputs = [int(index) for index in item.inputs]
        inputs[2] = len(target.tensors) - 1
        item.inputs = inputs
        version = VERSIONS.get(operator.name, operator.version)
        item.opcodeIndex = opcode_index(tree, operator.name, version)


def _spread(values: NDArray[np.float64], shape: tuple[int, ...], axis: int) -> NDArray[np.float64]:
    """One value per channel, or one for all, so that it can be multiplied with a filter."""
    if values.size == 1:
        return values.reshape([1] * len(shape))
    return values.reshape([-1 if number == axis else 1 for number in range(len(shape))])


def _relative(values: NDArray[np.float64], wanted: NDArray[np.float64]) -> float:
    power = float((wanted**2).sum())
    return float(np.sqrt(((values - wanted) ** 2).sum() / power)) if power else 0.0


def _packed(twin: Model, operators: Iterable[int]) -> Model:
    """A copy of the twin whose filters of some operators of the main subgraph are INT4."""
    model = twin.copy()
    subgraph, tree = model.graph.main, model.tree
    for index in {subgraph.operators[operator].inputs[1] for operator in operators}:
        data = subgraph.tensors[index].data
        assert data is not None
        item = tree.subgraphs[subgraph.index].tensors[index]
        item.type = enum_value("TensorType", "INT4")
        item.buffer = add_buffer(tree, pack(data))
    prune(tree)
    model.changed()
    return Model.from_bytes(model.to_bytes())
