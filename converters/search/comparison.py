"""Whether one assignment is better than another, or chance made it look so: compared on the same samples."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Chance that a search takes any assignment for better than uniform widths where none is.
CHANCE = 0.05


@dataclass(frozen=True)
class Comparison:
    """The best of several assignments against uniform widths.

    The best of many looks better than it is: chance chose it. So its lead counts only if it is larger than the best
    of so many assignments that are no better would reach in one search of twenty (one-sided, normal distribution,
    Bonferroni's correction for their number).

    Attributes:
        uniform: The uniform widths.
        challenger: The widths of the best other assignment.
        lead: By how much its mean cross-entropy is smaller, in nats.
        error: Standard error of the lead, from its differences on the same samples.
        challengers: Among how many it is the best, at least 1.
    """

    uniform: tuple[int, ...]
    challenger: tuple[int, ...]
    lead: float
    error: float
    challengers: int

    @property
    def needed(self) -> float:
        """How many standard errors the lead has to exceed."""
        return NormalDist().inv_cdf(1 - CHANCE / self.challengers)

    @property
    def clear(self) -> bool:
        """Whether the lead is more than chance gives."""
        return self.lead > self.needed * self.error

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "uniform": list(self.uniform),
            "challenger": list(self.challenger),
            "lead": self.lead,
            "standard_error": self.error,
            "standard_errors_needed": self.needed,
            "challengers": self.challengers,
            "clear": self.clear,
        }


def paired_difference(first: NDArray[np.generic], second: NDArray[np.generic]) -> tuple[float, float]:
    """Mean of the differences of two measurements of the same samples, and its standard error.

    Args:
        first: Per sample, (samples,).
        second: The same of the other one, which is subtracted.

    Returns:
        Mean and standard error; the latter is infinite for fewer than two samples.
    """
    differences = np.asarray(first, np.float64) - np.asarray(second, np.float64)
    if differences.size < 2:
        return float(differences.mean()), math.inf
    return float(differences.mean()), float(differences.std(ddof=1) / math.sqrt(differences.size))
