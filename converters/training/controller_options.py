"""What a controller of widths chooses from, and what its training minimizes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any

from tflnest.errors import UsageError
from tflnest.nesting import MASTER_BITS

#: Weight of the square of what the mean cost is off its target: one point off costs as much as 0.01 nats.
TARGET_WEIGHT = 100.0


class Granularity(StrEnum):
    """For what a controller chooses."""

    OPERATOR = "operator"
    NETWORK = "network"


@dataclass(frozen=True)
class ControllerOptions:
    """Options of a controller and of its training (DQT, arXiv 2508.09176).

    Attributes:
        choices: (level, activation bits) of each choice; None for every level, with activations of 8 bits or,
            where the network was trained with `activations`, of as many bits as the level.
        stem: Name or index of the activation, in the float graph, that the controller reads; None for the output
            of the first operator with a filter.
        convolutions: Channels of 3 x 3 convolutions with stride 2 that make a small classifier of the stem, whose
            probabilities are the controller's features then; none for the means of the stem. The stem is averaged to
            about 8 x 8 in front of them.
        granularity: Whether each nested operator behind the stem has a choice of its own, or all have the same.
        assignments: With granularity "network", what the controller chooses between: for each assignment the
            position in `choices` of every nested operator behind the stem. None for one assignment per choice,
            the same for all operators. An operator has the same choice in all assignments, or another in each.
        hidden: Units of the hidden layer.
        target: Mean BitOPs to reach, relative to those of the full-bit level, above 0 and at most 1; None for
            no target.
        beta: Weight of the expected cost, as a share of the full-bit BitOPs (DQT, equation 11).
        temperature: Of the Gumbel-softmax at the start and at the end of training.
        annealing_steps: Training steps after which the temperature stays at its end.
        confidence: How strongly the controller leans, before training, to the choice that costs closest to the
            target, as a difference of logits; 0 to 8.
        train_network: Whether the network is trained too; otherwise the controller alone.

    Raises:
        UsageError: A value is out of range.
    """

    choices: tuple[tuple[int, int], ...] | None = None
    stem: str | int | None = None
    convolutions: tuple[int, ...] = ()
    granularity: Granularity = Granularity.OPERATOR
    assignments: tuple[tuple[int, ...], ...] | None = None
    hidden: int = 64
    target: float | None = None
    beta: float = 0.0
    temperature: tuple[float, float] = (1.0, 0.1)
    annealing_steps: int = 1000
    confidence: float = 2.0
    train_network: bool = False

    def __post_init__(self) -> None:
        _check("target", self.target, 0.0, 1.0, above=True)
        _check("beta", self.beta, 0.0, math.inf)
        _check("confidence", self.confidence, 0.0, 8.0)
        for value in self.temperature:
            _check("temperature", value, 0.0, math.inf, above=True)
        for channels in self.convolutions:
            _check("convolutions", channels, 1, 4096)
        _check("hidden", self.hidden, 1, 4096)
        _check("annealing_steps", self.annealing_steps, 1, math.inf)
        try:
            object.__setattr__(self, "granularity", Granularity(self.granularity))
        except ValueError:
            raise UsageError(
                f"granularity is {self.granularity!r}", f"choose from: {', '.join(Granularity)}"
            ) from None

    def choices_of(self, levels: tuple[int, ...], activations: bool) -> tuple[tuple[int, int], ...]:
        """The choices for a network.

        Args:
            levels: Of the network.
            activations: Whether its levels read activations at their own width.

        Raises:
            UsageError: There are fewer than two, one comes twice, or the network has no such level.
        """
        default = tuple((level, level if activations else MASTER_BITS) for level in levels)
        choices = default if self.choices is None else self.choices
        if len(choices) < 2 or len(set(choices)) != len(choices):
            raise UsageError(f"choices {list(choices)}: a controller needs at least two, all different")
        for level, bits in choices:
            if level not in levels or not 1 <= bits <= MASTER_BITS:
                raise UsageError(
                    f"there is no choice of level {level} with activations of {bits} bits",
                    f"levels: {', '.join(map(str, levels))}; activations: 1 to {MASTER_BITS} bits",
                )
        return choices

    def assignments_of(self, choices: int, operators: int) -> tuple[tuple[int, ...], ...]:
        """The assignments for a network.

        Args:
            choices: How many there are.
            operators: How many operators are controlled.

        Raises:
            UsageError: There are fewer than two, or they don't fit; or the controller chooses per operator.
        """
        if self.assignments is None:
            return tuple((choice,) * operators for choice in range(choices))
        if self.granularity is not Granularity.NETWORK:
            raise UsageError(
                "assignments are of the whole network, and the controller chooses for each operator",
                'set granularity = "network", or leave the assignments out',
            )
        if len(self.assignments) < 2 or any(len(item) != operators for item in self.assignments):
            raise UsageError(
                f"assignments of {[len(item) for item in self.assignments]} operators: "
                f"two or more of {operators} each were expected"
            )
        for operator, of in enumerate(zip(*self.assignments, strict=True)):
            if not all(0 <= choice < choices for choice in of) or len(set(of)) not in (1, len(of)):
                raise UsageError(
                    f"operator {operator} has the choices {list(of)}, of {choices}",
                    "it must have the same choice in all assignments, or another in each",
                )
        return self.assignments

    def to_dict(self) -> dict[str, Any]:
        """For the configuration of a saved network."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ControllerOptions:
        """Invert `to_dict`, also after JSON made lists of the tuples."""
        known = {field.name: values[field.name] for field in fields(cls)}
        for name in ("choices", "assignments"):
            if known[name] is not None:
                known[name] = tuple(tuple(map(int, item)) for item in known[name])
        known["convolutions"] = tuple(map(int, known["convolutions"]))
        start, end = known.pop("temperature")
        return cls(temperature=(start, end), **known)


def _check(name: str, value: float | None, low: float, high: float, above: bool = False) -> None:
    if value is None or (math.isfinite(value) and low <= value <= high and not (above and value == low)):
        return
    least = f"more than {low:g}" if above else f"{low:g} or more"
    limit = "" if math.isinf(high) else f", at most {high:g}"
    raise UsageError(f"{name} is {value}, {least}{limit} was expected")
