"""A training that goes on where rounding ended, instead of starting from the float weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from converters.quantization import WEIGHTED
from converters.training.quantizers import INT8_MAX
from tflnest.errors import UsageError
from tflnest.materialization import materialize
from tflnest.model import Model

if TYPE_CHECKING:
    from converters.training.network import NestedNetwork


def start_from(network: NestedNetwork, model: Model) -> None:
    """Give a network the filters, scales and biases of a converted model.

    Where the network has one level, its outputs are then those of the converted model, but for what calibration gave
    the activations; where it has several, the scales are those of the full-bit level, and each level has its biases.

    Args:
        network: Not trained yet.
        model: The same float model, converted by the network's recipe.

    Raises:
        UsageError: The model has other levels or other operators than the network.
    """
    levels = (None,) if model.directory is None else model.directory.levels
    if model.directory is not None and model.directory.levels != network.levels:
        raise UsageError(
            f"the network has the levels {', '.join(map(str, network.levels))}, "
            f"the converted model {', '.join(map(str, model.directory.levels))}"
        )
    for position, level in enumerate(levels):
        _take_level(network, model if level is None else materialize(model, level), position)


def _take_level(network: NestedNetwork, stock: Model, position: int) -> None:
    """Filters and scales, of which the last level's stay, and the biases of one level."""
    main = stock.graph.main
    operators = [operator for operator in main.operators if operator.name in WEIGHTED]
    filters = [network.filters[index] for index in sorted(network.filters)]
    if len(operators) != len(filters):
        raise UsageError(f"the network has {len(filters)} filters, the converted model {len(operators)}")
    for operator, trained in zip(operators, filters, strict=True):
        place = WEIGHTED[operator.name]
        tensor = main.tensors[operator.inputs[place.filter]]
        if tensor.data is None or tensor.quantization is None or tensor.shape != trained.weight_parts.shape:
            raise UsageError(f"filter {tensor.label} of the converted model is none of the network")
        own = tensor.quantization.scale.astype(np.float32)
        scale = np.broadcast_to(own, trained.initial_scale.size).reshape(trained.initial_scale.shape)
        trained.weight_parts.assign(tensor.data * scale / (trained.initial_scale * INT8_MAX))
        trained.logarithm.assign(np.log(scale / trained.initial_scale))
        if trained.biases:
            bias = main.tensors[operator.inputs[place.bias]].data
            products = main.tensors[operator.inputs[place.data]].scale * own.astype(np.float64)
            assert bias is not None
            trained.bias_parts[trained.own_position(position)].assign(bias * products / trained.bias_unit)
