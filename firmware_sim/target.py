"""How a C++ compiler lays out TensorFlow Lite Micro's structures on a target.

The tail of the tensor arena holds TFLM's own objects, so its size depends on the widths of pointers and
enums. A structure is written as a string of its members, in order, for example `"4iPPb"`:

* `P` pointer or virtual table, `z` size_t, `e` C enum, `q` int64 or double, `i` int32 or float, `h` int16,
  `b` bool or int8, each with an optional count in front;
* `( ... )` a structure inside the structure.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

_FIXED_SIZES = {"q": 8, "i": 4, "h": 2, "b": 1}


def align_up(value: int, alignment: int) -> int:
    """The smallest multiple of `alignment` that is not below `value`."""
    return -(-value // alignment) * alignment


@dataclass(frozen=True)
class Target:
    """A processor and the TFLM build that runs on it.

    Attributes:
        name: For reports.
        pointer_bytes: Size and alignment of pointers and size_t.
        enum_bytes: Size of a C enum. The bare-metal Arm ABI takes the smallest type that holds it (1).
        wheel: Whether TFLM is built as for its Python wheel: with compression, which widens some structures,
            with the recording allocator, which is itself larger, and two months newer than the release
            that the other targets follow.
    """

    name: str
    pointer_bytes: int
    enum_bytes: int
    wheel: bool = False

    @cached_property
    def _sizes(self) -> dict[str, int]:
        return {**_FIXED_SIZES, "P": self.pointer_bytes, "z": self.pointer_bytes, "e": self.enum_bytes}

    def layout(self, members: str) -> tuple[int, int]:
        """Size and alignment of a structure in bytes.

        Args:
            members: As the module describes.
        """
        size, alignment, end = self._measure(members, 0)
        if end != len(members):
            raise ValueError(f"unbalanced parenthesis in the structure {members!r}")
        return size, alignment

    def sizeof(self, members: str) -> int:
        """Size of a structure in bytes, padding included."""
        return self.layout(members)[0]

    def _measure(self, members: str, position: int) -> tuple[int, int, int]:
        offset, widest, count = 0, 1, 0
        while position < len(members) and members[position] != ")":
            letter = members[position]
            position += 1
            if letter.isdigit():
                count = 10 * count + int(letter)
                continue
            if letter == "(":
                size, alignment, position = self._measure(members, position)
                position += 1
            else:
                size = alignment = self._sizes[letter]
            offset = align_up(offset, alignment) + size * max(count, 1)
            widest, count = max(widest, alignment), 0
        return align_up(offset, widest), widest, position


#: The tflite-micro wheel for Python on x86-64 Linux (0.dev20261023182759), against which the model is tested.
X86_64 = Target("x86-64", pointer_bytes=8, enum_bytes=4, wheel=True)
#: A 32-bit microcontroller under the bare-metal Arm ABI (Cortex-M), TFLM of August 2026, reference kernels.
CORTEX_M = Target("32-bit (Cortex-M)", pointer_bytes=4, enum_bytes=1)
#: A 32-bit microcontroller whose ABI has four-byte enums (Xtensa, RISC-V).
ILP32 = Target("32-bit (4-byte enums)", pointer_bytes=4, enum_bytes=4)

TARGETS = {"x86-64": X86_64, "cortex-m": CORTEX_M, "ilp32": ILP32}
