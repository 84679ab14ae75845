"""Cases of the kernels with weights on an emulated board: outputs, instructions, scratch."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from firmware_sim.board import Board
from firmware_sim.counting import Counter
from firmware_sim.emulator import run
from firmware_sim.image import Image
from firmware_sim.toolchain import WARNINGS, Toolchain
from tests.runtime.weight_cases import Case
from tests.runtime.weight_library import RUNTIME, SOURCES
from tflnest.device.structures import Computed, Pointer, Scalar, members

FIRMWARE = Path(__file__).parent / "firmware" / "weight_cases.c"

#: Where the cases lie, counted from the start of the flash (QEMU takes room for .bss behind the code), and what the board's buffers hold.
CASES_OFFSET = 0x40000
OUTPUT_BYTES = 1 << 16
SCRATCH_BYTES = 1 << 16

KERNELS = ("conv", "depthwise_conv", "fully_connected")
_WORD = 4


@dataclass(frozen=True)
class Measurement:
    """What a board says of one case.

    Attributes:
        wrong: Outputs that differ from the reference.
        scratch_bytes: What the kernel asks for.
        instructions: Of the call; 0 where none were counted.
    """

    wrong: int
    scratch_bytes: int
    instructions: int


class Blob:
    """Memory of the board, filled by the host: little-endian, pointers of 32 bits."""

    def __init__(self, base: int) -> None:
        self.base = base
        self.content = bytearray()

    def place(self, data: bytes) -> int:
        """The address of new bytes, aligned to 16, between guards."""
        self.content += bytes(-len(self.content) % 16)
        address = self.base + len(self.content)
        self.content += data
        return address

    def array(self, values: NDArray[Any]) -> int:
        """The address of the values of an array."""
        return self.place(np.ascontiguousarray(values).tobytes())

    def structure(self, value: Any) -> bytes:
        """A mirrored struct as the board lays it out."""
        made, alignment = bytearray(), 1
        for member in members(type(value)):
            item = getattr(value, member.name)
            if isinstance(member.kind, Scalar) and member.count is None:
                size = ctypes.sizeof(member.kind.ctype)
                part = int(item).to_bytes(size, "little", signed=not member.kind.name.startswith("u"))
            elif isinstance(member.kind, Pointer):
                part, size = struct.pack("<I", self._address(item)), _WORD
            elif member.is_array:
                part, size = struct.pack("<I", self._array_of_structures(item)), _WORD
            else:
                part, size = self.structure(item), _WORD
            made += bytes(-len(made) % size) + part
            alignment = max(alignment, size)
        return bytes(made) + bytes(-len(made) % alignment)

    def _address(self, data: Any) -> int:
        if data is None:
            return 0
        assert isinstance(data, Computed)
        return self.array(data.values)

    def _array_of_structures(self, items: Sequence[Any]) -> int:
        return self.place(b"".join([self.structure(item) for item in items])) if items else 0


def _blob(base: int, cases: Sequence[Case]) -> bytes:
    blob = Blob(base)
    head = _WORD + len(cases) * 6 * _WORD
    blob.place(bytes(head))
    rows = [struct.pack("<I", len(cases))]
    for case in cases:
        params = blob.place(blob.structure(case.params))
        filter_ = blob.place(blob.structure(case.filter))
        addresses = (params, filter_, blob.array(case.input), blob.array(case.expected))
        rows.append(struct.pack("<6I", KERNELS.index(case.kernel), *addresses, case.expected.size))
    blob.content[:head] = b"".join(rows)
    return bytes(blob.content)


def build(
    board: str,
    folder: Path,
    optimization: str = "-O2",
    flags: Sequence[str] = (),
    kernels: Sequence[Path] = SOURCES,
) -> Image:
    """Link the firmware that runs cases; `kernels` are the kernels' sources, or objects made of them."""
    profile = Board.load(board)
    definitions = [
        f"-DCASES_ADDRESS=0x{profile.flash_base + CASES_OFFSET:x}u",
        f"-DOUTPUT_BYTES={OUTPUT_BYTES}u",
        f"-DSCRATCH_BYTES={SCRATCH_BYTES}u",
    ]
    return Toolchain.find().link(
        profile,
        [FIRMWARE, *kernels],
        folder / f"{board}.elf",
        include=[RUNTIME / "include", RUNTIME / "src"],
        optimization=optimization,
        flags=[*WARNINGS, *definitions, *flags],
    )


def measure(
    board: str, image: Image, cases: Sequence[Case], folder: Path, *, count: bool = False
) -> list[Measurement]:
    """Run cases on an emulated board.

    Args:
        board: Name of its profile.
        image: What `build` made.
        cases: Each must fit the board's flash; they are run together as far as they do.
        folder: For the cases' file.
        count: Count instructions.
    """
    profile = Board.load(board)
    base = profile.flash_base + CASES_OFFSET
    content = _blob(base, cases)
    assert image.flash_bytes <= CASES_OFFSET
    if len(content) > profile.flash_bytes - CASES_OFFSET:
        assert len(cases) > 1, "a case is too large for the board"
        halves = cases[: len(cases) // 2], cases[len(cases) // 2 :]
        return [one for half in halves for one in measure(board, image, half, folder, count=count)]
    path = folder / f"{board}.cases"
    path.write_bytes(content)
    counter = Counter() if count else None
    done = run(profile, image.path, counter=counter, blobs={base: path}, timeout_s=300.0)
    lines = [tuple(map(int, line.split())) for line in done.output.decode("ascii").splitlines()]
    counts = [region.instructions for region in done.regions] if count else [0] * len(cases)
    assert len(lines) == len(counts) == len(cases)
    return [Measurement(*line, number) for line, number in zip(lines, counts, strict=True)]
