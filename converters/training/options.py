"""What a nested training minimizes, and which parameters it has."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from tflnest.errors import UsageError


@dataclass(frozen=True)
class TrainingOptions:
    """Options of a nested training.

    Attributes:
        alpha: Weight of the task loss of each part-bit level (DQT, equation 11); None for one over the number of
            part-bit levels.
        distillation: Weight of the divergence of each part-bit level's probabilities from those of the full-bit
            level, which it teaches; 0 for none.
        biases_per_level: Whether every level has biases of its own.
        activations: Whether a nested operator that runs at b bits also reads its activation at b bits; the
            activation itself keeps 8, and so do flat operators.
        activation_range: Part of the range that calibration saw which activations that nested operators read can
            hold at first; less than 1 where they are read at few bits, as most values are far below the largest.
        levels_per_step: How many levels a step runs: the full-bit one; the lowest where there are three or more;
            of the others those whose turn it is, whose losses then weigh more. None for all.
        only_level: Train this level alone, by its task loss; the other levels are not looked at. None for all.

    Raises:
        UsageError: A weight is negative or not finite, the range is not above 0 and up to 1, or a step runs less than two levels.
    """

    alpha: float | None = None
    distillation: float = 1.0
    biases_per_level: bool = True
    activations: bool = False
    activation_range: float = 1.0
    levels_per_step: int | None = None
    only_level: int | None = None

    def __post_init__(self) -> None:
        for name in ("alpha", "distillation"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise UsageError(f"{name} is {value}, 0 or more was expected")
        if not 0 < self.activation_range <= 1:
            raise UsageError(f"activation_range is {self.activation_range}, above 0 and up to 1 was expected")
        if self.levels_per_step is not None and self.levels_per_step < 2:
            raise UsageError(
                f"levels_per_step is {self.levels_per_step}, 2 or more was expected",
                "every step runs the full-bit level and one other at least",
            )

    def level_weight(self, part_bit_levels: int) -> float:
        """Weight of the task loss of each of so many part-bit levels."""
        return 1.0 / max(part_bit_levels, 1) if self.alpha is None else self.alpha

    def to_dict(self) -> dict[str, Any]:
        """For the configuration of a saved network."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainingOptions:
        """Invert `to_dict`; what an older network did not have keeps its default."""
        return cls(**{field.name: values[field.name] for field in fields(cls) if field.name in values})
