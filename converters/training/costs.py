"""BitOPs of a network whose widths are chosen: multiply-accumulates times weight bits times activation bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tflnest.nesting import MASTER_BITS
from tflnest.widths import bit_operations


@dataclass(frozen=True)
class Costs:
    """BitOPs relative to those of the full-bit level without a controller.

    Attributes:
        fixed: Of the operators that nobody chooses for, and of the controller.
        choices: Of each controlled operator at each choice, (operators, choices).
        macs: Multiply-accumulates of the network.
    """

    fixed: float
    choices: NDArray[np.float32]
    macs: int

    def of(self, positions: Sequence[int] | NDArray[np.int64]) -> NDArray[np.float64]:
        """Cost of each sample.

        Args:
            positions: The choice of each operator, (samples, operators).
        """
        chosen = np.asarray(positions, np.int64).reshape(-1, len(self.choices))
        rows = np.arange(len(self.choices))
        total: NDArray[np.float64] = self.fixed + self.choices[rows, chosen].astype(np.float64).sum(axis=1)
        return total


def costs(
    macs: Mapping[int, int],
    present: Mapping[int, tuple[int, int]],
    choices: Mapping[int, Sequence[tuple[int, int]]],
    controller_macs: int,
) -> Costs:
    """Costs of the choices of a network.

    Args:
        macs: Of every operator with a filter.
        present: (weight bits, activation bits) of the operators that nobody chooses for.
        choices: The same for each choice of the controlled ones, in the order of `Costs.choices`.
        controller_macs: Of the controller's dense layers.
    """
    full = float(_full_bit(sum(macs.values())))
    fixed = _full_bit(controller_macs) + sum(
        int(bit_operations(macs[index], *bits)) for index, bits in present.items()
    )
    table = [bit_operations(macs[index], *np.asarray(of).T) / full for index, of in choices.items()]
    return Costs(fixed / full, np.asarray(table, np.float32), sum(macs.values()))


def _full_bit(macs: int) -> int:
    return int(bit_operations(macs, MASTER_BITS, MASTER_BITS))
