"""Nested integers: one integer weight at several bit-widths.

A weight is a list of planes. Plane i holds one unsigned code of `bits` bits and stands for
`(code - zero) << shift`. A level is a prefix of the planes, named by its total bit-width; its weight is the
sum of its planes plus the level's constant `mid`. Every level decodes to the int8 grid of the full 8 bits,
so one int8 kernel and one scale serve all levels.

`bucket` cuts `u = w + 128` into disjoint bit fields from the top: exactly n bits per weight for any number
of levels; a part-bit weight decodes to the middle of its bucket. `compensated` is NestQuant's
`w = (w_high << l) + w_low` with a signed `w_low` of l + 1 bits: one extra bit per step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tflnest.errors import FormatError, UsageError

#: Width of the grid that every level decodes to (int8).
MASTER_BITS = 8


class Scheme(StrEnum):
    """How a weight is divided into planes."""

    BUCKET = "bucket"
    COMPENSATED = "compensated"


@dataclass(frozen=True)
class Plane:
    """One plane: a code stands for `(code - zero) << shift`.

    Attributes:
        bits: Bits of one code, 1..8.
        shift: Left shift, 0..7.
        zero: Code that stands for zero, 0..2**(bits - 1).
    """

    bits: int
    shift: int
    zero: int


def check_levels(levels: Sequence[int]) -> tuple[int, ...]:
    """Validate a chain of levels.

    Args:
        levels: Bit-widths, strictly increasing, each 1..8; the last one is the full-bit level.

    Raises:
        UsageError: They are empty, not increasing or out of range.
    """
    chain = tuple(levels)
    if not chain:
        raise UsageError("a chain of levels is empty", "give for example 4,6,8")
    if any(isinstance(level, bool) or not isinstance(level, int) for level in chain):
        raise UsageError(f"levels {list(chain)} are not all whole numbers", "give for example 4,6,8")
    if any(not 1 <= level <= MASTER_BITS for level in chain):
        raise UsageError(f"levels {','.join(map(str, chain))} are not all within 1..{MASTER_BITS}")
    if any(low >= high for low, high in pairwise(chain)):
        raise UsageError(f"levels {','.join(map(str, chain))} do not increase", "give for example 4,6,8")
    return chain


@dataclass(frozen=True)
class Nesting:
    """A chain of levels under a scheme: all that is needed to split and join weights.

    Attributes:
        levels: Bit-widths, strictly increasing; the last one is the full-bit level.
        scheme: How the weights are divided.

    Raises:
        UsageError: The levels are no chain.
    """

    levels: tuple[int, ...]
    scheme: Scheme = Scheme.BUCKET

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", check_levels(self.levels))
        object.__setattr__(self, "scheme", Scheme(self.scheme))

    @cached_property
    def planes(self) -> tuple[Plane, ...]:
        """One plane per level."""
        base = self.levels[0]
        planes = [Plane(base, MASTER_BITS - base, 1 << (base - 1))]
        for low, high in pairwise(self.levels):
            step = high - low
            if self.scheme is Scheme.BUCKET:
                planes.append(Plane(step, MASTER_BITS - high, 0))
            else:
                planes.append(Plane(step + 1, MASTER_BITS - high, 1 << step))
        return tuple(planes)

    def mid(self, level: int) -> int:
        """The constant that a level adds: half a bucket for `bucket`, 0 for the full 8 bits and otherwise."""
        if self.scheme is Scheme.COMPENSATED or level == MASTER_BITS:
            return 0
        return 1 << (MASTER_BITS - 1 - level)

    def index(self, level: int) -> int:
        """Position of a level in the chain.

        Raises:
            UsageError: The chain does not have it.
        """
        if level not in self.levels:
            raise UsageError(f"level {level} is not among the levels {','.join(map(str, self.levels))}")
        return self.levels.index(level)

    def stored_bits(self, level: int) -> int:
        """Bits per weight that must be resident to run at a level, the extra bits of `compensated` included."""
        return sum(plane.bits for plane in self.planes[: self.index(level) + 1])

    def truncate(self, weights: NDArray[np.int8]) -> list[NDArray[np.int8]]:
        """Signed codes of every level by dropping low bits (`w >> (8 - b)`): the nearest bucket.

        Args:
            weights: int8, any shape.

        Returns:
            One int8 array per level, in [-2**(b-1), 2**(b-1) - 1].
        """
        return [weights >> np.int8(MASTER_BITS - level) for level in self.levels]

    def split(self, codes: Sequence[NDArray[np.int8]]) -> list[NDArray[np.uint8]]:
        """Divide the signed codes of every level into planes.

        Args:
            codes: One integer array per level, same shapes, in [-2**(b-1), 2**(b-1) - 1].

        Returns:
            One uint8 array of codes per plane.

        Raises:
            UsageError: A level's codes do not nest in those of the next one (a rounding method's fault).
        """
        planes = []
        previous: NDArray[np.int32] | None = None
        for plane, level, level_codes in zip(self.planes, self.levels, codes, strict=True):
            signed = level_codes.astype(np.int32)
            low, high = -(1 << (level - 1)), (1 << (level - 1)) - 1
            if signed.size and not (signed.min() >= low and signed.max() <= high):
                raise UsageError(
                    f"codes of level {level} lie in {signed.min()}..{signed.max()}, allowed is {low}..{high}"
                )
            shift = level - self.levels[self.levels.index(level) - 1] if previous is not None else 0
            code = signed + plane.zero if previous is None else signed - (previous << shift) + plane.zero
            if code.size and not (code.min() >= 0 and code.max() < 1 << plane.bits):
                raise UsageError(
                    f"codes of level {level} do not nest: the {plane.bits}-bit plane would hold {code.min()}..{code.max()}"
                )
            planes.append(code.astype(np.uint8))
            previous = signed
        return planes

    def join(self, planes: Sequence[NDArray[np.uint8]], level: int) -> NDArray[np.int8]:
        """The weights of a level, on the int8 grid.

        Args:
            planes: uint8 codes, at least as many planes as the level needs.
            level: One of `levels`.

        Returns:
            int8 weights, shaped like the planes.

        Raises:
            FormatError: The codes join to values outside int8 (a corrupt `compensated` file).
        """
        count = self.index(level) + 1
        total = np.full(planes[0].shape, self.mid(level), dtype=np.int16)
        for plane, codes in zip(self.planes[:count], planes[:count], strict=True):
            total += (codes.astype(np.int16) - np.int16(plane.zero)) << np.int16(plane.shift)
        if total.size and not (total.min() >= -128 and total.max() <= 127):
            raise FormatError(f"planes join to weights in {total.min()}..{total.max()}, outside int8")
        return total.astype(np.int8)
