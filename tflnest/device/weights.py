"""How the C kernels see weights: flat ones, or the fields of packed planes at a level."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tflnest.device.parameters import Field, Filter
from tflnest.device.structures import Computed, Constant, Data
from tflnest.errors import FormatError
from tflnest.fixedpoint import MAX_SHIFT, MIN_SHIFT
from tflnest.nesting import Nesting
from tflnest.packing import field_bytes, fields
from tflnest.parts import Part


def level_fields(nesting: Nesting, level: int, planes: Sequence[Part], count: int) -> tuple[Field, ...]:
    """The fields that make the weights of a level, most significant first.

    Args:
        nesting: Chain and scheme.
        level: One of its levels.
        planes: Where each plane lies; at least as many as the level needs.
        count: Number of weights.
    """
    result = []
    position = nesting.index(level)
    for part, plane in zip(planes[: position + 1], nesting.planes, strict=False):
        start, remaining = part.offset, plane.bits
        for width in fields(plane.bits):
            remaining -= width
            result.append(Field(Constant(part.tensor, start), width, plane.shift + remaining))
            start += field_bytes(count, width)
    return tuple(result)


def level_offset(nesting: Nesting, level: int) -> int:
    """What is added to the sum of the fields, modulo 256: the level's constant less the zeros of its planes."""
    zeros = sum(plane.zero << plane.shift for plane in nesting.planes[: nesting.index(level) + 1])
    return (nesting.mid(level) - zeros) % 256


def is_disjoint(parts: Sequence[Field], offset: int) -> bool:
    """Whether no two fields share a bit and adding the offset is an exclusive OR with it.

    The highest bit may be in both: its carry is lost.
    """
    used = 0
    for part in parts:
        mask = ((1 << part.bits) - 1) << part.shift
        if used & mask:
            return False
        used |= mask
    return not (used & offset & 0x7F)


def nested_filter(
    nesting: Nesting,
    level: int,
    planes: Sequence[Part],
    count: int,
    *,
    bias: Part,
    multipliers: Part,
    shifts: Part,
) -> Filter:
    """The filter of a nested operator at a level; everything lies in the file.

    Args:
        nesting: Chain and scheme.
        level: One of its levels.
        planes: Where each plane lies.
        count: Number of weights.
        bias: Where the level's bias lies.
        multipliers: Where the level's multipliers lie: one, or one per channel.
        shifts: Where the level's shifts lie.
    """
    parts = level_fields(nesting, level, planes, count)
    offset = level_offset(nesting, level)
    return Filter(
        values=None,
        fields=parts,
        field_count=len(parts),
        offset=offset,
        disjoint=int(is_disjoint(parts, offset)),
        per_channel=int(shifts.size > 1),
        bias=Constant(bias.tensor, bias.offset),
        multipliers=Constant(multipliers.tensor, multipliers.offset),
        shifts=Constant(shifts.tensor, shifts.offset),
    )


def flat_filter(
    values: Data, bias: Data, multipliers: NDArray[np.int32], shifts: NDArray[np.int32]
) -> Filter:
    """The filter of a stock operator.

    Args:
        values: int8 weights in tensor order.
        bias: int32, one per channel, or None.
        multipliers: int32, one, or one per channel.
        shifts: As many, positive = left.

    Raises:
        FormatError: A shift is out of range.
    """
    check_shifts(shifts)
    return Filter(
        values=values,
        fields=(),
        field_count=0,
        offset=0,
        disjoint=0,
        per_channel=int(multipliers.size > 1),
        bias=bias,
        multipliers=Computed(multipliers.astype(np.int32), "multipliers"),
        shifts=Computed(shifts.astype(np.int8), "shifts"),
    )


def check_shifts(shifts: NDArray[np.int32]) -> None:
    """Raise FormatError unless all shifts are possible."""
    worst = int(shifts.reshape(-1)[np.abs(shifts).argmax()])
    if not MIN_SHIFT <= worst <= MAX_SHIFT:
        raise FormatError(
            f"a factor between scales needs a shift of {worst} bits, and {MIN_SHIFT} to {MAX_SHIFT} are possible"
        )
