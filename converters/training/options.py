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

    Raises:
        UsageError: A weight is negative or not finite.
    """

    alpha: float | None = None
    distillation: float = 1.0
    biases_per_level: bool = True
    activations: bool = False

    def __post_init__(self) -> None:
        for name in ("alpha", "distillation"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise UsageError(f"{name} is {value}, 0 or more was expected")

    def level_weight(self, part_bit_levels: int) -> float:
        """Weight of the task loss of each of so many part-bit levels."""
        return 1.0 / max(part_bit_levels, 1) if self.alpha is None else self.alpha

    def to_dict(self) -> dict[str, Any]:
        """For the configuration of a saved network."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainingOptions:
        """Invert `to_dict`."""
        return cls(**{field.name: values[field.name] for field in fields(cls)})
