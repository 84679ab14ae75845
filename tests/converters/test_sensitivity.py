"""What a filter's width costs the model."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.planning import plan_nesting
from converters.recipe import load_recipe
from converters.sensitivity import (
    MAX_SAMPLES,
    MIN_SAMPLES,
    is_classifier,
    measure_sensitivities,
    output_loss,
    ranking_loss,
    relative_error,
    separate_losses,
    useful_samples,
)
from tests.models import NetworkBuilder, network, random_inputs
from tflnest.model import Model


@given(st.lists(st.floats(1e-9, 1e3), min_size=4, max_size=4))
def test_losses_fall_strictly_with_the_width(measured: list[float]) -> None:
    losses = separate_losses(dict(zip((2, 3, 4, 6), measured, strict=True)))
    assert sorted(losses) == list(range(1, 9))
    assert all(losses[width] > losses[width + 1] for width in range(1, 8))
    assert losses[8] == 0.0


def test_the_floor_is_taken_off() -> None:
    losses = separate_losses({2: 1.05, 3: 0.30, 4: 0.11, 6: 0.05})
    assert losses[2] == pytest.approx(1.0, rel=1e-2)
    assert losses[4] == pytest.approx(0.06, rel=1e-2)
    assert losses[5] == pytest.approx(losses[4] / 4, rel=1e-2)
    assert losses[1] == pytest.approx(4 * losses[2], rel=1e-2)


def test_fewer_bits_cost_more() -> None:
    model = network(3)
    planned = [plan for plan in plan_nesting(model.graph, load_recipe("uniform")) if plan.nesting]
    stages = []
    result = measure_sensitivities(
        model.graph.main, planned, [random_inputs(model, 16)], progress=lambda *event: stages.append(event)
    )
    assert [item.plan for item in result] == planned
    assert all(item.losses[2] > item.losses[6] for item in result)
    assert sum(item.losses[2] for item in result) > 4 * sum(item.losses[4] for item in result)
    assert stages[-1] == ("measuring sensitivity", len(planned), len(planned))


def test_small_models_are_measured_on_more_samples() -> None:
    model = network(3)
    planned = [plan for plan in plan_nesting(model.graph, load_recipe("uniform")) if plan.nesting]
    assert useful_samples(model.graph.main, planned, 3) == MAX_SAMPLES
    assert useful_samples(model.graph.main, planned, 10**9) == MIN_SAMPLES
    counts = [useful_samples(model.graph.main, planned, 10**power) for power in range(10)]
    assert counts == sorted(counts, reverse=True)


def test_equal_outputs_have_no_loss() -> None:
    subgraph = network(3).graph.main
    tensor = subgraph.output_tensors()[0]
    values = np.random.default_rng(0).integers(-128, 128, (5, tensor.size), dtype=np.int8)
    other = np.roll(values, 1, axis=1)
    assert output_loss(subgraph, tensor, values, values) == pytest.approx(0.0, abs=1e-12)
    assert output_loss(subgraph, tensor, values, other) > 0.0
    assert is_classifier(subgraph, tensor)


def test_every_output_counts() -> None:
    builder = NetworkBuilder(4)
    x = builder.flatten(builder.convolution(builder.start(), 8, name="stem"))
    first, second = builder.dense(x, 10, "first", True), builder.dense(x, 6, "second", True)
    model = Model.from_bytes(builder.build([first, second]))
    planned = [plan for plan in plan_nesting(model.graph, load_recipe("uniform")) if plan.nesting]
    losses = {
        item.plan.tensor.name: item.losses[2]
        for item in measure_sensitivities(model.graph.main, planned, [random_inputs(model, 16)])
    }
    assert len(losses) == 3
    assert min(losses.values()) > 1e-6


def test_classifiers_are_ranked_by_divergence_and_error() -> None:
    subgraph = network(3).graph.main
    tensor = subgraph.output_tensors()[0]
    values = np.random.default_rng(0).integers(-128, 128, (5, tensor.size), dtype=np.int8)
    other = np.clip(values.astype(int) + 7, -128, 127).astype(np.int8)
    expected = np.mean((other.astype(float) - values) ** 2) / values.astype(float).var()
    assert relative_error(tensor, values, other) == pytest.approx(expected)
    total = ranking_loss(subgraph, tensor, values, other)
    assert total == pytest.approx(output_loss(subgraph, tensor, values, other) + expected)
    image = subgraph.input_tensors()[0]
    assert ranking_loss(subgraph, image, values, other) == output_loss(subgraph, image, values, other)
