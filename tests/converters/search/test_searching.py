"""The search on accuracies that a formula gives."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from converters.search.budgets import Budgets, Zone
from converters.search.costs import CostModel
from converters.search.layers import Layer
from converters.search.searching import CHOICES, PAPER, Ending, Goal, Method, Status, search_widths
from converters.search.trials import Score, Trials
from tflnest.errors import BudgetError, FormatError, UsageError

#: Points that each layer loses at 2 bits; each further bit divides the loss.
HARM = (20.0, 8.0, 3.0, 1.0, 0.5, 6.0)
WEIGHTS = (100, 400, 2000, 8000, 16000, 500)


def falling(harm: float) -> dict[int, float]:
    return {width: math.exp(-0.9 * (width - 2)) * harm / 20 if width < 8 else 0.0 for width in CHOICES}


def model(losses: bool = True) -> CostModel:
    return CostModel(
        tuple(
            Layer(
                f"layer_{number}",
                weights,
                weights * 10,
                0.02 * harm,
                falling(harm),
                falling(harm) if losses else None,
            )
            for number, (harm, weights) in enumerate(zip(HARM, WEIGHTS, strict=True))
        )
    )


FULL = model().full.bytes


def scored(accuracy: float) -> Score:
    return Score(accuracy, np.full(4, (100 - accuracy) / 50, np.float32))


@dataclass
class Formula:
    """Accuracy falls with the harm of each layer's missing bits."""

    name: str = "formula"
    calls: int = 0

    def __call__(self, widths: tuple[int, ...]) -> Score:
        self.calls += 1
        lost = sum(
            harm * math.exp(-0.9 * (width - 2)) for harm, width in zip(HARM, widths, strict=True) if width < 8
        )
        return scored(90.0 - lost)

    def key(self) -> str:
        return self.name


def test_the_budgets_are_met_where_they_can_be() -> None:
    result = search_widths(model(), Budgets(2.0, int(0.4 * FULL)), Trials(Formula()))
    assert result.status is Status.MET and not result.missed
    assert result.best.drop <= 2.0 and result.best.costs.bytes <= 0.4 * FULL
    assert set(result.widths) == {layer.name for layer in model().layers}
    assert result.trajectory[0].phase == "full-bit"
    assert result.path[0] == result.trajectory[0] and set(result.path) <= set(result.trajectory)
    assert result.best in result.path


@pytest.mark.parametrize("share", [0.3, 0.4, 0.55])
def test_it_is_never_worse_than_uniform_widths_of_the_same_size(share: float) -> None:
    result = search_widths(model(), Budgets(0.0, int(share * FULL)), Trials(Formula()))
    fitting = [width for width in CHOICES if width / 8 <= share]
    assert result.best.accuracy >= max(Formula()((width,) * 6).accuracy for width in fitting)


@dataclass
class Noisy(Formula):
    """All assignments but the narrowest ones are equally good; samples differ, and so does the luck of each."""

    gain: float = 0.0
    full: float = 80.0

    def __call__(self, widths: tuple[int, ...]) -> Score:
        random = np.random.default_rng(list(widths))
        losses = random.normal(1.0, 1.0, 400) - self.gain * (len(set(widths)) > 1)
        accuracy = self.full if widths == (8,) * 6 else 80.0 if min(widths) > 2 else 70.0
        return Score(accuracy, losses.astype(np.float32))


def test_uniform_widths_stay_where_the_lead_of_others_may_be_chance() -> None:
    result = search_widths(model(), Budgets(0.0, int(0.6 * FULL)), Trials(Noisy()))
    comparison = result.comparison
    assert result.status is Status.MET and comparison is not None and not comparison.clear
    assert result.best.widths == comparison.uniform == (4,) * 6
    met = [step for step in result.trajectory if step.zone is Zone.TARGET and len(set(step.widths)) > 1]
    assert comparison.challengers == len(met)
    losses = {step.widths: step.loss for step in result.trajectory}
    assert losses[comparison.challenger] == min(step.loss for step in met) < losses[(4,) * 6]
    assert comparison.lead == pytest.approx(losses[(4,) * 6] - losses[comparison.challenger], abs=1e-6)


