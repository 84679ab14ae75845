"""Costs of assignments."""

from __future__ import annotations

import pytest

from converters.search.costs import costs
from converters.search.layers import Layer, int8_bytes, mean_bits

LAYERS = [Layer("a", 100, 1000, 0.1, {}), Layer("b", 300, 1000, 0.2, {})]


def test_bytes_and_bit_operations_are_counted() -> None:
    spent = costs(LAYERS, (8, 2))
    assert spent.bytes == 100 + 75
    assert spent.bit_operations == (1000 * 8 + 1000 * 2) * 8
    assert mean_bits(LAYERS, (8, 2)) == pytest.approx(3.5)
    assert int8_bytes(LAYERS) == 400


def test_the_fitted_unit_gives_the_published_savings() -> None:
    # ResNet-34, SigmaQuant: A8W2 saves 25.0 % energy, A8W4 13.8 %; A8W8 takes 4.2 times the latency.
    assert costs(LAYERS, (2, 2)).energy == pytest.approx(1 - 0.250, abs=2e-3)
    assert costs(LAYERS, (4, 4)).energy == pytest.approx(1 - 0.138, abs=2e-3)
    assert costs(LAYERS, (8, 8)).latency == pytest.approx(4.2)
