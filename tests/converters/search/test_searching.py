"""The search on accuracies that a formula gives."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import pytest

from converters.search.budgets import Budgets
from converters.search.costs import costs
from converters.search.layers import Layer
from converters.search.searching import CHOICES, Status, search_widths
from converters.search.trials import Trials
from tflnest.errors import BudgetError, FormatError, UsageError

#: Points that each layer loses at 2 bits; each further bit divides the loss.
HARM = (20.0, 8.0, 3.0, 1.0, 0.5, 6.0)
WEIGHTS = (100, 400, 2000, 8000, 16000, 500)


def layers() -> list[Layer]:
    return [
        Layer(
            f"layer_{number}",
            weights,
            weights * 10,
            0.02 * harm,
            {width: math.exp(-0.9 * (width - 2)) * harm / 20 if width < 8 else 0.0 for width in CHOICES},
        )
        for number, (harm, weights) in enumerate(zip(HARM, WEIGHTS, strict=True))
    ]


@dataclass
class Formula:
    """Accuracy falls with the harm of each layer's missing bits."""

    name: str = "formula"
    calls: int = 0

    def __call__(self, widths: tuple[int, ...]) -> float:
        self.calls += 1
        lost = sum(
            harm * math.exp(-0.9 * (width - 2)) for harm, width in zip(HARM, widths, strict=True) if width < 8
        )
        return 90.0 - lost

    def key(self) -> str:
        return self.name


def test_the_budgets_are_met_where_they_can_be() -> None:
    full = costs(layers(), (8,) * 6).bytes
    result = search_widths(layers(), Budgets(2.0, int(0.4 * full)), Trials(Formula()))
    assert result.status is Status.MET and not result.missed
    assert result.best.drop <= 2.0 and result.best.costs.bytes <= 0.4 * full
    assert set(result.widths) == {layer.name for layer in layers()}
    assert result.trajectory[0].phase == "full-bit"


@pytest.mark.parametrize("share", [0.3, 0.4, 0.55])
def test_it_is_never_worse_than_uniform_widths_of_the_same_size(share: float) -> None:
    full = costs(layers(), (8,) * 6).bytes
    result = search_widths(layers(), Budgets(0.0, int(share * full)), Trials(Formula()))
    fitting = [width for width in CHOICES if width / 8 <= share]
    assert result.best.accuracy >= max(Formula()((width,) * 6) for width in fitting)


def test_budgets_that_contradict_each_other_give_the_nearest_and_the_reason() -> None:
    full = costs(layers(), (8,) * 6).bytes
    result = search_widths(layers(), Budgets(0.01, int(0.26 * full)), Trials(Formula()))
    assert result.status is Status.NOT_MET
    assert any("accuracy drops by" in item or "bytes" in item for item in result.missed)


def test_a_budget_below_the_lowest_width_is_refused() -> None:
    with pytest.raises(BudgetError, match="2 bits everywhere take"):
        search_widths(layers(), Budgets(1.0, 10), Trials(Formula()))


def test_nothing_to_search_is_refused() -> None:
    with pytest.raises(UsageError, match="none nests"):
        search_widths([], Budgets(1.0, 10), Trials(Formula()))


def test_a_stopped_search_goes_on_where_it_was(tmp_path: Path) -> None:
    journal = tmp_path / "search.json"
    budgets = Budgets(2.0, 20000)

    class Stopping(Formula):
        def __call__(self, widths: tuple[int, ...]) -> float:
            if self.calls == 6:
                raise KeyboardInterrupt
            return super().__call__(widths)

    with pytest.raises(KeyboardInterrupt):
        search_widths(layers(), budgets, Trials(Stopping(), journal=journal))
    again, fresh = Formula(), Formula()
    resumed = search_widths(layers(), budgets, Trials(again, journal=journal))
    assert resumed == search_widths(layers(), budgets, Trials(fresh))
    assert again.calls == fresh.calls - 6


def test_the_journal_of_another_search_is_refused(tmp_path: Path) -> None:
    journal = tmp_path / "search.json"
    Trials(Formula(), journal=journal)([(8,) * 6])
    with pytest.raises(UsageError, match="belongs to a search of another model"):
        Trials(Formula("other"), journal=journal)


def test_a_corrupt_journal_is_refused(tmp_path: Path) -> None:
    journal = tmp_path / "search.json"
    journal.write_text('{"attempts": [')
    with pytest.raises(FormatError, match="no journal of a search"):
        Trials(Formula(), journal=journal)


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(UsageError, match="no backend 'spark'"):
        Trials(Formula(), backend="spark")


def test_attempts_run_side_by_side_and_give_the_same() -> None:
    budgets = Budgets(2.0, 20000)
    alone = search_widths(layers(), budgets, Trials(Formula()))
    together = search_widths(layers(), budgets, Trials(Formula(), jobs=2, backend="threading"))
    assert alone == together
