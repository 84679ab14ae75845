"""The search itself: groups by sigma first, then steps by divergence, until the budgets hold (SigmaQuant).

Phase 1 gives widths by clusters of sigma, with a growing penalty on uneven clusters. Phase 2 changes two layers a
step: up where accuracy is short, down where the size is too large, one of each where both are; steps that do not
improve are taken back. Two ways of ours stand beside them: uniform widths, so that the result is no worse, and
losses measured on calibration samples, which propose assignments that fill the budget. What is proposed at one
point of the search is measured side by side, and the best of it goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from converters.search.budgets import Budgets, Zone, check_reachable
from converters.search.clustering import cluster
from converters.search.comparison import Comparison, paired_difference
from converters.search.costs import CostModel, Costs
from converters.search.layers import Layer
from converters.search.refinement import Ranking
from converters.search.trials import Attempt, Trials, Widths
from tflnest.errors import UsageError
from tflnest.nesting import MASTER_BITS
from tflnest.version import JSON_SCHEMA_VERSION

Choice = TypeVar("Choice", bound=StrEnum)

#: Bit-widths of the paper.
CHOICES = (2, 4, 6, 8)

#: Rounds of phase 1, and by how much the penalty grows in each.
ROUNDS = 3
PENALTY_STEP = 0.1

MAX_STEPS = 40

#: Steps without improvement before the last good assignment is taken back.
PATIENCE = 3

#: Neighbours in the order of measured losses that are tried per step.
NEIGHBOURS = 3

#: A point of accuracy beyond the target weighs as much as this share of a budget while the search is under way.
POINT = 0.1


class Method(StrEnum):
    """What proposes assignments: phase 1 and 2 of the paper, and what was added to them."""

    SIGMA = "sigma"
    DIVERGENCE = "divergence"
    UNIFORM = "uniform"
    SENSITIVITY = "sensitivity"


#: The methods of the paper alone.
PAPER = (Method.SIGMA, Method.DIVERGENCE)


class Goal(StrEnum):
    """What is best among attempts that meet all budgets: that of the least loss, the smallest, or the first."""

    ACCURACY = "accuracy"
    BYTES = "bytes"
    FIRST = "first"


class Status(StrEnum):
    """How a search ended."""

    MET = "met"
    NOT_MET = "not met"


class Ending(StrEnum):
    """Why a search ended."""

    FOUND = "the budgets are met"
    ABANDONED = "the first phase missed accuracy and size by far"
    EXHAUSTED = "nothing is left to try"
    NO_PROGRESS = "the last steps did not improve"
    STEPS = "the steps are used up"


@dataclass(frozen=True)
class Step:
    """One attempt of the trajectory.

    Attributes:
        phase: "full-bit", or the method that proposed it first.
        widths: Bits of every layer.
        accuracy: In percent.
        drop: Points lost against the full-bit model.
        loss: Mean cross-entropy of the labels, in nats.
        costs: What it costs.
        zone: Where it stands.
    """

    phase: str
    widths: Widths
    accuracy: float
    drop: float
    loss: float
    costs: Costs
    zone: Zone

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "phase": self.phase,
            "widths": list(self.widths),
            "accuracy": self.accuracy,
            "drop": self.drop,
            "loss": self.loss,
            "zone": str(self.zone),
            **self.costs.to_dict(),
        }


@dataclass(frozen=True)
class SearchResult:
    """The result of a search.

    Attributes:
        status: Whether all budgets are met.
        ending: Why it ended.
        best: The best attempt that meets them; without one, the most accurate that keeps to the budgets of cost.
            Uniform widths stay the best where the lead of another attempt may be chance.
        comparison: The best attempt of other widths against the best of uniform ones; None where the search has
            not both, or its goal is not the least loss.
        missed: The constraints that `best` breaks, in words.
        cheapest: The smallest attempt that is accurate enough; None where none is.
        layers: What was searched, in the order of the widths.
        trajectory: Every attempt, in order.
        path: Those that the search went on from, in order; what was taken back may come up again.
        budgets: What was asked.
    """

    status: Status
    ending: Ending
    best: Step
    comparison: Comparison | None
    missed: tuple[str, ...]
    cheapest: Step | None
    layers: tuple[Layer, ...]
    trajectory: tuple[Step, ...]
    path: tuple[Step, ...]
    budgets: Budgets

    @property
    def widths(self) -> dict[str, int]:
        """Bits by name of the filter."""
        return {layer.name: width for layer, width in zip(self.layers, self.best.widths, strict=True)}

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "schema_version": JSON_SCHEMA_VERSION,
            "status": str(self.status),
            "ending": str(self.ending),
            "missed": list(self.missed),
            "best": self.best.to_dict(),
            "comparison": None if self.comparison is None else self.comparison.to_dict(),
            "cheapest": None if self.cheapest is None else self.cheapest.to_dict(),
            "budgets": vars(self.budgets),
            "layers": [
                {
                    "name": layer.name,
                    "weights": layer.weights,
                    "macs": layer.macs,
                    "sigma": layer.sigma,
                    "divergence": {str(width): value for width, value in layer.divergence.items()},
                    "loss": None
                    if layer.loss is None
                    else {str(key): loss for key, loss in layer.loss.items()},
                    "bits": width,
                }
                for layer, width in zip(self.layers, self.best.widths, strict=True)
            ],
            "trajectory": [step.to_dict() for step in self.trajectory],
            "path": [list(step.widths) for step in self.path],
        }


def search_widths(
    model: CostModel,
    budgets: Budgets,
    trials: Trials,
    *,
    choices: Sequence[int] = CHOICES,
    methods: Sequence[Method | str] = tuple(Method),
    goal: Goal | str = Goal.ACCURACY,
    max_steps: int = MAX_STEPS,
) -> SearchResult:
    """Find the width of every layer.

    Args:
        model: Its layers are searched, at least one.
        budgets: What must hold.
        trials: Measures assignments.
        choices: Bit-widths, increasing; the last one is 8.
        methods: What proposes assignments; "sensitivity" needs layers with losses.
        goal: What is best among attempts that meet all budgets.
        max_steps: Steps of phase 2.

    Raises:
        BudgetError: No assignment can meet the budgets of cost.
        UsageError: There is no layer, or widths, methods or goal are no choice.
    """
    check_searchable(model, budgets, choices)
    chosen = tuple(_member(Method, method, "method") for method in methods)
    if not chosen:
        raise UsageError("no method is chosen", f"methods: {', '.join(Method)}")
    if Method.SENSITIVITY in chosen and any(layer.loss is None for layer in model.layers):
        raise UsageError("the method sensitivity needs measured losses of every layer")
    aim = _member(Goal, goal, "goal")
    return _Search(model, budgets, trials, tuple(choices), chosen, aim).run(max_steps)


def check_searchable(model: CostModel, budgets: Budgets, choices: Sequence[int]) -> None:
    """Refuse what no search can find, before anything is measured.

    Raises:
        BudgetError: No assignment can meet the budgets of cost.
        UsageError: There is no layer, or the widths can't be searched.
    """
    if not model.layers:
        raise UsageError("no filter can be searched: none nests", "choose another recipe")
    check_choices(choices)
    check_reachable(budgets, model((choices[0],) * len(model.layers)), choices)


def check_choices(choices: Sequence[int]) -> None:
    """Refuse widths that can't be searched.

    Raises:
        UsageError: They are fewer than two, out of range, or do not increase to 8.
    """
    if (
        len(choices) < 2
        or choices[0] < 1
        or sorted(set(choices)) != list(choices)
        or choices[-1] != MASTER_BITS
    ):
        raise UsageError(
            f"the widths {','.join(map(str, choices))} do not increase to {MASTER_BITS}",
            "give for example 2,4,6,8",
        )


def _member(kind: type[Choice], value: str, name: str) -> Choice:
    try:
        return kind(value)
    except ValueError:
        raise UsageError(f"there is no {name} {str(value)!r}", f"{name}s: {', '.join(kind)}") from None


class _Search:
    """The state of a search: what was tried, and where it stands."""

    def __init__(
        self,
        model: CostModel,
        budgets: Budgets,
        trials: Trials,
        choices: Widths,
        methods: Sequence[Method],
        goal: Goal,
    ) -> None:
        self._model, self._budgets, self._trials = model, budgets, trials
        self._choices, self._methods, self._goal = choices, methods, goal
        self._full = model.full
        self._trajectory: list[Step] = []
        self._seen: set[Widths] = set()
        sizes = tuple(layer.weights for layer in model.layers)
        divergence = tuple(layer.divergence for layer in model.layers)
        self._divergence = Ranking(divergence, sizes, choices)
        losses = tuple(layer.loss or {} for layer in model.layers)
        self._sensitivity = Ranking(losses, sizes, choices, per_weight=True)
        full = (MASTER_BITS,) * len(sizes)
        attempt = trials([full])[0]
        self._full_accuracy = attempt.score.accuracy
        self._path = [self._note("full-bit", attempt)]

    def run(self, max_steps: int) -> SearchResult:
        """Both phases."""
        start = self._propose()
        self._path.append(start)
        steps = any(method in self._methods for method in (Method.DIVERGENCE, Method.SENSITIVITY))
        if start.zone is Zone.ABANDON:
            ending = Ending.ABANDONED
        else:
            ending = self._refine(start, max_steps) if steps else Ending.EXHAUSTED
        best, comparison = self._best()
        missed = self._budgets.missed(best.drop, best.costs)
        accurate = [step for step in self._trajectory if self._budgets.accurate(step.drop)]
        return SearchResult(
            status=Status.NOT_MET if missed else Status.MET,
            ending=ending,
            best=best,
            comparison=comparison,
            missed=tuple(missed),
            cheapest=min(accurate, key=lambda step: (step.costs.bytes, step.drop), default=None),
            layers=self._model.layers,
            trajectory=tuple(self._trajectory),
            path=tuple(self._path),
            budgets=self._budgets,
        )

    def _best(self) -> tuple[Step, Comparison | None]:
        """By the goal where the budgets are met; else the most accurate attempt within the budgets of cost."""
        met = [step for step in self._trajectory if step.zone is Zone.TARGET]
        if met and self._goal is Goal.ACCURACY:
            return self._least(met, self._merit)
        if met:
            return met[0] if self._goal is Goal.FIRST else min(met, key=self._merit), None
        small = [step for step in self._trajectory if self._budgets.small(step.costs)]
        if small:
            return self._least(small, lambda step: step.drop)
        return min(self._trajectory, key=self._merit), None

    def _least(
        self, attempts: Sequence[Step], order: Callable[[Step], Any]
    ) -> tuple[Step, Comparison | None]:
        """The first of attempts by an order, but uniform widths unless the others lead them clearly."""
        uniform = [step for step in attempts if len(set(step.widths)) == 1]
        others = [step for step in attempts if len(set(step.widths)) > 1]
        if not (uniform and others):
            return min(attempts, key=order), None
        even, challenger = min(uniform, key=order), min(others, key=order)
        scores = [attempt.score for attempt in self._trials([even.widths, challenger.widths])]
        lead, error = paired_difference(scores[0].losses, scores[1].losses)
        comparison = Comparison(even.widths, challenger.widths, lead, error, len(others))
        return challenger if comparison.clear else even, comparison

    def _note(self, phase: str, attempt: Attempt) -> Step:
        spent = self._model(attempt.widths)
        accuracy, loss = attempt.score.accuracy, attempt.score.loss
        drop = self._full_accuracy - accuracy
        zone = self._budgets.zone(drop, spent, self._full)
        step = Step(phase, attempt.widths, accuracy, drop, loss, spent, zone)
        if attempt.widths not in self._seen:
            self._seen.add(attempt.widths)
            self._trajectory.append(step)
        return step

    def _merit(self, step: Step) -> tuple[float, float, float]:
        """Smaller is better: first by how much budgets are exceeded, relative to them, then by the goal.

        What is accurate enough is told apart by its loss, which chance moves less than the accuracy.
        """
        over = self._budgets.excess(step.costs) + POINT * max(0.0, step.drop - self._budgets.max_drop)
        if over > 0 or self._goal is Goal.ACCURACY:
            return over, step.loss, step.costs.bytes
        return over, step.costs.bytes, step.loss

    def _small(self, widths: Widths) -> bool:
        return self._budgets.small(self._model(widths))

    def _propose(self) -> Step:
        """Phase 1: all proposals are measured side by side; the best goes on."""
        layers, choices = self._model.layers, self._choices
        proposals: dict[Widths, Method] = {}
        if Method.UNIFORM in self._methods:
            for width in choices[:-1]:
                proposals.setdefault((width,) * len(layers), Method.UNIFORM)
        if Method.SIGMA in self._methods:
            for number in range(ROUNDS):
                groups = cluster([layer.sigma for layer in layers], len(choices), PENALTY_STEP * (number + 1))
                proposals.setdefault(tuple(choices[group] for group in groups), Method.SIGMA)
        if Method.SENSITIVITY in self._methods:
            filled = self._sensitivity.filled((choices[0],) * len(layers), self._small)
            proposals.setdefault(filled, Method.SENSITIVITY)
        if not proposals:
            return self._path[0]
        attempts = self._trials(list(proposals))
        return min((self._note(proposals[item.widths], item) for item in attempts), key=self._merit)

    def _refine(self, start: Step, max_steps: int) -> Ending:
        """Phase 2: from the start, the best of the alternatives of each step, back to the best after failures."""
        current = best = start
        failures = 0
        for _ in range(max_steps):
            if best.zone is Zone.TARGET and self._goal is Goal.FIRST:
                return Ending.FOUND
            proposals = self._proposals(current)
            if not proposals and current is not best:
                current, proposals = best, self._proposals(best)
                self._path.append(best)
            if not proposals:
                return Ending.EXHAUSTED
            attempts = self._trials(list(proposals))
            steps = [self._note(proposals[item.widths], item) for item in attempts]
            current = min(steps, key=self._merit)
            self._path.append(current)
            if self._merit(current) < self._merit(best):
                best, failures = current, 0
            else:
                failures += 1
            if failures >= PATIENCE:
                return Ending.NO_PROGRESS
        return Ending.STEPS

    def _proposals(self, current: Step) -> dict[Widths, Method]:
        """What may follow an attempt, and was not tried yet."""
        widths = current.widths
        accurate, small = self._budgets.accurate(current.drop), self._budgets.small(current.costs)
        met = accurate and small
        more = not accurate or (met and self._goal is Goal.ACCURACY)
        fewer = not small or (met and self._goal is not Goal.ACCURACY)
        found: dict[Widths, Method] = {}
        if Method.DIVERGENCE in self._methods:
            ranking = self._divergence
            steps = [ranking.raised(widths)] if more else []
            steps += [ranking.lowered(widths)] if fewer else []
            steps += [ranking.exchanged(widths)] if more else []
            found.update(dict.fromkeys(steps, Method.DIVERGENCE))
        if Method.SENSITIVITY in self._methods:
            for option in self._neighbours(current, met and not more):
                found.setdefault(option, Method.SENSITIVITY)
        return {option: method for option, method in found.items() if option not in self._seen}

    def _neighbours(self, current: Step, smaller: bool) -> list[Widths]:
        """The most promising neighbours by measured losses; smaller ones where size is all that is wanted."""

        def fits(widths: Widths) -> bool:
            return self._small(widths) and (not smaller or self._model(widths).bytes < current.costs.bytes)

        options = self._sensitivity.neighbours(current.widths, fits)
        return [option for option in options if option not in self._seen][:NEIGHBOURS]
