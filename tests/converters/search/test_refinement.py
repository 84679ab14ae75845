"""Steps by divergence, and assignments that fill a budget."""

from __future__ import annotations

import itertools
from dataclasses import replace

from converters.search.refinement import Ranking

CHOICES = (2, 4, 6, 8)
HARM = ((1, 0.9, 0.5, 0), (1, 0.5, 0.2, 0), (1, 0.2, 0.1, 0))
PLAIN = Ranking(tuple(dict(zip(CHOICES, row, strict=True)) for row in HARM), (10, 1000, 100), CHOICES)
PER_WEIGHT = replace(PLAIN, per_weight=True)


def bits(widths) -> int:
    return sum(size * width for size, width in zip(PLAIN.sizes, widths, strict=True))


def within(limit: int):
    return lambda widths: bits(widths) <= limit


def test_the_most_divergent_layers_are_raised() -> None:
    assert PLAIN.raised((4, 4, 4)) == (6, 6, 4)


def test_of_equally_divergent_layers_the_smaller_one_is_raised() -> None:
    assert PLAIN.raised((2, 2, 2), 1) == (4, 2, 2)


def test_the_layers_that_would_diverge_least_are_lowered() -> None:
    assert PLAIN.lowered((6, 6, 6), 1) == (6, 6, 4)
    assert PLAIN.lowered((4, 4, 4), 1) == (4, 2, 4)


def test_layers_that_are_fixed_stay() -> None:
    assert PLAIN.lowered((6, 6, 6), 1, fixed=[2]) == (6, 4, 6)


def test_per_weight_large_layers_go_first_down_and_last_up() -> None:
    assert PER_WEIGHT.lowered((6, 6, 6), 1) == (6, 4, 6)
    assert PER_WEIGHT.raised((4, 4, 4)) == (6, 4, 6)


def test_the_limits_hold() -> None:
    assert PLAIN.raised((8, 8, 8)) == (8, 8, 8)
    assert PLAIN.lowered((2, 2, 2)) == (2, 2, 2)
    assert PLAIN.raised((8, 8, 6)) == (8, 8, 8)


def test_an_exchange_moves_one_layer_each_way() -> None:
    assert PLAIN.exchanged((4, 4, 4)) == (6, 2, 4)


def test_filling_leaves_no_room_for_another_step_and_does_the_least_harm() -> None:
    for limit in (2500, 3000, 4500, 5000, 7000):
        filled = PER_WEIGHT.filled((2, 2, 2), within(limit))
        assert bits(filled) <= limit
        for number, width in enumerate(filled):
            larger = [choice for choice in CHOICES if choice > width]
            assert all(bits((*filled[:number], choice, *filled[number + 1 :])) > limit for choice in larger)
    assert PER_WEIGHT.filled((2, 2, 2), within(3000)) == (8, 2, 8)


def test_shrinking_ends_within_the_budget_or_says_that_it_cannot() -> None:
    shrunk = PER_WEIGHT.shrunk((8, 8, 8), within(4900))
    assert shrunk is not None and bits(shrunk) <= 4900
    assert PER_WEIGHT.shrunk((8, 8, 8), within(3000), fixed=[1]) is None


def test_neighbours_fit_differ_and_come_by_their_harm() -> None:
    start = PER_WEIGHT.filled((2, 2, 2), within(5000))
    found = PER_WEIGHT.neighbours(start, within(5000))
    assert found and start not in found and len(set(found)) == len(found)
    assert all(bits(widths) <= 5000 for widths in found)
    totals = [PER_WEIGHT.total(widths) for widths in found]
    assert all(low <= high for low, high in itertools.pairwise(totals))
