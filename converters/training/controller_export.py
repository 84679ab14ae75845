"""From a trained controller to int8 operators in the nested file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from converters.activations import ActivationPlan
from converters.affine import UNIT, Affine
from converters.quantization import quantize_with
from converters.training.classifier import STRIDE
from converters.training.controller import HIDDEN, LOGITS, filter_scales
from converters.training.exporting import export_nested
from tflnest import controller
from tflnest.model import Model, add_constant, opcode_index
from tflnest.schema import enum_value, schema

if TYPE_CHECKING:
    from converters.training.classifier import StemClassifier
    from converters.training.dynamic import DynamicNetwork
    from tflnest.graph import Tensor


@dataclass(frozen=True)
class ExportedController:
    """A controller as a model of its own, and what its outputs mean.

    Attributes:
        model: int8: a map like the stem's in, a logit for each choice of each operator out.
        stem: The tensor of the nested model that it reads.
        operators: The operators of the nested model that it chooses for.
        choices: (level, activation bits) of each choice.
    """

    model: Model
    stem: int
    operators: tuple[int, ...]
    choices: tuple[tuple[int, int], ...]


def export_dynamic(network: DynamicNetwork) -> Model:
    """The nested int8 model of a trained dynamic network, its controller included."""
    nested = export_nested(network.network)
    exported = export_controller(network, nested)
    return controller.attach(nested, exported.model, exported.stem, exported.operators, exported.choices)


def export_controller(network: DynamicNetwork, nested: Model) -> ExportedController:
    """The controller of a dynamic network for its nested model.

    Args:
        network: Trained or not.
        nested: What `export_nested` makes of its network.
    """
    # Quantization puts operators of its own between those of the float graph, and keeps their order.
    kept = [operator for operator in nested.graph.main.operators if operator.name != "QUANTIZE"]
    source = network.network.preparation.subgraph
    writer = next(item for item in source.operators if network.stem.tensor in item.outputs)
    stem = kept[writer.index].outputs[writer.outputs.index(network.stem.tensor)]
    return ExportedController(
        _int8_controller(network, nested.graph.main.tensors[stem]),
        stem,
        tuple(kept[index].index for index in network.stem.operators),
        network.choices,
    )


def _int8_controller(network: DynamicNetwork, stem: Tensor) -> Model:
    """The features, MEAN over height and width or a classifier, and two FULLY_CONNECTED."""
    (first, first_bias), (second, second_bias) = network.controller.layers_now()
    layers = [_numpy(first), _numpy(first_bias), *network.per_operator(_numpy(second), _numpy(second_bias))]
    builder = ControllerBuilder(stem.shape, Affine(stem.scale, stem.zero_point))
    if network.classifier is None:
        features = builder.mean(network.controller.features.affine)
    else:
        features = add_classifier(builder, network.classifier)
    hidden = builder.dense(features, layers[0], layers[1], "RELU", HIDDEN)
    logits = builder.dense(hidden, layers[2], layers[3], "NONE", LOGITS)
    return builder.quantized(logits)


def add_classifier(builder: ControllerBuilder, classifier: StemClassifier) -> int:
    """Put a classifier behind the stem; returns the tensor of its probabilities."""
    layers = [(_numpy(weights), _numpy(bias)) for weights, bias in classifier.layers_now()]
    affines = classifier.affines()
    values = 0 if classifier.pool == (1, 1) else builder.average_pool(classifier.pool)
    for (weights, bias), affine in zip(layers[:-1], affines[:-1], strict=True):
        values = builder.convolution(values, weights, bias, affine)
    logits = builder.dense(builder.flat(values), *layers[-1], "NONE", affines[-1])
    return builder.softmax(logits)


class ControllerBuilder:
    """Builds the float model whose quantization is the controller.

    Args:
        shape: Of the stem, (1, height, width, channels).
        affine: Quantization of the stem.
    """

    def __init__(self, shape: Sequence[int], affine: Affine) -> None:
        module = schema()
        self.tree = module.ModelT()
        self.tree.version = 3
        self.tree.buffers, self.tree.operatorCodes = [module.BufferT()], []
        self.subgraph = module.SubGraphT()
        self.subgraph.tensors, self.subgraph.operators = [], []
        self.tree.subgraphs = [self.subgraph]
        self.filters: dict[int, NDArray[np.float32]] = {}
        self.affines: dict[int, Affine] = {}
        self.subgraph.inputs = [self._activation(shape, "stem", affine)]

    def mean(self, affine: Affine) -> int:
        """MEAN of the stem over height and width; returns the tensor, as all of these do."""
        axes = self._constant(np.asarray([1, 2], np.int32), "axes")
        options = schema().ReducerOptionsT()
        options.keepDims = False
        shape = (1, self._shape(0)[3])
        return self._operator("MEAN", [0, axes], shape, affine, "ReducerOptions", options)

    def average_pool(self, size: tuple[int, int]) -> int:
        """AVERAGE_POOL_2D of the stem, without overlap."""
        options = schema().Pool2DOptionsT()
        options.padding = enum_value("Padding", "VALID")
        options.filterHeight, options.filterWidth = options.strideH, options.strideW = size
        _, height, width, channels = self._shape(0)
        shape = (1, height // size[0], width // size[1], channels)
        return self._operator("AVERAGE_POOL_2D", [0], shape, self.affines[0], "Pool2DOptions", options)

    def convolution(
        self, source: int, weights: NDArray[np.float32], bias: NDArray[np.float32], affine: Affine
    ) -> int:
        """CONV_2D with the classifier's stride, and RELU."""
        options = schema().Conv2DOptionsT()
        options.padding = enum_value("Padding", "SAME")
        options.strideH = options.strideW = STRIDE
        options.dilationHFactor = options.dilationWFactor = 1
        options.fusedActivationFunction = enum_value("ActivationFunctionType", "RELU")
        size = [-(-length // STRIDE) for length in self._shape(source)[1:3]]
        shape = (1, *size, len(weights))
        inputs = [source, *self._parameters(source, weights, bias)]
        return self._operator("CONV_2D", inputs, shape, affine, "Conv2DOptions", options)

    def flat(self, source: int) -> int:
        """RESHAPE to one row."""
        shape = (1, math.prod(self._shape(source)))
        options = schema().ReshapeOptionsT()
        options.newShape = list(shape)
        inputs = [source, self._constant(np.asarray(shape, np.int32), f"shape_{source}")]
        return self._operator("RESHAPE", inputs, shape, self.affines[source], "ReshapeOptions", options)

    def dense(
        self,
        source: int,
        weights: NDArray[np.float32],
        bias: NDArray[np.float32],
        fused: str,
        affine: Affine,
    ) -> int:
        """FULLY_CONNECTED."""
        options = schema().FullyConnectedOptionsT()
        options.fusedActivationFunction = enum_value("ActivationFunctionType", fused)
        inputs = [source, *self._parameters(source, weights, bias)]
        shape = (1, len(weights))
        return self._operator("FULLY_CONNECTED", inputs, shape, affine, "FullyConnectedOptions", options)

    def softmax(self, source: int) -> int:
        """SOFTMAX."""
        options = schema().SoftmaxOptionsT()
        options.beta = 1.0
        return self._operator("SOFTMAX", [source], self._shape(source), UNIT, "SoftmaxOptions", options)

    def quantized(self, output: int) -> Model:
        """The int8 model that gives one of the tensors."""
        self.subgraph.outputs = [output]
        model = Model.from_bytes(Model(self.tree).to_bytes())
        plan = ActivationPlan(self.affines, (), {index: index for index in self.affines}, frozenset())
        scales = {index: _scales(values) for index, values in self.filters.items()}
        return quantize_with(model, plan, scales=scales).model

    def _parameters(
        self, source: int, weights: NDArray[np.float32], bias: NDArray[np.float32]
    ) -> tuple[int, int]:
        """Filter and bias as constants."""
        place = self._constant(weights, f"filter_{source}"), self._constant(bias, f"bias_{source}")
        self.filters[place[0]] = weights
        return place

    def _constant(self, values: NDArray[Any], name: str) -> int:
        return add_constant(self.tree, self.subgraph, values, values.dtype.name.upper(), name)

    def _operator(
        self, name: str, inputs: Sequence[int], shape: Sequence[int], affine: Affine, kind: str, options: Any
    ) -> int:
        item = schema().OperatorT()
        item.opcodeIndex = opcode_index(self.tree, name)
        output = self._activation(shape, f"{name.lower()}_{inputs[0]}", affine)
        item.inputs, item.outputs = np.asarray(inputs, np.int32), np.asarray([output], np.int32)
        item.builtinOptionsType, item.builtinOptions = enum_value("BuiltinOptions", kind), options
        self.subgraph.operators.append(item)
        return output

    def _activation(self, shape: Sequence[int], name: str, affine: Affine) -> int:
        tensor = schema().TensorT()
        tensor.name, tensor.shape = name, list(shape)
        tensor.type = enum_value("TensorType", "FLOAT32")
        self.subgraph.tensors.append(tensor)
        index = len(self.subgraph.tensors) - 1
        self.affines[index] = affine
        return index

    def _shape(self, tensor: int) -> tuple[int, ...]:
        return tuple(self.subgraph.tensors[tensor].shape)


def _scales(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    return _numpy(filter_scales(weights.reshape(len(weights), -1))).reshape(-1)


def _numpy(values: Any) -> NDArray[np.float32]:
    return np.asarray(ops.convert_to_numpy(values), np.float32)
