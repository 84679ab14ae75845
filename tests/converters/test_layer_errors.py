"""What each level does to each layer."""

from __future__ import annotations

import numpy as np
import pytest

from converters.fitting import fit_levels
from converters.layer_errors import LayerErrors, hurting_most, measure_layer_errors, weight_errors
from converters.planning import plan_nesting
from converters.sensitivity import Scan
from tests.models import everything, network, random_inputs


@pytest.fixture(scope="module")
def fitted():
    source = network(2)
    x = random_inputs(source, 12)
    plans = plan_nesting(source.graph, everything((3, 5, 8)))
    levels = fit_levels(source.graph, plans, 3, [x])
    scales = {place: [level.scales for level in own] for place, own in levels.parameters.items()}
    return source.graph.main, levels, scales, x


def test_errors_fall_with_the_bits_and_vanish_at_the_source(fitted):
    subgraph, levels, scales, x = fitted
    errors = measure_layer_errors(subgraph, levels.filters, scales, [x])
    assert list(errors) == [item.plan.key for item in levels.filters]
    for item in errors.values():
        assert item.outputs[0] > item.outputs[1] > item.outputs[2] == 0
        assert item.weights[0] > item.weights[1] > item.weights[2] == 0
        assert item.loss > 0


def test_the_error_of_the_first_layer_by_hand(fitted):
    """Its inputs are the source's at every level, so the level itself shows it."""
    subgraph, levels, scales, x = fitted
    first = levels.filters[0]
    operator = subgraph.operators[first.plan.operators[0]]
    scan = Scan(subgraph, [x])
    values = scan.alone(operator, first.levels[0])
    source = scan.source[operator.outputs[0]].astype(float)
    expected = np.sqrt(np.mean((values - source) ** 2) / source.var())
    measured = measure_layer_errors(subgraph, [first], scales, [x[:8]])[first.plan.key].outputs[0]
    assert measured == pytest.approx(expected, rel=0.2)  # 8 of the 12 samples
    uncorrected = scan.alone(operator, first.levels[0], correct=False)
    assert np.mean((uncorrected - source) ** 2) > np.mean((values - source) ** 2)


def test_losses_that_are_known_are_not_measured_again(fitted):
    subgraph, levels, scales, x = fitted
    known = {item.plan.key: 7.0 for item in levels.filters[:2]}
    losses = [
        item.loss
        for item in measure_layer_errors(subgraph, levels.filters, scales, [x], losses=known).values()
    ]
    assert losses[:2] == [7.0, 7.0] and all(0 < loss < 7 for loss in losses[2:])


def test_weights_alone(fitted):
    _, levels, _, _ = fitted
    item = levels.filters[0]
    full = item.plan.tensor.data.astype(float)
    expected = np.sqrt(np.mean((item.levels[0] - full) ** 2) / np.mean(full**2))
    assert weight_errors(item).weights[0] == pytest.approx(expected)
    assert weight_errors(item) == LayerErrors((), weight_errors(item).weights, None)


def costs(*losses):
    return {(0, index): LayerErrors((), (0.1,), loss) for index, loss in enumerate(losses)}


def test_the_fewest_layers_that_make_up_half():
    assert hurting_most(costs(1.0, 5.0, 2.0, 2.0)) == [(0, 1)]
    assert hurting_most(costs(1.0, 4.0, 2.0, 3.0)) == [(0, 1), (0, 3)]
    assert hurting_most(costs(0.0, 0.0)) == []
    assert hurting_most({}) == []


def test_without_losses_the_squared_errors_of_the_weights_decide():
    errors = {(0, index): LayerErrors((), (error,), None) for index, error in enumerate((0.3, 0.2, 0.2))}
    assert hurting_most(errors) == [(0, 0)]
