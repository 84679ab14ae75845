"""Builds `.tflite` models of one operator, or of a short chain, from scratch.

graph = GraphBuilder()
x = graph.input((1, 8, 8, 3), scale=0.1, zero_point=-4)
y = graph.tensor((1, 8, 8, 3), scale=0.2, zero_point=3)
graph.operator("RELU", [x], [y])
content = graph.build([y])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tflnest.graph import DTYPES
from tflnest.model import add_buffer, opcode_index, pack_tree
from tflnest.schema import enum_value, schema

#: Name of the schema's options table of each operator that has one.
OPTIONS = {
    "ADD": "AddOptions",
    "ARG_MAX": "ArgMaxOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "CAST": "CastOptions",
    "CONCATENATION": "ConcatenationOptions",
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "DEQUANTIZE": "DequantizeOptions",
    "EXPAND_DIMS": "ExpandDimsOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "HARD_SWISH": "HardSwishOptions",
    "IF": "IfOptions",
    "L2_NORMALIZATION": "L2NormOptions",
    "LEAKY_RELU": "LeakyReluOptions",
    "MAXIMUM": "MaximumMinimumOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "MEAN": "ReducerOptions",
    "MINIMUM": "MaximumMinimumOptions",
    "MUL": "MulOptions",
    "PACK": "PackOptions",
    "PAD": "PadOptions",
    "PADV2": "PadV2Options",
    "QUANTIZE": "QuantizeOptions",
    "RESHAPE": "ReshapeOptions",
    "RESIZE_BILINEAR": "ResizeBilinearOptions",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions",
    "SHAPE": "ShapeOptions",
    "SLICE": "SliceOptions",
    "SOFTMAX": "SoftmaxOptions",
    "SPLIT": "SplitOptions",
    "SPLIT_V": "SplitVOptions",
    "SQUEEZE": "SqueezeOptions",
    "STRIDED_SLICE": "StridedSliceOptions",
    "SUB": "SubOptions",
    "SUM": "ReducerOptions",
    "TRANSPOSE": "TransposeOptions",
    "TRANSPOSE_CONV": "TransposeConvOptions",
    "UNPACK": "UnpackOptions",
}

#: Options whose values are given by name.
ENUMS = {"padding": "Padding", "fused_activation_function": "ActivationFunctionType"}

_TYPES = {dtype: name for name, dtype in DTYPES.items()}


def _camel(name: str) -> str:
    """`stride_w` -> `strideW`."""
    head, *tail = name.split("_")
    return head + "".join(part[:1].upper() + part[1:] for part in tail)


class GraphBuilder:
    """A model with one subgraph, tensor by tensor and operator by operator."""

    def __init__(self) -> None:
        module = schema()
        self.tree = module.ModelT()
        self.tree.version = 3
        self.tree.description = "single operator"
        self.tree.operatorCodes = []
        self.tree.buffers = [module.BufferT()]
        self.subgraph = module.SubGraphT()
        self.subgraph.name = "main"
        self.subgraph.tensors = []
        self.subgraph.operators = []
        self.tree.subgraphs = [self.subgraph]
        self._inputs: list[int] = []

    def tensor(
        self,
        shape: Sequence[int],
        type_name: str = "INT8",
        scale: ArrayLike | None = None,
        zero_point: ArrayLike = 0,
        axis: int = 0,
        buffer: int = 0,
    ) -> int:
        """Add a tensor and return its index; several scales mean per channel along `axis`."""
        module = schema()
        tensor = module.TensorT()
        tensor.name = f"tensor_{len(self.subgraph.tensors)}"
        tensor.shape = [int(dimension) for dimension in shape]
        tensor.type = enum_value("TensorType", type_name)
        tensor.buffer = buffer
        if scale is not None:
            scales = np.atleast_1d(np.asarray(scale, np.float32))
            tensor.quantization = module.QuantizationParametersT()
            tensor.quantization.scale = scales.tolist()
            points = np.broadcast_to(np.asarray(zero_point, np.int64), scales.shape)
            tensor.quantization.zeroPoint = points.tolist()
            tensor.quantization.quantizedDimension = axis
        self.subgraph.tensors.append(tensor)
        return len(self.subgraph.tensors) - 1

    def input(
        self,
        shape: Sequence[int],
        type_name: str = "INT8",
        scale: ArrayLike | None = None,
        zero_point: int = 0,
    ) -> int:
        """Add a tensor that the caller of the model fills."""
        index = self.tensor(shape, type_name, scale, zero_point)
        self._inputs.append(index)
        return index

    def constant(
        self, values: NDArray[Any], scale: ArrayLike | None = None, zero_point: ArrayLike = 0, axis: int = 0
    ) -> int:
        """Add a constant of the type of `values`."""
        values = np.asarray(values)
        buffer = add_buffer(self.tree, values)
        return self.tensor(values.shape, _TYPES[values.dtype], scale, zero_point, axis, buffer)

    def operator(
        self, name: str, inputs: Sequence[int], outputs: Sequence[int], version: int = 1, **options: Any
    ) -> int:
        """Add an operator; options are named as in `tflnest.graph.Operator.options`."""
        module = schema()
        operator = module.OperatorT()
        operator.opcodeIndex = opcode_index(self.tree, name, version)
        operator.inputs = list(inputs)
        operator.outputs = list(outputs)
        table = OPTIONS.get(name)
        if table is not None:
            operator.builtinOptionsType = enum_value("BuiltinOptions", table)
            operator.builtinOptions = getattr(module, f"{table}T")()
        for key, value in options.items():
            attribute = _camel(key)
            if not hasattr(operator.builtinOptions, attribute):
                raise ValueError(f"{name} has no option {key}")
            setattr(
                operator.builtinOptions, attribute, enum_value(ENUMS[key], value) if key in ENUMS else value
            )
        self.subgraph.operators.append(operator)
        return len(self.subgraph.operators) - 1

    def build(self, outputs: Sequence[int]) -> bytes:
        """Serialise the model."""
        self.subgraph.inputs = list(self._inputs)
        self.subgraph.outputs = list(outputs)
        return pack_tree(self.tree)
