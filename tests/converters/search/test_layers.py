"""What is known of layers before anything is tried."""

from __future__ import annotations

import numpy as np
import pytest

from converters.planning import plan_nesting
from converters.recipe import Recipe
from converters.search.layers import describe_layers
from converters.search.searching import CHOICES
from tests.models import network


def test_layers_have_their_work_spread_and_divergence() -> None:
    graph = network().graph
    planned = plan_nesting(graph, Recipe())
    layers = describe_layers(graph.main, planned, CHOICES)
    assert [layer.name for layer in layers] == [plan.tensor.name for plan in planned]
    for layer, plan in zip(layers, planned, strict=True):
        operator = graph.main.operators[plan.operators[0]]
        output = graph.main.tensors[operator.outputs[0]].shape
        pixels = 1 if operator.name == "FULLY_CONNECTED" else output[1] * output[2]
        assert layer.macs == layer.weights * pixels
        scale = plan.tensor.quantization.scale
        shape = [-1 if axis == plan.tensor.quantization.axis else 1 for axis in range(plan.tensor.data.ndim)]
        real = plan.tensor.data * (scale.reshape(shape) if scale.size > 1 else scale)
        assert layer.sigma == pytest.approx(real.std(), rel=1e-6)
        values = [layer.divergence[width] for width in CHOICES]
        assert values[0] == pytest.approx(1.0) and values[-1] == pytest.approx(0.0, abs=1e-9)
        assert values[0] > values[2] >= values[3]


def test_float_weights_stand_for_the_int8_ones_where_there_are_any() -> None:
    graph = network().graph
    planned = plan_nesting(graph, Recipe())[:1]
    name, data = planned[0].tensor.name, planned[0].tensor.data
    steps = {name: 2.0 * data.astype(np.float64)}
    plain = describe_layers(graph.main, planned, CHOICES)[0]
    assert describe_layers(graph.main, planned, CHOICES, steps)[0].sigma == pytest.approx(2 * plain.sigma)
