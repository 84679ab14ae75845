"""The benchmark of dynamic widths: how it compares."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.dynamic import Point, at_best, at_most, hull, margin_points, table


def test_two_static_points_are_mixed_by_chance() -> None:
    points = [Point("low", 0.2, 0.6), Point("bad", 0.3, 0.5), Point("high", 0.6, 0.8)]
    assert hull(points, 0.4) == pytest.approx(0.7)
    assert hull(points, 0.6) == 0.8
    assert at_best(points, 0.5) == 0.6


def test_a_margin_pays_for_both_levels() -> None:
    low = np.array([[10, 0], [0, 2], [5, 0]], np.int8)
    high = np.array([[9, 0], [3, 0], [0, 4]], np.int8)
    y = np.array([0, 0, 0])
    points = margin_points(low, high, y, (0.25, 0.5))
    assert [(point.cost, point.top1) for point in points] == [
        (0.25, pytest.approx(2 / 3)),
        (pytest.approx(0.25 + 0.5 / 3), 1.0),
        (pytest.approx(0.25 + 1.0 / 3), pytest.approx(2 / 3)),
    ]
    assert at_most(points, 0.5) == 1.0


def test_tables() -> None:
    rows = [("a", "bb"), ("1.0", "2")]
    assert table(rows, True) == "|   a | bb |\n|----:|---:|\n| 1.0 |  2 |"
    assert "1.0" in table(rows, False)
