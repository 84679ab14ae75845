"""Steps by divergence."""

from __future__ import annotations

from converters.search.layers import Layer
from converters.search.refinement import exchanged, lowered, raised

CHOICES = (2, 4, 6, 8)


def layer(weights: int, *divergence: float) -> Layer:
    return Layer(f"layer of {weights}", weights, weights, 0.1, dict(zip(CHOICES, divergence, strict=True)))


LAYERS = [layer(10, 1, 0.9, 0.5, 0), layer(1000, 1, 0.5, 0.2, 0), layer(100, 1, 0.2, 0.1, 0)]


def test_the_most_divergent_layers_are_raised() -> None:
    assert raised(LAYERS, (4, 4, 4), CHOICES) == (6, 6, 4)


def test_of_equally_divergent_layers_the_smaller_one_is_raised() -> None:
    assert raised(LAYERS, (2, 2, 2), CHOICES, 1) == (4, 2, 2)


def test_the_layers_that_would_diverge_least_are_lowered() -> None:
    assert lowered(LAYERS, (6, 6, 6), CHOICES, 1) == (6, 6, 4)
    assert lowered(LAYERS, (4, 4, 4), CHOICES, 1) == (4, 2, 4)


def test_per_weight_large_layers_go_first_down_and_last_up() -> None:
    assert lowered(LAYERS, (6, 6, 6), CHOICES, 1, per_weight=True) == (6, 4, 6)
    assert raised(LAYERS, (4, 4, 4), CHOICES, 1, per_weight=True) == (6, 4, 4)


def test_the_limits_hold() -> None:
    assert raised(LAYERS, (8, 8, 8), CHOICES) == (8, 8, 8)
    assert lowered(LAYERS, (2, 2, 2), CHOICES) == (2, 2, 2)
    assert raised(LAYERS, (8, 8, 6), CHOICES) == (8, 8, 8)


def test_an_exchange_moves_one_layer_each_way() -> None:
    before = (4, 4, 4)
    after = exchanged(LAYERS, before, CHOICES)
    assert after == (6, 2, 4)
