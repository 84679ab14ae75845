"""Costs of assignments."""

from __future__ import annotations

import numpy as np
import pytest

from converters.search.costs import CostModel, Cycles, layer_bytes
from converters.search.layers import Layer, Rest, mean_bits
from tflnest.packing import pack

LAYERS = (Layer("a", 100, 1000, 0.1, {}), Layer("b", 300, 1000, 0.2, {}))


def test_bytes_are_those_of_the_file_and_bit_operations_are_counted() -> None:
    spent = CostModel(LAYERS)((8, 2))
    assert spent.bytes == 100 + len(pack(np.zeros(300, np.uint8), 2))
    assert spent.bit_operations == (1000 * 8 + 1000 * 2) * 8
    assert mean_bits(LAYERS, (8, 2)) == pytest.approx(3.5)


@pytest.mark.parametrize("width", range(1, 8))
def test_a_layer_takes_what_its_packed_codes_take(width: int) -> None:
    assert layer_bytes(LAYERS[1], width) == len(pack(np.zeros(300, np.uint8), width))


def test_filters_that_are_not_searched_count_at_8_bits() -> None:
    model = CostModel(LAYERS, Rest(50, 2000))
    assert model.full.bytes == 450
    assert model.full.bit_operations == (2000 + 2000) * 64
    assert model((2, 2)).bit_operations == (2000 * 8 + 2000 * 2) * 8
    assert model((2, 2)).energy == pytest.approx(0.638 + 0.056 * 5)


def test_cycles_are_summed_by_width_where_a_board_gives_them() -> None:
    model = CostModel(LAYERS, cycles=Cycles(({2: 5.0, 8: 7.0}, {2: 50.0, 8: 70.0}), 1000.0))
    assert model((2, 8)).cycles == 1075.0
    assert model((2, 8)).to_dict()["cycles_estimated"] == 1075.0
    assert "cycles_estimated" not in CostModel(LAYERS)((2, 8)).to_dict()


def test_the_fitted_unit_gives_the_published_savings() -> None:
    # ResNet-34, SigmaQuant: A8W2 saves 25.0 % energy, A8W4 13.8 %; A8W8 takes 4.2 times the latency.
    costs = CostModel(LAYERS)
    assert costs((2, 2)).energy == pytest.approx(1 - 0.250, abs=2e-3)
    assert costs((4, 4)).energy == pytest.approx(1 - 0.138, abs=2e-3)
    assert costs((8, 8)).latency == pytest.approx(4.2)
