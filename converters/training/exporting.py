"""From a trained network to a nested int8 model that computes the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from converters.affine import quantize_bias
from converters.nest import drop_names, nest
from converters.parameters import LevelParameters, Parameters
from converters.planning import RoundedFilter, plan_nesting, round_filter, source_bias
from converters.quantization import WEIGHTED, quantize_with
from converters.training.preparation import activation_plan
from tflnest.graph import Graph
from tflnest.model import Model
from tflnest.nesting import MASTER_BITS

if TYPE_CHECKING:
    from converters.training.network import NestedNetwork, TrainedFilter


def export_nested(network: NestedNetwork) -> Model:
    """The nested int8 model of a trained network.

    The codes of the filters, the scales and the zero points are those of the training's forward pass; what
    differs is the requantization, which rounds in fixed point.

    Args:
        network: Trained or not.
    """
    preparation = network.preparation
    model = preparation.model.copy()
    scales: dict[int, NDArray[np.float32]] = {}
    for index, trained in network.filters.items():
        _write_filter(model, index, trained, scales)
    plan = activation_plan(preparation, network.activation_scales())
    model = Model.from_bytes(model.to_bytes())
    int8 = quantize_with(model, plan, scales=scales).model
    rounded = [
        round_filter(item, 0, method="truncate")
        for item in plan_nesting(int8.graph, preparation.recipe)
        if item.nesting is not None
    ]
    nested = nest(int8, rounded, _parameters(int8.graph, rounded, network), preparation.recipe)
    return drop_names(nested) if len(nested.to_bytes()) > len(int8.to_bytes()) else nested


def _write_filter(
    model: Model, operator_index: int, trained: TrainedFilter, scales: dict[int, NDArray[np.float32]]
) -> None:
    """Put the trained weights and the full-bit bias in the place of the float ones."""
    operator = model.graph.main.operators[operator_index]
    place = WEIGHTED[operator.name]
    tensors = model.tree.subgraphs[0].tensors
    scale = _numpy(trained.scales())
    filter_index = operator.inputs[place.filter]
    scales[filter_index] = scale.reshape(-1)
    codes = np.rint(np.clip(_numpy(trained.weights) / scale, -127, 127))
    _write(model, tensors[filter_index], codes.astype(np.float32) * scale)
    if trained.biases:
        bias = _numpy(trained.biases[-1])
        _write(model, tensors[operator.inputs[place.bias]], bias)


def _write(model: Model, tensor: Any, values: NDArray[np.float32]) -> None:
    model.tree.buffers[tensor.buffer].data = np.frombuffer(values.astype("<f4").tobytes(), np.uint8)
    model.changed()


def _parameters(graph: Graph, filters: list[RoundedFilter], network: NestedNetwork) -> Parameters:
    """Of every level of every nested operator: the trained bias, and the width at which activations are read."""
    trained = _by_position(network.filters)
    weighted = [operator.index for operator in graph.main.operators if operator.name in WEIGHTED]
    parameters: Parameters = {}
    for rounded in filters:
        for index in rounded.plan.operators:
            operator = graph.main.operators[index]
            source = graph.main.tensors[operator.inputs[0]]
            assert rounded.plan.tensor.quantization is not None and rounded.plan.nesting is not None
            products = source.scale * rounded.plan.tensor.quantization.scale.astype(np.float64)
            biases = trained[weighted.index(index)].biases
            integers = [quantize_bias(_numpy(bias), products) for bias in biases]
            narrow = network.options.activations
            parameters[0, index] = [
                LevelParameters(bias, activation_bits=level if narrow else MASTER_BITS)
                for level, bias in zip(
                    rounded.plan.nesting.levels,
                    integers or [source_bias(graph.main, operator)] * len(rounded.levels),
                    strict=True,
                )
            ]
    return parameters


def _by_position(filters: Mapping[int, TrainedFilter]) -> list[TrainedFilter]:
    """Trained filters in the order of their operators, which quantization keeps."""
    return [filters[index] for index in sorted(filters)]


def _numpy(values: Any) -> NDArray[np.float32]:
    return np.asarray(ops.convert_to_numpy(values), np.float32)
