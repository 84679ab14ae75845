"""BitOPs of networks whose widths are chosen."""

from __future__ import annotations

import numpy as np
import pytest

from converters.training.costs import costs


def test_costs_by_hand() -> None:
    measured = costs({0: 100, 1: 300, 2: 600}, {0: (8, 8)}, {1: [(2, 8), (8, 8)], 2: [(4, 4), (8, 8)]}, 50)
    assert measured.macs == 1000
    assert measured.fixed == pytest.approx(0.15)
    np.testing.assert_allclose(measured.choices, [[0.075, 0.3], [0.15, 0.6]])
    np.testing.assert_allclose(measured.of([[0, 0], [1, 0], [1, 1]]), [0.375, 0.6, 1.05], rtol=1e-6)
