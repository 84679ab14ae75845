"""Budgets and zones."""

from __future__ import annotations

import pytest

from converters.search.budgets import Budgets, Zone, check_reachable
from converters.search.costs import Costs
from tflnest.errors import BudgetError, ExitCode, UsageError

FULL = Costs(1000, 8000, 1.0, 4.2)


def spent(size: int, work: int = 100) -> Costs:
    return Costs(size, work, 1.0, 1.0)


@pytest.mark.parametrize(
    ("drop", "size", "zone"),
    [
        (0.5, 300, Zone.TARGET),
        (0.5, 500, Zone.DECREASE),
        (2.0, 300, Zone.INCREASE),
        (2.0, 500, Zone.ITERATION),
        (9.0, 700, Zone.ITERATION),
        (2.0, 900, Zone.ITERATION),
        (9.0, 900, Zone.ABANDON),
    ],
)
def test_zones(drop: float, size: int, zone: Zone) -> None:
    assert Budgets(1.0, 400).zone(drop, spent(size), FULL) is zone


def test_bit_operations_count_where_they_are_limited() -> None:
    budgets = Budgets(1.0, 400, 50)
    assert budgets.zone(0.0, spent(300, 60), FULL) is Zone.DECREASE
    assert budgets.zone(0.0, spent(300, 50), FULL) is Zone.TARGET


def test_what_is_missed_is_said_with_numbers() -> None:
    assert Budgets(1.0, 400, 50).missed(2.5, spent(500, 60)) == [
        "accuracy drops by 2.50 points, 1 are allowed",
        "the filters take 500 bytes, 400 are allowed",
        "an inference takes 60 bit operations, 50 are allowed",
    ]


@pytest.mark.parametrize(("size", "work"), [(0, None), (-1, None), (10, 0)])
def test_budgets_of_nothing_are_refused(size: int, work: int | None) -> None:
    with pytest.raises(UsageError, match="more than 0 was expected"):
        Budgets(1.0, size, work)


def test_a_negative_drop_is_refused() -> None:
    with pytest.raises(UsageError, match="0 or more points"):
        Budgets(-1.0, 10)


def test_unreachable_budgets_say_what_can_be_had() -> None:
    with pytest.raises(BudgetError, match="100 bytes: 2 bits everywhere take 250") as caught:
        check_reachable(Budgets(1.0, 100), spent(250), (2, 8))
    assert caught.value.exit_code is ExitCode.DOES_NOT_FIT
