"""What the levels of a nested operator bring, and where it lies in its constant tensors.

Every own level brings a plane, and may bring a bias, and a set of multipliers and shifts; else it uses those of a level
below. FORMAT.md, section 6.2, is the specification.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tflnest.errors import FormatError
from tflnest.graph import Operator, Tensor


@dataclass(frozen=True)
class Part:
    """Where some values of a nested operator lie.

    Attributes:
        tensor: Index of the constant tensor that holds them.
        offset: Of the first one in it, in bytes.
        size: Bytes.
    """

    tensor: int
    offset: int
    size: int

    def values(self, content: NDArray[np.uint8], dtype: str) -> NDArray[Any]:
        """The values, given the bytes of the tensor; one-dimensional."""
        return content.reshape(-1)[self.offset : self.offset + self.size].view(dtype)


@dataclass(frozen=True)
class Layout:
    """What the own levels of an operator bring.

    Attributes:
        channels: Of the output.
        plane_bytes: Bytes of every plane.
        biases: Which bias each own level uses.
        sets: Which set of multipliers and shifts each own level uses.
        is_separate: Whether what levels bring beside their planes lies in tensors of its own.
    """

    channels: int
    plane_bytes: tuple[int, ...]
    biases: tuple[int, ...]
    sets: tuple[int, ...]
    is_separate: bool

    def brings_bias(self, position: int) -> bool:
        """Whether an own level has a bias that none below it has."""
        return self.biases[position] not in self.biases[:position]

    def brings_set(self, position: int) -> bool:
        """Whether an own level has multipliers and shifts that none below it has."""
        return self.sets[position] not in self.sets[:position]

    def constants(self, position: int) -> dict[int, int]:
        """How many bytes beside its plane an own level may bring.

        Returns:
            For each number of bytes how many multipliers are among them; empty where it brings a plane only.
        """
        bias = 4 * self.channels if self.brings_bias(position) else 0
        if self.brings_set(position):
            return {bias + 5 * count: count for count in (1, self.channels)}
        return {bias: 0} if bias else {}


@dataclass(frozen=True)
class Parts:
    """All parts of an operator, one for each own level; levels may share biases, multipliers and shifts."""

    planes: tuple[Part, ...]
    biases: tuple[Part, ...]
    multipliers: tuple[Part, ...]
    shifts: tuple[Part, ...]


def find_parts(operator: Operator, layout: Layout, tensors: Sequence[Tensor], where: str) -> Parts:
    """Find the parts of an operator in its inputs.

    Args:
        operator: The nested operator.
        layout: What its levels bring.
        tensors: Of its subgraph.
        where: Begins the text of errors.

    Raises:
        FormatError: The inputs are not what the layout asks for.
    """
    count = len(layout.plane_bytes)
    bringing = [position for position in range(count) if layout.constants(position)]
    separate = bringing if layout.is_separate else []
    expected = 1 + count + len(separate)
    if len(operator.inputs) != expected or len(operator.outputs) != 1 or -1 in operator.inputs:
        raise FormatError(
            f"{where}: it has {len(operator.inputs)} inputs, its options ask for {expected}",
            "a file of a development version before 0.1.0 must be converted again",
        )
    finder = _Finder(layout, tensors, where)
    holders = dict(zip(separate, operator.inputs[1 + count :], strict=True))
    for position, index in enumerate(operator.inputs[1 : 1 + count]):
        finder.add_level(position, index, holders.get(position, index))
    return Parts(
        tuple(finder.planes),
        tuple(finder.biases[number] for number in layout.biases),
        tuple(finder.multipliers[number] for number in layout.sets),
        tuple(finder.shifts[number] for number in layout.sets),
    )


class _Finder:
    """Collects the parts of level after level."""

    def __init__(self, layout: Layout, tensors: Sequence[Tensor], where: str) -> None:
        self.planes: list[Part] = []
        self.biases: list[Part] = []
        self.multipliers: list[Part] = []
        self.shifts: list[Part] = []
        self._layout, self._tensors, self._where = layout, tensors, where

    def add_level(self, position: int, plane: int, constants: int) -> None:
        """Note what a level brings; its plane and its constants lie in one tensor or in two."""
        start = self._layout.plane_bytes[position]
        self.planes.append(Part(plane, 0, start))
        counts = self._layout.constants(position)
        if self._layout.is_separate or not counts:
            self._check(plane, [start], "a plane")
            start = 0
        if not counts:
            return
        self._check(constants, [start + size for size in counts], "what a level brings")
        count = counts[self._tensors[constants].size - start]
        if self._layout.brings_bias(position):
            self.biases.append(Part(constants, start, 4 * self._layout.channels))
            start += 4 * self._layout.channels
        if count:
            self.multipliers.append(Part(constants, start, 4 * count))
            self.shifts.append(Part(constants, start + 4 * count, count))

    def _check(self, index: int, sizes: Sequence[int], what: str) -> None:
        tensor = self._tensors[index]
        if tensor.type != "UINT8" or tensor.size not in sizes or not tensor.is_constant:
            allowed = " or ".join(f"{size:,}" for size in dict.fromkeys(sizes))
            raise FormatError(
                f"{self._where}: tensor {tensor.label} is {tensor.type} with {tensor.size:,} elements; "
                f"{what} is a constant UINT8 with {allowed}"
            )