def test_uniform_widths_stay_also_where_no_attempt_is_accurate_enough() -> None:
    result = search_widths(model(), Budgets(1.0, int(0.6 * FULL)), Trials(Noisy(full=90.0)))
    assert result.status is Status.NOT_MET and result.comparison is not None
    assert result.best.widths == (4,) * 6 and not result.comparison.clear


def test_others_are_taken_where_their_lead_is_clear() -> None:
    result = search_widths(model(), Budgets(1.0, int(0.6 * FULL)), Trials(Noisy(gain=0.5)))
    assert result.comparison is not None and result.comparison.clear
    assert result.best.widths == result.comparison.challenger and len(set(result.best.widths)) > 1


@pytest.mark.parametrize("goal", ["bytes", "first"])
def test_only_the_least_loss_is_a_matter_of_chance(goal: str) -> None:
    result = search_widths(model(), Budgets(1.0, int(0.6 * FULL)), Trials(Noisy()), goal=goal)
    assert result.status is Status.MET and result.comparison is None


def test_budgets_that_contradict_each_other_give_the_nearest_and_the_reason() -> None:
    result = search_widths(model(), Budgets(0.01, int(0.26 * FULL)), Trials(Formula()))
    assert result.status is Status.NOT_MET
    assert any("accuracy drops by" in item or "bytes" in item for item in result.missed)


def test_a_budget_below_the_lowest_width_is_refused() -> None:
    with pytest.raises(BudgetError, match="2 bits everywhere take") as refused:
        search_widths(model(), Budgets(1.0, 10), Trials(Formula()))
    assert refused.value.hint == "raise the budget, or let the search choose narrower widths"


def test_nothing_to_search_is_refused() -> None:
    with pytest.raises(UsageError, match="none nests"):
        search_widths(CostModel(()), Budgets(1.0, 10), Trials(Formula()))


def test_a_stopped_search_goes_on_where_it_was(tmp_path: Path) -> None:
    journal = tmp_path / "search.json"
    budgets = Budgets(2.0, 20000)

    class Stopping(Formula):
        def __call__(self, widths: tuple[int, ...]) -> Score:
            if self.calls == 6:
                raise KeyboardInterrupt
            return super().__call__(widths)

    with pytest.raises(KeyboardInterrupt):
        search_widths(model(), budgets, Trials(Stopping(), journal=journal))
    again, fresh = Formula(), Formula()
    resumed = search_widths(model(), budgets, Trials(again, journal=journal))
    assert resumed == search_widths(model(), budgets, Trials(fresh))
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


def test_a_journal_keeps_the_loss_of_every_sample(tmp_path: Path) -> None:
    journal = tmp_path / "search.json"
    measured = Trials(Noisy(), journal=journal)([(8,) * 6, (2, 4) * 3])
    assert Trials(Noisy(), journal=journal)([(8,) * 6, (2, 4) * 3]) == measured
    assert len(measured[0].score.losses) == 400 and measured[0] != measured[1]


@pytest.mark.parametrize("losses", ["", "AAAA", "eJwDAAAAAAE=", "no base64"])
def test_losses_that_are_damaged_are_refused(tmp_path: Path, losses: str) -> None:
    journal = tmp_path / "search.json"
    Trials(Formula(), journal=journal)([(8,) * 6])
    document = json.loads(journal.read_text())
    document["attempts"][0]["losses"] = losses
    journal.write_text(json.dumps(document))
    with pytest.raises(FormatError, match="no journal of a search"):
        Trials(Formula(), journal=journal)


def test_a_journal_of_another_version_is_refused(tmp_path: Path) -> None:
    journal = tmp_path / "search.json"
    journal.write_text('{"schema_version": 1, "search": "formula", "attempts": []}')
    with pytest.raises(FormatError, match="is a journal of version 1, this tflnest reads version 2"):
        Trials(Formula(), journal=journal)


