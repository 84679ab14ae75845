"""From a trained controller to int8 operators in the nested file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from converters.activations import ActivationPlan
from converters.affine import Affine
from converters.quantization import quantize_with
from converters.training.controller import HIDDEN, LOGITS, filter_scales
from converters.training.exporting import export_nested
from tflnest import controller
from tflnest.model import Model, add_constant, opcode_index
from tflnest.schema import enum_value, schema

if TYPE_CHECKING:
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
    """MEAN over height and width, and two FULLY_CONNECTED."""
    (first, first_bias), (second, second_bias) = network.controller.layers_now()
    layers = [_numpy(first), _numpy(first_bias), *network.per_operator(_numpy(second), _numpy(second_bias))]
    builder = _FloatController(stem.shape)
    pooled = builder.mean()
    hidden = builder.dense(pooled, layers[0], layers[1], "RELU")
    logits = builder.dense(hidden, layers[2], layers[3], "NONE")
    affines = {
        0: Affine(stem.scale, stem.zero_point),
        pooled: network.controller.features.affine,
        hidden: HIDDEN,
        logits: LOGITS,
    }
    plan = ActivationPlan(affines, (), {index: index for index in affines}, frozenset())
    scales = {index: _scales(values) for index, values in builder.filters.items()}
    return quantize_with(builder.finish(logits), plan, scales=scales).model


class _FloatController:
    """Builds the float model whose quantization is the controller."""

    def __init__(self, shape: Sequence[int]) -> None:
        module = schema()
        self.tree = module.ModelT()
        self.tree.version = 3
        self.tree.buffers, self.tree.operatorCodes = [module.BufferT()], []
        self.subgraph = module.SubGraphT()
        self.subgraph.tensors, self.subgraph.operators = [], []
        self.tree.subgraphs = [self.subgraph]
        self.filters: dict[int, NDArray[np.float32]] = {}
        self._channels = shape[3]
        self.subgraph.inputs = [self._activation(shape, "stem")]

    def mean(self) -> int:
        """MEAN of the stem over height and width; returns the tensor."""
        axes = add_constant(self.tree, self.subgraph, np.asarray([1, 2], np.int32), "INT32", "axes")
        options = schema().ReducerOptionsT()
        options.keepDims = False
        return self._operator("MEAN", [0, axes], self._channels, "ReducerOptions", options)

    def dense(self, source: int, weights: NDArray[np.float32], bias: NDArray[np.float32], fused: str) -> int:
        """FULLY_CONNECTED; returns the tensor."""
        constants = [
            add_constant(self.tree, self.subgraph, values, "FLOAT32", f"{what}_{source}")
            for what, values in (("filter", weights), ("bias", bias))
        ]
        self.filters[constants[0]] = weights
        options = schema().FullyConnectedOptionsT()
        options.fusedActivationFunction = enum_value("ActivationFunctionType", fused)
        inputs = [source, *constants]
        return self._operator("FULLY_CONNECTED", inputs, len(weights), "FullyConnectedOptions", options)

    def finish(self, logits: int) -> Model:
        """The model, with one output."""
        self.subgraph.outputs = [logits]
        return Model.from_bytes(Model(self.tree).to_bytes())

    def _operator(self, name: str, inputs: Sequence[int], channels: int, kind: str, options: Any) -> int:
        item = schema().OperatorT()
        item.opcodeIndex = opcode_index(self.tree, name)
        output = self._activation((1, channels), f"{name.lower()}_{inputs[0]}")
        item.inputs, item.outputs = np.asarray(inputs, np.int32), np.asarray([output], np.int32)
        item.builtinOptionsType, item.builtinOptions = enum_value("BuiltinOptions", kind), options
        self.subgraph.operators.append(item)
        return output

    def _activation(self, shape: Sequence[int], name: str) -> int:
        tensor = schema().TensorT()
        tensor.name, tensor.shape = name, list(shape)
        tensor.type = enum_value("TensorType", "FLOAT32")
        self.subgraph.tensors.append(tensor)
        return len(self.subgraph.tensors) - 1


def _scales(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    return _numpy(filter_scales(weights)).reshape(-1)


def _numpy(values: Any) -> NDArray[np.float32]:
    return np.asarray(ops.convert_to_numpy(values), np.float32)
