"""Which base width each filter gets under a budget.

The budget counts the bits of all filters at the model's lowest level, flat ones at 8 bits. Bits go one by one
to the filter where one more bit saves the most loss for its size; since losses fall ever more slowly with the
width, that is the most accurate assignment within the budget, up to the last filter that no longer fits.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from converters.sensitivity import Sensitivity
from tflnest.errors import UsageError
from tflnest.nesting import MASTER_BITS


def allocate_widths(
    sensitivities: Sequence[Sensitivity], budget_bits: int, lowest: int, highest: int = MASTER_BITS
) -> dict[tuple[int, int], int]:
    """Base widths of filters.

    Args:
        sensitivities: The filters that nest.
        budget_bits: Bits that all of them together may take at the lowest level.
        lowest: No filter gets fewer bits.
        highest: No filter gets more bits.

    Returns:
        Width by (subgraph, tensor) of the filter.

    Raises:
        UsageError: Even at the lowest width everywhere the budget is exceeded.
    """
    widths = {_key(item): lowest for item in sensitivities}
    left = budget_bits - sum(item.weights * lowest for item in sensitivities)
    if left < 0:
        needed = budget_bits - left
        raise UsageError(
            f"the filters that nest take at least {needed:,} bits at {lowest} bits each, the budget leaves {budget_bits:,}",
            "raise the budget, or start the chain of levels lower",
        )
    queue = [(-_gain(item, lowest), number) for number, item in enumerate(sensitivities) if lowest < highest]
    heapq.heapify(queue)
    while queue:
        _, number = heapq.heappop(queue)
        item = sensitivities[number]
        if item.weights > left:
            continue
        left -= item.weights
        width = widths[_key(item)] = widths[_key(item)] + 1
        if width < highest:
            heapq.heappush(queue, (-_gain(item, width), number))
    return widths


def _key(item: Sensitivity) -> tuple[int, int]:
    return item.plan.subgraph, item.plan.tensor.index


def _gain(item: Sensitivity, width: int) -> float:
    """Loss that one more bit saves, per bit of the file.

    Where a later bit saves more than this one, the two count together: a filter may have to cross a plateau.
    """
    best = 0.0
    for target in range(width + 1, MASTER_BITS + 1):
        saved = item.losses[width] - item.losses[target]
        best = max(best, saved / ((target - width) * item.weights))
    return best