@pytest.mark.parametrize("methods", [("sigma",), ("divergence",), PAPER, ("uniform",), ("sensitivity",)])
def test_methods_work_alone_and_only_they_propose(methods) -> None:
    result = search_widths(
        model("sensitivity" in methods), Budgets(2.0, int(0.5 * FULL)), Trials(Formula()), methods=methods
    )
    assert {step.phase for step in result.trajectory} <= {"full-bit", *methods}
    assert len(result.trajectory) > 1


def test_with_the_paper_s_phases_alone_bits_are_moved_until_the_budgets_hold() -> None:
    result = search_widths(
        model(losses=False), Budgets(3.0, int(0.5 * FULL)), Trials(Formula()), methods=PAPER, goal="first"
    )
    assert result.status is Status.MET and result.ending in (Ending.FOUND, Ending.EXHAUSTED)
    assert [step.zone for step in result.trajectory].count(Zone.TARGET) >= 1


def test_phase_2_does_not_follow_where_phase_1_misses_both_targets_clearly() -> None:
    class Fragile(Formula):
        def __call__(self, widths: tuple[int, ...]) -> Score:
            return scored(90.0 if widths == (8,) * 6 else 10.0)

    budgets = Budgets(1.0, int(0.255 * FULL), cost_buffer=0.26)
    result = search_widths(model(), budgets, Trials(Fragile()), methods=PAPER)
    assert result.status is Status.NOT_MET and result.ending is Ending.ABANDONED
    assert {step.phase for step in result.trajectory} == {"full-bit", "sigma"}


def test_the_goal_decides_among_attempts_that_meet_the_budgets() -> None:
    found = {
        goal: search_widths(model(), Budgets(3.0, int(0.6 * FULL)), Trials(Formula()), goal=goal).best
        for goal in Goal
    }
    assert all(step.zone is Zone.TARGET for step in found.values())
    assert found[Goal.ACCURACY].drop < found[Goal.BYTES].drop
    assert found[Goal.BYTES].costs.bytes < found[Goal.ACCURACY].costs.bytes


def test_without_a_feasible_attempt_the_bytes_are_kept_and_the_way_out_is_known() -> None:
    result = search_widths(model(), Budgets(0.05, int(0.3 * FULL)), Trials(Formula()))
    assert result.status is Status.NOT_MET and len(result.missed) == 1
    assert "accuracy drops by" in result.missed[0]
    assert result.best.costs.bytes <= 0.3 * FULL
    small = [step for step in result.trajectory if step.costs.bytes <= 0.3 * FULL]
    assert result.best.accuracy == max(step.accuracy for step in small)
    assert result.cheapest is not None and result.cheapest.drop <= 0.05


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ()}, "no method is chosen"),
        ({"methods": ("luck",)}, "no method 'luck'"),
        ({"goal": "fame"}, "no goal 'fame'"),
        ({"choices": (2, 4)}, "2,4 do not increase to 8"),
        ({"choices": (4, 2, 8)}, "4,2,8 do not increase"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message) -> None:
    with pytest.raises(UsageError, match=message):
        search_widths(model(), Budgets(1.0, 20000), Trials(Formula()), **options)


def test_measured_losses_are_needed_where_they_shall_propose() -> None:
    with pytest.raises(UsageError, match="needs measured losses"):
        search_widths(
            model(losses=False), Budgets(1.0, 20000), Trials(Formula()), methods=[Method.SENSITIVITY]
        )


@pytest.mark.parametrize("jobs", [0, -2])
def test_a_senseless_number_of_jobs_is_refused(jobs) -> None:
    with pytest.raises(UsageError, match="attempts at a time make no sense"):
        Trials(Formula(), jobs=jobs)


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(UsageError, match="no backend 'spark'"):
        Trials(Formula(), backend="spark")


def test_attempts_run_side_by_side_and_give_the_same() -> None:
    budgets = Budgets(2.0, 20000)
    alone = search_widths(model(), budgets, Trials(Formula()))
    together = search_widths(model(), budgets, Trials(Formula(), jobs=2, backend="threading"))
    assert alone == together
