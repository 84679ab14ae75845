"""Firmware with TFLM and the component for emulated boards, and what it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from firmware_sim.board import Board, Emulation
from firmware_sim.board_port import SOURCES
from firmware_sim.image import Image
from firmware_sim.toolchain import PREFIX, Toolchain, core_flags
from tests.tflnest.tflm.component import Toolset
from tests.tflnest.tflm.tree import MODELS_SECTION, Tree

STACK_BYTES = 8192
SETTINGS = (f"-DARENA_BYTES={3 << 20}",)
_FLAGS = (
    "-O2",
    "-ffunction-sections",
    "-fdata-sections",
    "-fno-unwind-tables",
    "-fno-asynchronous-unwind-tables",
)


@dataclass(frozen=True)
class Processor:
    """A processor, and an emulated board that has one and enough memory.

    Attributes:
        board: With a stack for an interpreter.
        models: Address of memory for the models, beyond that of the linker.
    """

    board: Board
    models: int


def _large(profile: str, **changes: Any) -> Board:
    """A board with a stack for an interpreter, and other memory or another processor."""
    board = Board.load(profile)
    assert board.port is not None
    return replace(board, port=replace(board.port, thread_stack_bytes=STACK_BYTES), **changes)


def _cortex_m0() -> Processor:
    """The micro:bit with 32 MiB of SRAM and 4 MiB of flash."""
    sram, flash = 32 << 20, 4 << 20
    options = f"-global nrf51-soc.sram-size={sram} -global nrf51-soc.flash-size={flash}"
    board = _large("microbit", sram_bytes=sram, flash_bytes=flash, emulator=Emulation("microbit", options))
    return Processor(board, 0x2100_0000)


def _mps2(name: str) -> Processor:
    """4 MiB of SRAM at 0x20000000 and 16 MiB at 0x21000000."""
    return Processor(_large(name, sram_bytes=32 << 20), 0x2100_0000)


def _cortex_m7() -> Processor:
    """4 MiB of SRAM, and 16 MiB at 0x60000000, which the protection unit would not let through."""
    board = _large("mps2-an500")
    assert board.port is not None
    return Processor(replace(board, port=replace(board.port, has_mpu=False)), 0x6000_0000)


def _cortex_m33(core: str) -> Processor:
    """The MPS2 with AN505: 4 MiB in place of flash and 4 MiB of SRAM by their secure addresses, 16 MiB more."""
    board = _large(
        "mps3-an547",
        name="mps2-an505",
        core=core,
        flash_bytes=4 << 20,
        sram_base=0x3800_0000,
        sram_bytes=4 << 20,
        emulator=Emulation("mps2-an505"),
    )
    assert board.port is not None
    board = replace(board, port=replace(board.port, uart_base=0x5020_0000))
    return Processor(board, 0x8000_0000)


def _cortex_m55() -> Processor:
    """The MPS3 with AN547: 4 MiB of SRAM and its large memory, by their secure addresses."""
    board = _large("mps3-an547", sram_base=0x3100_0000, sram_bytes=4 << 20)
    return Processor(board, 0x7000_0000)


#: "m33_plain" is a Cortex-M33 with neither the DSP instructions nor floating point.
PROCESSORS = {
    "m0": _cortex_m0(),
    "m3": _mps2("mps2-an385"),
    "m4": _mps2("mps2-an386"),
    "m7": _cortex_m7(),
    "m33_plain": _cortex_m33("cortex-m33"),
    "m33": _cortex_m33("cortex-m33-dsp"),
    "m55": _cortex_m55(),
}


#: What is run: a processor, and whether the kernels around are those of CMSIS-NN.
VARIANTS = (
    ("m0", False),
    ("m0", True),
    ("m4", False),
    ("m4", True),
    ("m7", True),
    ("m33", True),
    ("m55", True),
)


@dataclass(frozen=True)
class Printed:
    """What the program says.

    Attributes:
        numbers: By name.
        outputs: Of the stock model, then of every step that runs the nested one.
        statuses: Of every other step, negated.
    """

    numbers: dict[str, int]
    outputs: list[bytes]
    statuses: list[int] = field(default_factory=list)

    @classmethod
    def parse(cls, text: str) -> Printed:
        """Read what it wrote."""
        rows = [line.split() for line in text.splitlines() if line and not line.startswith("tflnest:")]
        outputs = [bytes.fromhex(row[1]) for row in rows if row[0] == "output"]
        statuses = [int(row[1]) for row in rows if row[0] == "status"]
        numbers = {row[0]: int(row[1]) for row in rows if row[0] not in ("output", "status")}
        return cls(numbers, outputs, statuses)


def board_tree(path: Path, has_cmsis: bool, processor: str = "m4") -> Tree:
    """A tree of TFLM, compiled for a processor."""
    flags = (*_FLAGS, *core_flags(PROCESSORS[processor].board.core))
    return Tree(path, Toolset(f"{PREFIX}gcc", f"{PREFIX}g++", flags), has_cmsis, own_log=True)


def objects_for(built: Tree, folder: Path, extra: Sequence[str] = ()) -> list[Path]:
    """The component and the program."""
    return built.program(folder, (*SETTINGS, "-DBOARD", f"-I{SOURCES}"), extra)


def link(files: Sequence[Path], output: Path, processor: str = "m4") -> Image:
    """Link objects, the models and TFLM's library, in this order."""
    chosen = PROCESSORS[processor]
    place = f"-Wl,--section-start={MODELS_SECTION}=0x{chosen.models:x}"
    sources = [*files, "-lstdc++", "-lm"]
    return Toolchain.find().link(chosen.board, sources, output, flags=(place,))
