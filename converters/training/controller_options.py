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
        stem: Name or index of the activation, in the float graph, whose means over height and width the
            controller reads; None for the output of the first operator with a filter.
        granularity: Whether each nested operator behind the stem has a choice of its own, or all have the same.
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
    granularity: Granularity = Granularity.OPERATOR
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

    def to_dict(self) -> dict[str, Any]:
        """For the configuration of a saved network."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ControllerOptions:
        """Invert `to_dict`, also after JSON made lists of the tuples."""
        known = {field.name: values[field.name] for field in fields(cls)}
        if known["choices"] is not None:
            known["choices"] = tuple((int(level), int(bits)) for level, bits in known["choices"])
        start, end = known.pop("temperature")
        return cls(temperature=(start, end), **known)


def _check(name: str, value: float | None, low: float, high: float, above: bool = False) -> None:
    if value is None or (math.isfinite(value) and low <= value <= high and not (above and value == low)):
        return
    least = f"more than {low:g}" if above else f"{low:g} or more"
    limit = "" if math.isinf(high) else f", at most {high:g}"
    raise UsageError(f"{name} is {value}, {least}{limit} was expected")
