"""Write a level of a nested model back as a stock int8 model.

That is how every level is checked against engines that tflnest did not write, and how it is taken to
toolchains that want a plain `.tflite`.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from tflnest import container
from tflnest.controller import drop
from tflnest.errors import UnsupportedError, UsageError
from tflnest.graph import Quantization, Tensor
from tflnest.model import Model, add_buffer, opcode_index
from tflnest.nested import NestedOperator, StockForm, is_nested, nested_operators
from tflnest.nesting import MASTER_BITS
from tflnest.pruning import prune
from tflnest.schema import enum_value, schema

#: Weights of all nested operators together that are decoded; shared planes must not multiply without end.
MAX_WEIGHTS = 1 << 28

OPTIONS_TABLES = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
}

#: Attribute of the options table for each option that a nested operator keeps.
_ATTRIBUTES = {
    "padding": "padding",
    "stride_w": "strideW",
    "stride_h": "strideH",
    "dilation_w_factor": "dilationWFactor",
    "dilation_h_factor": "dilationHFactor",
    "depth_multiplier": "depthMultiplier",
    "fused_activation_function": "fusedActivationFunction",
    "keep_num_dims": "keepNumDims",
}

_ENUMS = {"padding": "Padding", "fused_activation_function": "ActivationFunctionType"}


def materialize(source: Model, level: int | None = None) -> Model:
    """A level of a nested model as a stock int8 model.

    Args:
        source: A nested model.
        level: One of the model's levels; None for the full-bit one.

    Returns:
        A plain model: the same subgraphs, tensors and signatures, with stock operators and int8 filters. A
        controller is left out.

    Raises:
        UsageError: The model is not nested, or has no such level.
        UnsupportedError: Its filters have more than `MAX_WEIGHTS` weights, or an operator reads its activation at
            fewer than 8 bits at this level, which no stock operator does.
    """
    directory = source.directory
    if directory is None:
        raise UsageError("the model is not nested: there is nothing to materialize")
    if level is None:
        level = directory.levels[-1]
    if level not in directory.levels:
        raise UsageError(f"the model has no level {level}, it has {', '.join(map(str, directory.levels))}")
    model_level = directory.levels.index(level)
    operators = nested_operators(source.graph)
    weights = sum(nested.weights for _, nested in operators)
    if weights > MAX_WEIGHTS:
        raise UnsupportedError(
            f"the nested filters have {weights:,} weights, up to {MAX_WEIGHTS:,} are supported"
        )
    model = source.copy()
    writer = _Writer(model)
    for subgraph, nested in operators:
        _require_all_bits(nested, model_level)
        form = nested.stock_form(subgraph, nested.level_at(model_level), _file_data)
        writer.replace(subgraph.index, nested, form)
    if source.controller is not None:
        drop(model.tree, source.controller)
    kept = [entry for entry in model.tree.metadata or [] if _name(entry) != container.METADATA_NAME]
    model.tree.metadata = kept or None
    prune(model.tree)
    model.changed()
    return Model.from_bytes(model.to_bytes())


def _require_all_bits(nested: NestedOperator, model_level: int) -> None:
    bits = nested.activation_bits[nested.model_levels[model_level]]
    if bits != MASTER_BITS:
        raise UnsupportedError(
            f"operator {nested.operator.label} reads its activation at {bits} bits at level "
            f"{nested.level_at(model_level)}, which no stock operator does",
            "take a level with activations of 8 bits, or an engine of tflnest",
        )


def _file_data(tensor: Tensor) -> Any:
    return tensor.data


def _name(entry: Any) -> str:
    return entry.name.decode("utf-8", errors="replace") if isinstance(entry.name, bytes) else entry.name or ""


class _Writer:
    """Turns nested operators of a tree into stock ones.

    A filter or bias goes to the tensor that it came from, unless another operator reads something else there.

    Args:
        model: The nested model, which is edited.
    """

    def __init__(self, model: Model) -> None:
        self._tree = model.tree
        self._claimed: dict[tuple[int, int], bytes] = {}
        self._placed: dict[tuple[int, int, bytes], int] = {}
        for subgraph in model.graph.subgraphs:
            foreign = {*subgraph.inputs, *subgraph.outputs}
            foreign.update(
                index
                for operator in subgraph.operators
                if not is_nested(operator)
                for index in (*operator.inputs, *operator.outputs)
            )
            self._claimed.update({(subgraph.index, index): b"" for index in foreign})

    def replace(self, subgraph: int, nested: NestedOperator, form: StockForm) -> None:
        """Turn one nested operator into the stock operator."""
        operator = self._tree.subgraphs[subgraph].operators[nested.operator.index]
        filter_index = self._place(subgraph, form.filter)
        bias_index = self._place(subgraph, form.bias)
        operator.opcodeIndex = opcode_index(self._tree, nested.stock, nested.stock_version)
        operator.inputs = [nested.operator.inputs[0], filter_index, bias_index]
        table = OPTIONS_TABLES[nested.stock]
        options = getattr(schema(), f"{table}T")()
        for name, value in nested.options.items():
            number = enum_value(_ENUMS[name], value) if name in _ENUMS else value
            setattr(options, _ATTRIBUTES[name], bool(number) if name == "keep_num_dims" else number)
        operator.builtinOptionsType = enum_value("BuiltinOptions", table)
        operator.builtinOptions = options
        operator.customOptions = None

    def _place(self, subgraph: int, tensor: Tensor) -> int:
        """Store a constant once; returns the index of its tensor."""
        assert tensor.data is not None and tensor.quantization is not None
        quantization = tensor.quantization
        digest = hashlib.sha256(tensor.data.tobytes())
        digest.update(repr(tensor.shape).encode() + quantization.scale.tobytes())
        content = digest.digest()
        key = (subgraph, tensor.index, content)
        if key not in self._placed:
            tensors = self._tree.subgraphs[subgraph].tensors
            if self._claimed.setdefault(key[:2], content) == content:
                self._placed[key] = tensor.index
            else:
                tensors.append(schema().TensorT())
                self._placed[key] = len(tensors) - 1
            self._fill(tensors[self._placed[key]], tensor, quantization)
        return self._placed[key]

    def _fill(self, item: Any, tensor: Tensor, quantization: Quantization) -> None:
        assert tensor.data is not None
        item.name = tensor.name
        item.shape = list(tensor.shape)
        item.shapeSignature = None
        item.type = enum_value("TensorType", tensor.type)
        item.buffer = add_buffer(self._tree, tensor.data)
        item.quantization = schema().QuantizationParametersT()
        item.quantization.scale = quantization.scale.astype(np.float32)
        item.quantization.zeroPoint = quantization.zero_point.astype(np.int64)
        item.quantization.quantizedDimension = quantization.axis
