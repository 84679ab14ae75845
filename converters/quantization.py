"""Full-integer post-training quantization of a float `.tflite`: int8 throughout, no TensorFlow needed.

Weights are int8, symmetric, one scale per output channel; biases int32; activations int8 over the range that
calibration saw. Constraints between operators are those of the TensorFlow Lite 8-bit quantization
specification, so that stock runtimes and TFLM take the result.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.activations import FIXED, SHARED, ActivationPlan, plan_activations
from converters.affine import Affine, from_range, quantize_bias, quantize_weights, weight_scales
from converters.calibration import Range, collect_ranges
from converters.folding import fix_batch
from tflnest.dataset import Dataset
from tflnest.errors import UnsupportedError
from tflnest.graph import Operator, Subgraph
from tflnest.model import Model, add_constant, opcode_index
from tflnest.progress import Progress, silent
from tflnest.pruning import prune
from tflnest.schema import enum_value, schema


@dataclass(frozen=True)
class Weighted:
    """Where an operator keeps its weights.

    Attributes:
        data: Position of the activation among the inputs.
        filter: Position of the filter.
        bias: Position of the bias; optional.
        axis: Output channel dimension of the filter.
    """

    data: int
    filter: int
    bias: int
    axis: int


#: Operators with a filter.
WEIGHTED = {
    "CONV_2D": Weighted(0, 1, 2, 0),
    "DEPTHWISE_CONV_2D": Weighted(0, 1, 2, 3),
    "FULLY_CONNECTED": Weighted(0, 1, 2, 0),
    "TRANSPOSE_CONV": Weighted(2, 1, 3, 0),
}

#: Operators whose inputs and outputs each have a quantization of their own.
FREE = frozenset(
    ("ADD", "ARG_MAX", "HARD_SWISH", "LEAKY_RELU", "MEAN", "MUL", "PRELU", "RELU", "SHAPE", "SUB", "SUM")
)

#: Fused activations that integer kernels apply as a clamp.
_CLAMPS = frozenset({"NONE", "RELU", "RELU6", "RELU_N1_TO_1", 0})

#: Operator version from which the schema allows int8, where it is not 2.
_INT8_VERSION = {
    "CONV_2D": 3,
    "DEPTHWISE_CONV_2D": 3,
    "FULLY_CONNECTED": 4,
    **dict.fromkeys(("EXPAND_DIMS", "HARD_SWISH", "LEAKY_RELU", "PRELU", "RESHAPE", "SHAPE", "SQUEEZE"), 1),
}


@dataclass(frozen=True)
class QuantizationResult:
    """A quantized model and what it was quantized from.

    Attributes:
        model: Full-integer int8, inputs and outputs too.
        ranges: What calibration saw, by name of the activation.
        weights: The float filters, by name of the int8 tensor, shaped alike.
    """

    model: Model
    ranges: Mapping[str, Range]
    weights: Mapping[str, NDArray[np.float32]]


def quantizable_operators() -> tuple[str, ...]:
    """Names of the float operators that can be quantized, sorted."""
    return tuple(sorted({*WEIGHTED, *FREE, *FIXED, *SHARED}))


def quantize(model: Model, data: Dataset, progress: Progress = silent) -> QuantizationResult:
    """Quantize a float model to int8 with calibration data.

    The same model and data give the same bytes.

    Args:
        model: A float model; its batch is fixed to 1 first. It is not changed.
        data: Calibration samples, as the model was trained on them.
        progress: Told after each sample.

    Raises:
        UnsupportedError: An operator cannot be quantized (the message names it and its index), or the model has
            several subgraphs or inputs.
        FormatError: The data does not fit the model.
    """
    fixed = fix_batch(model)
    check_quantizable(fixed)
    subgraph = fixed.graph.main
    ranges = collect_ranges(fixed, data, progress)
    named = {subgraph.tensors[index].name or str(index): seen for index, seen in ranges.items()}
    return quantize_with(fixed, plan_activations(subgraph, ranges), ranges=named)


def check_quantizable(model: Model) -> None:
    """Refuse a float model that cannot be quantized.

    Raises:
        UnsupportedError: It has an operator that can't (the message names it), or several subgraphs.
    """
    if len(model.graph.subgraphs) > 1:
        raise UnsupportedError(
            f"the float model has {len(model.graph.subgraphs)} subgraphs, and one can be quantized",
            "convert a model without control flow, or quantize it elsewhere and start from the int8 file",
        )
    for operator in model.graph.main.operators:
        _check(model.graph.main, operator)


def quantize_with(
    model: Model,
    plan: ActivationPlan,
    *,
    scales: Mapping[int, NDArray[np.float32]] | None = None,
    ranges: Mapping[str, Range] | None = None,
) -> QuantizationResult:
    """Quantize a float model whose quantization is known.

    Args:
        model: A float model that `quantize` takes, of batch 1. It is not changed.
        plan: Quantization of every activation.
        scales: Scale per output channel of some filters, by tensor index; the others cover their range.
        ranges: What the result reports as seen.
    """
    writer = _Writer(model.copy(), plan, scales or {})
    for operator in model.graph.main.operators:
        writer.quantize_operator(operator)
    return QuantizationResult(writer.finish(), ranges or {}, writer.weights)


def _int8_version(operator: Operator) -> int:
    if operator.name == "TRANSPOSE_CONV" and len(operator.inputs) > WEIGHTED["TRANSPOSE_CONV"].bias:
        return 3
    return _INT8_VERSION.get(operator.name, 2)


def _floats(subgraph: Subgraph, indices: tuple[int, ...]) -> list[int]:
    """Positions of the float tensors."""
    return [
        at for at, index in enumerate(indices) if index >= 0 and subgraph.tensors[index].type == "FLOAT32"
    ]


def _check(subgraph: Subgraph, operator: Operator) -> None:
    """Refuse an operator that cannot be quantized."""
    if not _floats(subgraph, operator.inputs) and not _floats(subgraph, operator.outputs):
        return
    supported = f"operators that can be quantized: {', '.join(quantizable_operators())}"
    if operator.is_custom or operator.name not in quantizable_operators():
        raise UnsupportedError(f"operator {operator.label} cannot be quantized", supported)
    if operator.options.get("fused_activation_function", "NONE") not in _CLAMPS:
        name = operator.options["fused_activation_function"]
        raise UnsupportedError(
            f"operator {operator.label} has the fused activation {name}, which int8 kernels lack"
        )
    place = WEIGHTED.get(operator.name)
    if place is None:
        return
    filter_index = operator.inputs[place.filter]
    bias_index = operator.inputs[place.bias] if len(operator.inputs) > place.bias else -1
    for what, index in (("filter", filter_index), ("bias", bias_index)):
        if index >= 0 and not subgraph.tensors[index].is_constant:
            raise UnsupportedError(
                f"operator {operator.label} computes its {what}, tensor {subgraph.tensors[index].label}"
            )
        if index >= 0 and not np.isfinite(np.asarray(subgraph.tensors[index].data)).all():
            raise UnsupportedError(f"operator {operator.label}: its {what} holds NaN or infinity")
    if operator.options.get("weights_format", 0) != 0:
        raise UnsupportedError(
            f"operator {operator.label} has shuffled weights, which only float kernels read"
        )


class _Writer:
    """Rewrites the tree of a float model into int8, operator by operator."""

    def __init__(self, model: Model, plan: ActivationPlan, scales: Mapping[int, NDArray[np.float32]]) -> None:
        self._model = model
        self._scales = scales
        self._subgraph = model.graph.main
        self._tree = model.tree
        self._subtree = model.tree.subgraphs[0]
        self._plan = plan
        self._apart = frozenset(plan.requantized)
        self._constants: dict[tuple[Any, ...], int] = {}
        self._bridges: dict[tuple[int, Affine], int] = {}
        self._inserted: dict[int, list[Any]] = {}
        self._names: set[str] = set()
        self.weights: dict[str, NDArray[np.float32]] = {}

    def quantize_operator(self, operator: Operator) -> None:
        """Give one operator its int8 inputs and version."""
        inputs = list(operator.inputs)
        if operator.name in WEIGHTED:
            self._quantize_weights(operator, inputs, WEIGHTED[operator.name])
        else:
            for position in _floats(self._subgraph, operator.inputs):
                inputs[position] = self._input(operator, position)
        item = self._subtree.operators[operator.index]
        item.inputs = np.array(inputs, dtype=np.int32)
        if _floats(self._subgraph, operator.inputs):
            version = max(operator.version, _int8_version(operator))
            item.opcodeIndex = opcode_index(self._tree, operator.name, version)

    def finish(self) -> Model:
        """The int8 model, without what the float one alone needed."""
        for index, affine in self._plan.parameters.items():
            _set_affine(self._subtree.tensors[index], affine)
        operators = []
        for index, item in enumerate(self._subtree.operators):
            operators += [*self._inserted.get(index, []), item]
        self._subtree.operators = operators
        prune(self._tree)
        self._model.changed()
        return Model.from_bytes(self._model.to_bytes())

    def _input(self, operator: Operator, position: int) -> int:
        """The int8 tensor that takes the place of a float input."""
        index = operator.inputs[position]
        tensor = self._subgraph.tensors[index]
        if tensor.data is not None:
            shared = operator.name in SHARED
            seen = (
                Range(float(tensor.data.min()), float(tensor.data.max())) if tensor.size else Range(0.0, 0.0)
            )
            affine = self._plan.parameters[operator.outputs[0]] if shared else from_range(seen)
            scale = np.array([affine.scale], dtype=np.float32)
            return self._constant(index, affine.quantize(tensor.data), scale, affine.zero_point)
        if (operator.index, position) in self._apart:
            return self._bridge(operator, index, self._plan.parameters[operator.outputs[0]])
        return index

    def _quantize_weights(self, operator: Operator, inputs: list[int], place: Weighted) -> None:
        filter_index = operator.inputs[place.filter]
        bias_index = operator.inputs[place.bias] if len(operator.inputs) > place.bias else -1
        weights = self._subgraph.tensors[filter_index].data
        bias = self._subgraph.tensors[bias_index].data if bias_index >= 0 else None
        assert weights is not None
        source = self._plan.parameters[operator.inputs[place.data]]
        target = self._plan.parameters[operator.outputs[0]]
        scales = weight_scales(weights, place.axis, bias, source, target, self._scales.get(filter_index))
        integers = quantize_weights(weights, scales, place.axis)
        inputs[place.filter] = self._constant(filter_index, integers, scales, 0, place.axis)
        self.weights[self._subtree.tensors[inputs[place.filter]].name] = weights
        if bias is not None:
            products = source.scale * scales.astype(np.float64)
            inputs[place.bias] = self._constant(
                bias_index, quantize_bias(bias, products), products.astype(np.float32), 0
            )

    def _constant(
        self, source: int, values: NDArray[Any], scales: NDArray[np.float32], zero_point: int, axis: int = 0
    ) -> int:
        """A constant in place of a float one; made once for each quantization of it."""
        key = (source, values.dtype.str, scales.tobytes(), zero_point, axis)
        if key not in self._constants:
            name = self._unique(self._subgraph.tensors[source].name or f"tensor_{source}")
            index = add_constant(self._tree, self._subtree, values, values.dtype.name.upper(), name)
            self._subtree.tensors[index].quantization = _quantization(scales, zero_point, axis)
            self._constants[key] = index
        return self._constants[key]

    def _bridge(self, operator: Operator, index: int, affine: Affine) -> int:
        """A copy of an activation in another quantization, made by a QUANTIZE operator in front."""
        if (index, affine) not in self._bridges:
            tensor = self._subgraph.tensors[index]
            copy = schema().TensorT()
            copy.name = self._unique(f"{tensor.name or index}_requantized")
            copy.shape = np.array(tensor.shape, dtype=np.int32)
            _set_affine(copy, affine)
            self._subtree.tensors.append(copy)
            item = schema().OperatorT()
            item.opcodeIndex = opcode_index(self._tree, "QUANTIZE", 2)
            item.inputs = np.array([index], dtype=np.int32)
            item.outputs = np.array([len(self._subtree.tensors) - 1], dtype=np.int32)
            item.builtinOptionsType = enum_value("BuiltinOptions", "QuantizeOptions")
            item.builtinOptions = schema().QuantizeOptionsT()
            self._inserted.setdefault(operator.index, []).append(item)
            self._bridges[index, affine] = len(self._subtree.tensors) - 1
        return self._bridges[index, affine]

    def _unique(self, name: str) -> str:
        chosen, number = name, 1
        while chosen in self._names:
            chosen, number = f"{name}_{number}", number + 1
        self._names.add(chosen)
        return chosen


def _quantization(scales: NDArray[np.float32], zero_point: int, axis: int) -> Any:
    quantization = schema().QuantizationParametersT()
    quantization.scale = np.asarray(scales, dtype=np.float32)
    quantization.zeroPoint = np.full(scales.size, zero_point, dtype=np.int64)
    quantization.quantizedDimension = axis
    return quantization


def _set_affine(tensor: Any, affine: Affine) -> None:
    tensor.type = enum_value("TensorType", "INT8")
    tensor.quantization = _quantization(np.array([affine.scale], dtype=np.float32), affine.zero_point, 0)
