"""BitOPs of networks whose widths are chosen."""

from __future__ import annotations

import numpy as np
import pytest

from converters.training.costs import costs, multiply_accumulates
from tests.models import NetworkBuilder


def test_multiply_accumulates_by_hand() -> None:
    net = NetworkBuilder(0)
    y = net.depthwise(net.convolution(net.start(), 16), stride=2)
    operators = net.finish(net.dense(net.flatten(y), 10)).graph.main
    counts = [multiply_accumulates(operators, item) for item in operators.operators if item.name != "RESHAPE"]
    assert counts == [8 * 8 * 16 * 27, 4 * 4 * 16 * 9, 10 * 4 * 4 * 16]


def test_costs_by_hand() -> None:
    measured = costs({0: 100, 1: 300, 2: 600}, {0: (8, 8)}, {1: [(2, 8), (8, 8)], 2: [(4, 4), (8, 8)]}, 50)
    assert measured.macs == 1000
    assert measured.fixed == pytest.approx(0.15)
    np.testing.assert_allclose(measured.choices, [[0.075, 0.3], [0.15, 0.6]])
    np.testing.assert_allclose(measured.of([[0, 0], [1, 0], [1, 1]]), [0.375, 0.6, 1.05], rtol=1e-6)
