"""What a search must reach, and where an attempt stands against it (SigmaQuant's zones)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from converters.search.costs import Costs
from tflnest.errors import BudgetError, UsageError


class Zone(StrEnum):
    """Where an attempt lies in the plane of accuracy and cost.

    TARGET meets everything; in INCREASE there is room for bits that accuracy lacks; in DECREASE accuracy allows
    fewer bits; in ITERATION both are near; ABANDON misses both clearly.
    """

    TARGET = "target"
    INCREASE = "increase"
    DECREASE = "decrease"
    ITERATION = "iteration"
    ABANDON = "abandon"


#: How far above its budget a cost counts as near, by preset: a share of the full-bit cost.
BUFFERS = {"conservative": 0.85, "balanced": 0.75, "aggressive": 0.5}


@dataclass(frozen=True)
class Budgets:
    """Targets of a search.

    Attributes:
        max_drop: Largest loss of accuracy against the full-bit model, in points (percent).
        max_bytes: Largest size of all filters.
        max_bit_operations: Largest number of bit operations; None for no limit.
        drop_buffer: How many points beyond `max_drop` still count as near.
        cost_buffer: Costs up to this share of the full-bit ones count as near.

    Raises:
        UsageError: A budget is not positive.
    """

    max_drop: float
    max_bytes: int
    max_bit_operations: int | None = None
    drop_buffer: float = 4.0
    cost_buffer: float = BUFFERS["balanced"]

    def __post_init__(self) -> None:
        if not (math.isfinite(self.max_drop) and self.max_drop >= 0):
            raise UsageError(f"the largest drop is {self.max_drop}, 0 or more points were expected")
        for name, value in (("bytes", self.max_bytes), ("bit operations", self.max_bit_operations)):
            if value is not None and value <= 0:
                raise UsageError(
                    f"the budget of {name} is {value:,}, more than 0 was expected",
                    f"give {name}, or a share of those of int8: 40%",
                )

    def accurate(self, drop: float, buffer: float = 0.0) -> bool:
        """Whether an attempt is accurate enough, by up to so many points beyond the target."""
        return drop <= self.max_drop + buffer + 1e-9

    def small(self, spent: Costs) -> bool:
        """Whether an attempt keeps to the budgets of cost."""
        return spent.bytes <= self.max_bytes and (
            self.max_bit_operations is None or spent.bit_operations <= self.max_bit_operations
        )

    def excess(self, spent: Costs) -> float:
        """By how much an attempt exceeds its budgets of cost, as shares of them."""
        over = max(0.0, spent.bytes / self.max_bytes - 1)
        if self.max_bit_operations is not None:
            over += max(0.0, spent.bit_operations / self.max_bit_operations - 1)
        return over

    def near(self, spent: Costs, full: Costs) -> bool:
        """Whether an attempt comes near the budgets of cost."""
        return spent.bytes <= max(self.max_bytes, self.cost_buffer * full.bytes) and (
            self.max_bit_operations is None
            or spent.bit_operations <= max(self.max_bit_operations, self.cost_buffer * full.bit_operations)
        )

    def zone(self, drop: float, spent: Costs, full: Costs) -> Zone:
        """Where an attempt stands.

        Args:
            drop: Points of accuracy lost against the full-bit model.
            spent: Its costs.
            full: Costs of the full-bit model.
        """
        if self.accurate(drop):
            return Zone.TARGET if self.small(spent) else Zone.DECREASE
        if self.small(spent):
            return Zone.INCREASE
        near = self.accurate(drop, self.drop_buffer) or self.near(spent, full)
        return Zone.ITERATION if near else Zone.ABANDON

    def missed(self, drop: float, spent: Costs) -> list[str]:
        """The constraints that an attempt breaks, in words with numbers."""
        broken = []
        if not self.accurate(drop):
            broken.append(f"accuracy drops by {drop:.2f} points, {self.max_drop:g} are allowed")
        if spent.bytes > self.max_bytes:
            broken.append(f"the filters take {spent.bytes:,} bytes, {self.max_bytes:,} are allowed")
        if self.max_bit_operations is not None and spent.bit_operations > self.max_bit_operations:
            broken.append(
                f"an inference takes {spent.bit_operations:,} bit operations, "
                f"{self.max_bit_operations:,} are allowed"
            )
        return broken


def check_reachable(budgets: Budgets, smallest: Costs, widths: Sequence[int]) -> None:
    """Refuse budgets that no assignment can meet.

    Raises:
        BudgetError: Even the lowest width everywhere costs more; the message says how much.
    """
    broken = []
    if smallest.bytes > budgets.max_bytes:
        broken.append(f"{budgets.max_bytes:,} bytes: {widths[0]} bits everywhere take {smallest.bytes:,}")
    limit = budgets.max_bit_operations
    if limit is not None and smallest.bit_operations > limit:
        broken.append(
            f"{limit:,} bit operations: {widths[0]} bits everywhere take {smallest.bit_operations:,}"
        )
    if broken:
        narrower = "" if widths[0] == 1 else ", or let the search choose narrower widths"
        raise BudgetError(f"a budget can't be met: {'; '.join(broken)}", f"raise the budget{narrower}")
