"""The search itself: groups by sigma first, then steps by divergence, until the budgets hold (SigmaQuant).

Phase 1 gives widths by clusters of sigma, with a growing penalty on uneven clusters, until an attempt comes near
one of the targets. Phase 2 changes two layers a step: up where accuracy is short, down where the size is too
large, one of each where both are; alternatives of a step are measured side by side. Steps that do not improve
are taken back. Where phase 1 or the starting point misses clearly, the search still returns the best it saw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from converters.search.budgets import Budgets, Zone, check_reachable
from converters.search.clustering import cluster
from converters.search.costs import Costs, costs
from converters.search.layers import Layer
from converters.search.refinement import exchanged, lowered, raised
from converters.search.trials import Attempt, Trials, Widths
from tflnest.errors import UsageError
from tflnest.nesting import MASTER_BITS
from tflnest.version import JSON_SCHEMA_VERSION

#: Bit-widths of the paper.
CHOICES = (2, 4, 6, 8)

#: Rounds of phase 1, and by how much the penalty grows in each.
ROUNDS = 3
PENALTY_STEP = 0.1

MAX_STEPS = 40

#: Steps without improvement before the last good assignment is taken back.
PATIENCE = 3


class Status(StrEnum):
    """How a search ended."""

    MET = "met"
    NOT_MET = "not met"


@dataclass(frozen=True)
class Step:
    """One attempt of the trajectory.

    Attributes:
        phase: "full-bit", "sigma", "divergence" or "uniform".
        widths: Bits of every layer.
        accuracy: In percent.
        drop: Points lost against the full-bit model.
        costs: What it costs.
        zone: Where it stands.
    """

    phase: str
    widths: Widths
    accuracy: float
    drop: float
    costs: Costs
    zone: Zone

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "phase": self.phase,
            "widths": list(self.widths),
            "accuracy": self.accuracy,
            "drop": self.drop,
            "zone": str(self.zone),
            **self.costs.to_dict(),
        }


@dataclass(frozen=True)
class SearchResult:
    """The result of a search.

    Attributes:
        status: Whether all budgets are met.
        best: The smallest attempt that meets them, or the nearest one.
        missed: The constraints that `best` breaks, in words.
        layers: What was searched, in the order of the widths.
        trajectory: Every attempt, in order.
        budgets: What was asked.
    """

    status: Status
    best: Step
    missed: tuple[str, ...]
    layers: tuple[Layer, ...]
    trajectory: tuple[Step, ...]
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
            "missed": list(self.missed),
            "best": self.best.to_dict(),
            "layers": [
                {
                    "name": layer.name,
                    "weights": layer.weights,
                    "macs": layer.macs,
                    "sigma": layer.sigma,
                    "divergence": {str(width): value for width, value in layer.divergence.items()},
                    "bits": width,
                }
                for layer, width in zip(self.layers, self.best.widths, strict=True)
            ],
            "trajectory": [step.to_dict() for step in self.trajectory],
        }


def search_widths(
    layers: Sequence[Layer],
    budgets: Budgets,
    trials: Trials,
    *,
    choices: Sequence[int] = CHOICES,
    max_steps: int = MAX_STEPS,
) -> SearchResult:
    """Find the width of every layer.

    Args:
        layers: What to search, at least one.
        budgets: What must hold.
        trials: Measures assignments.
        choices: Bit-widths, increasing; the last one is 8.
        max_steps: Steps of phase 2.

    Raises:
        BudgetError: No assignment can meet the budgets of cost.
        UsageError: There is no layer, or the widths are no choice.
    """
    if not layers:
        raise UsageError("no filter can be searched: none nests", "choose another recipe")
    if len(choices) < 2 or sorted(set(choices)) != list(choices) or choices[-1] != MASTER_BITS:
        raise UsageError(f"widths {list(choices)} do not increase to {MASTER_BITS}")
    check_reachable(budgets, costs(layers, (choices[0],) * len(layers)), choices)
    return _Search(tuple(layers), budgets, trials, tuple(choices)).run(max_steps)


class _Search:
    def __init__(
        self, layers: tuple[Layer, ...], budgets: Budgets, trials: Trials, choices: tuple[int, ...]
    ) -> None:
        self._layers, self._budgets, self._trials, self._choices = layers, budgets, trials, choices
        self._full_widths: Widths = (MASTER_BITS,) * len(layers)
        self._full = costs(layers, self._full_widths)
        self._full_accuracy = trials([self._full_widths])[0].accuracy
        self._trajectory: list[Step] = []
        self._seen: set[Widths] = set()
        self._note("full-bit", Attempt(self._full_widths, self._full_accuracy))

    def run(self, max_steps: int) -> SearchResult:
        current = self._cluster()
        self._refine(current, max_steps)
        best = min(self._trajectory, key=self._merit)
        missed = self._budgets.missed(best.drop, best.costs)
        return SearchResult(
            status=Status.NOT_MET if missed else Status.MET,
            best=best,
            missed=tuple(missed),
            layers=self._layers,
            trajectory=tuple(self._trajectory),
            budgets=self._budgets,
        )

    def _note(self, phase: str, attempt: Attempt) -> Step:
        spent = costs(self._layers, attempt.widths)
        drop = self._full_accuracy - attempt.accuracy
        zone = self._budgets.zone(drop, spent, self._full)
        step = Step(phase, attempt.widths, attempt.accuracy, drop, spent, zone)
        if attempt.widths not in self._seen:
            self._seen.add(attempt.widths)
            self._trajectory.append(step)
        return step

    def _merit(self, step: Step) -> tuple[float, float]:
        """Smaller is better: first by how much budgets are exceeded, relative to them, then by size."""
        over = max(0.0, step.costs.bytes / self._budgets.max_bytes - 1)
        if self._budgets.max_bit_operations is not None:
            over += max(0.0, step.costs.bit_operations / self._budgets.max_bit_operations - 1)
        # A point of accuracy beyond the target weighs as much as a tenth of the budget.
        over += 0.1 * max(0.0, step.drop - self._budgets.max_drop)
        return over, step.drop if over else step.costs.bytes

    def _cluster(self) -> Step:
        """Phase 1: all rounds run side by side, with uniform widths to be no worse than; the best goes on."""
        sigmas = [layer.sigma for layer in self._layers]
        proposals = []
        for number in range(ROUNDS):
            groups = cluster(sigmas, len(self._choices), PENALTY_STEP * (number + 1))
            proposals.append(tuple(self._choices[group] for group in groups))
        uniform = [(width,) * len(self._layers) for width in self._choices[:-1]]
        attempts = self._trials([*uniform, *proposals])
        steps = [self._note("uniform", attempt) for attempt in attempts[: len(uniform)]]
        steps += [self._note("sigma", attempt) for attempt in attempts[len(uniform) :]]
        near = [
            step
            for step in steps
            if self._budgets.accurate(step.drop, self._budgets.drop_buffer)
            or self._budgets.near(step.costs, self._full)
        ]
        return min(near or steps, key=self._merit)

    def _refine(self, start: Step, max_steps: int) -> None:
        """Phase 2: from the start, the better of the alternatives of each step, back to the best after failures."""
        current, best, failures = start, start, 0
        for _ in range(max_steps):
            proposals = [widths for widths in self._proposals(current) if widths not in self._seen]
            if not proposals:
                return
            steps = [self._note("divergence", attempt) for attempt in self._trials(proposals)]
            current = min(steps, key=self._merit)
            if self._merit(current) < self._merit(best):
                best, failures = current, 0
            else:
                failures += 1
            if failures >= PATIENCE:
                return

    def _proposals(self, current: Step) -> list[Widths]:
        layers, widths, choices = self._layers, current.widths, self._choices
        accurate, small = self._budgets.accurate(current.drop), self._budgets.small(current.costs)
        steps: list[Widths] = []
        for per_weight in (False, True):
            if not accurate:
                steps.append(exchanged(layers, widths, choices, per_weight=per_weight))
            if accurate or not small:
                steps.append(lowered(layers, widths, choices, per_weight=per_weight))
            if not accurate:
                steps.append(raised(layers, widths, choices, per_weight=per_weight))
        if accurate:
            steps.append(lowered(layers, widths, choices, 1, per_weight=True))
        return [step for step in dict.fromkeys(steps) if step != widths]
