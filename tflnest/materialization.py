"""Write a level of a nested model back as a stock int8 model.

That is how every level is checked against engines that tflnest did not write, and how it is taken to
toolchains that want a plain `.tflite`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tflnest import container
from tflnest.errors import UsageError
from tflnest.graph import Tensor
from tflnest.model import Model, add_buffer, opcode_index
from tflnest.nested import NestedOperator, StockForm, nested_operators
from tflnest.pruning import prune
from tflnest.schema import enum_value, schema

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
        A plain model: the same subgraphs, tensors and signatures, with stock operators and int8 filters.

    Raises:
        UsageError: The model is not nested, or has no such level.
    """
    directory = source.directory
    if directory is None:
        raise UsageError("the model is not nested: there is nothing to materialize")
    if level is None:
        level = directory.levels[-1]
    if level not in directory.levels:
        raise UsageError(f"the model has no level {level}, it has {', '.join(map(str, directory.levels))}")
    model_level = directory.levels.index(level)
    model = source.copy()
    forms = []
    for subgraph, nested in nested_operators(source.graph):
        form = nested.stock_form(subgraph, nested.level_at(model_level), _file_data)
        forms.append((model.tree.subgraphs[subgraph.index], nested, form))
    claimed: dict[tuple[int, int], bytes] = {}
    for tree_subgraph, nested, form in forms:
        _replace(model.tree, tree_subgraph, nested, form, claimed)
    kept = [entry for entry in model.tree.metadata if _name(entry) != container.METADATA_NAME]
    model.tree.metadata = kept or None
    prune(model.tree)
    model.changed()
    return Model.from_bytes(model.to_bytes())


def _file_data(tensor: Tensor) -> Any:
    return tensor.data


def _name(entry: Any) -> str:
    return entry.name.decode("utf-8", errors="replace") if isinstance(entry.name, bytes) else entry.name or ""


def _replace(
    tree: Any, subgraph: Any, nested: NestedOperator, form: StockForm, claimed: dict[tuple[int, int], bytes]
) -> None:
    """Turn one nested operator of the tree into the stock operator."""
    operator = subgraph.operators[nested.operator.index]
    filter_index = _place(tree, subgraph, form.filter, claimed)
    bias_index = _place(tree, subgraph, form.bias, claimed)
    operator.opcodeIndex = opcode_index(tree, nested.stock, nested.stock_version)
    operator.inputs = [nested.operator.inputs[0], filter_index, bias_index]
    table = OPTIONS_TABLES[nested.stock]
    options = getattr(schema(), f"{table}T")()
    for name, value in nested.options.items():
        number = enum_value(_ENUMS[name], value) if name in _ENUMS else value
        setattr(options, _ATTRIBUTES[name], bool(number) if name == "keep_num_dims" else number)
    operator.builtinOptionsType = enum_value("BuiltinOptions", table)
    operator.builtinOptions = options
    operator.customOptions = None


def _place(tree: Any, subgraph: Any, tensor: Tensor, claimed: dict[tuple[int, int], bytes]) -> int:
    """Store a constant in the tensor that it came from, or in a new one where another operator took that."""
    assert tensor.data is not None and tensor.quantization is not None
    quantization = tensor.quantization
    content = tensor.data.tobytes() + quantization.scale.tobytes()
    key = (id(subgraph), tensor.index)
    if claimed.setdefault(key, content) == content:
        index = tensor.index
    else:
        subgraph.tensors.append(schema().TensorT())
        index = len(subgraph.tensors) - 1
    item = subgraph.tensors[index]
    item.name = tensor.name
    item.shape = list(tensor.shape)
    item.shapeSignature = None
    item.type = enum_value("TensorType", tensor.type)
    item.buffer = add_buffer(tree, tensor.data)
    item.quantization = schema().QuantizationParametersT()
    item.quantization.scale = quantization.scale.astype(np.float32)
    item.quantization.zeroPoint = quantization.zero_point.astype(np.int64)
    item.quantization.quantizedDimension = quantization.axis
    return index
