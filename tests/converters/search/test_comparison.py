"""A lead over uniform widths counts only where chance does not explain it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from converters.search.comparison import CHANCE, Comparison, paired_difference


def lead(value: float, challengers: int = 1) -> Comparison:
    return Comparison((4, 4), (2, 6), value, 1.0, challengers)


def test_differences_are_of_the_same_samples() -> None:
    first, second = np.array([3.0, 1.0, 2.0], np.float32), np.array([2.0, 1.0, 0.0], np.float32)
    mean, error = paired_difference(first, second)
    assert mean == 1.0 and error == pytest.approx(1 / math.sqrt(3))
    assert paired_difference(second, first) == (-mean, error)
    assert paired_difference(first, first) == (0.0, 0.0)
    assert paired_difference(first[:1], second[:1]) == (1.0, math.inf)
    assert paired_difference(np.array([True, False]), np.array([False, False]))[0] == 0.5


def test_the_best_of_many_needs_a_larger_lead() -> None:
    assert lead(1.0).needed == pytest.approx(1.6449, abs=1e-4)
    assert lead(1.0, 20).needed == pytest.approx(2.8070, abs=1e-4)
    assert lead(1.7).clear and not lead(1.7, 20).clear and lead(2.9, 20).clear
    assert not lead(1.6).clear and not lead(-5.0).clear


def test_without_spread_any_lead_is_clear_and_none_is_not() -> None:
    assert Comparison((4,), (2,), 1e-6, 0.0, 10).clear
    assert not Comparison((4,), (2,), 0.0, 0.0, 10).clear


def test_chance_seldom_beats_uniform_widths() -> None:
    """Of many searches whose attempts all are no better, about one of twenty takes one of them."""
    random = np.random.default_rng(0)
    searches, challengers, samples = 400, 15, 200
    won = 0
    for _ in range(searches):
        losses = random.normal(size=(challengers + 1, samples))
        best = losses[1:].mean(axis=1).argmin() + 1
        mean, error = paired_difference(losses[0], losses[best])
        won += Comparison((4, 4), (2, 6), mean, error, challengers).clear
    assert won / searches < 1.5 * CHANCE


def test_a_comparison_says_what_was_needed() -> None:
    document = lead(2.0, 20).to_dict()
    assert document["clear"] is False and document["standard_errors_needed"] == pytest.approx(2.807, abs=1e-3)
    assert document["uniform"] == [4, 4] and document["challenger"] == [2, 6]
