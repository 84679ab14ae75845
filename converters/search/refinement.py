"""Which layers get more or fewer bits next (SigmaQuant, phase 2), and assignments that fill a budget.

The paper ranks layers by divergence alone and changes two of them a step. Ranking by what a step changes per byte it
pays for, with losses measured on the model in the place of divergence, is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

#: Layers that change per step.
LAYERS_PER_STEP = 2

Widths = tuple[int, ...]

#: Whether an assignment keeps to the budgets of cost.
Fits = Callable[[Widths], bool]


@dataclass(frozen=True)
class Ranking:
    """An order of layers.

    Attributes:
        harm: For each layer by width what that width does; it falls with the width.
        sizes: Number of weights of each layer.
        choices: Widths that there are, increasing.
        per_weight: Rank by the harm that a step changes per weight, not by the harm at a width.
    """

    harm: tuple[Mapping[int, float], ...]
    sizes: tuple[int, ...]
    choices: tuple[int, ...]
    per_weight: bool = False

    def total(self, widths: Sequence[int]) -> float:
        """Harm of an assignment."""
        return sum(harm[width] for harm, width in zip(self.harm, widths, strict=True))

    def raised(self, widths: Widths, count: int = LAYERS_PER_STEP) -> Widths:
        """The layers that suffer most get the next larger width; of equal ones the smaller layer."""

        def rank(number: int) -> tuple[float, int]:
            width = widths[number]
            won = self.harm[number][width]
            if self.per_weight:
                won = self._change(number, width, self._next(width, 1))
            return -won, self.sizes[number]

        able = [number for number, width in enumerate(widths) if width < self.choices[-1]]
        return self._stepped(widths, sorted(able, key=rank)[:count], 1)

    def lowered(self, widths: Widths, count: int = LAYERS_PER_STEP, fixed: Sequence[int] = ()) -> Widths:
        """The layers that would suffer least at the next smaller width get it; of equal ones the larger layer.

        Args:
            widths: The assignment.
            count: How many layers change, at most.
            fixed: Numbers of layers that keep their widths.
        """

        def rank(number: int) -> tuple[float, int]:
            lower = self._next(widths[number], -1)
            lost = self.harm[number][lower]
            if self.per_weight:
                lost = self._change(number, lower, widths[number])
            return lost, -self.sizes[number]

        able = [
            number for number, width in enumerate(widths) if width > self.choices[0] and number not in fixed
        ]
        return self._stepped(widths, sorted(able, key=rank)[:count], -1)

    def exchanged(self, widths: Widths) -> Widths:
        """One layer up and another one down: for attempts that miss accuracy and size both."""
        up = self.raised(widths, 1)
        return self.lowered(up, 1, _changed(widths, up))

    def filled(self, widths: Widths, fits: Fits, fixed: Sequence[int] = ()) -> Widths:
        """As many bits more as fit, each time where the harm falls most per weight and bit.

        Args:
            widths: An assignment that fits.
            fits: Whether an assignment keeps to the budgets.
            fixed: Numbers of layers that keep their widths.
        """
        while True:
            options = [
                (self._change(number, width, larger) / (larger - width), _with(widths, number, larger))
                for number, width in enumerate(widths)
                for larger in self.choices
                if larger > width and number not in fixed
            ]
            options = [(gain, option) for gain, option in options if gain > 0 and fits(option)]
            if not options:
                return widths
            widths = max(options)[1]

    def shrunk(self, widths: Widths, fits: Fits, fixed: Sequence[int] = ()) -> Widths | None:
        """Fewer bits until it fits, each time where the harm grows least per weight; None where that is not enough."""
        while not fits(widths):
            lower = self.lowered(widths, 1, fixed)
            if lower == widths:
                return None
            widths = lower
        return widths

    def neighbours(self, widths: Widths, fits: Fits) -> list[Widths]:
        """Assignments within the budgets that give one layer another width and make up for it, least harm first."""
        found: dict[Widths, float] = {}
        for number, width in enumerate(widths):
            for other in self._beside(width):
                changed = self.shrunk(_with(widths, number, other), fits, [number])
                if changed is not None:
                    changed = self.filled(changed, fits, [number])
                    found[changed] = self.total(changed)
        found.pop(widths, None)
        return sorted(found, key=lambda item: (found[item], item))

    def _beside(self, width: int) -> tuple[int, ...]:
        place = self.choices.index(width)
        return self.choices[max(place - 1, 0) : place] + self.choices[place + 1 : place + 2]

    def _next(self, width: int, step: int) -> int:
        return self.choices[self.choices.index(width) + step]

    def _change(self, number: int, lower: int, upper: int) -> float:
        """Harm that the larger of two widths saves, per weight."""
        return (self.harm[number][lower] - self.harm[number][upper]) / self.sizes[number]

    def _stepped(self, widths: Widths, numbers: Sequence[int], step: int) -> Widths:
        return tuple(
            self._next(width, step) if number in numbers else width for number, width in enumerate(widths)
        )


def _with(widths: Widths, number: int, width: int) -> Widths:
    return (*widths[:number], width, *widths[number + 1 :])


def _changed(before: Widths, after: Widths) -> list[int]:
    return [number for number, pair in enumerate(zip(before, after, strict=True)) if pair[0] != pair[1]]
