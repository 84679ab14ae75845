"""Firmware with TFLM and the component for an emulated Cortex-M4, and what it says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from firmware_sim.board import Board
from firmware_sim.board_port import SOURCES
from firmware_sim.image import Image
from firmware_sim.toolchain import PREFIX, Toolchain, core_flags
from tests.tflnest.tflm.component import Toolset
from tests.tflnest.tflm.tree import Tree

LEVELS = (8, 4, 6, 8)
BOARD = "mps2-an386"
STACK_BYTES = 4096
SETTINGS = ("-DLEVELS=" + ",".join(map(str, LEVELS)), "-DARENA_BYTES=98304")
_FLAGS = (
    "-O2",
    "-ffunction-sections",
    "-fdata-sections",
    "-fno-unwind-tables",
    "-fno-asynchronous-unwind-tables",
)


@dataclass(frozen=True)
class Printed:
    """What the program says.

    Attributes:
        numbers: By name.
        outputs: Of the stock model, then of the nested one at every level.
    """

    numbers: dict[str, int]
    outputs: list[bytes]

    @classmethod
    def parse(cls, text: str) -> Printed:
        """Read what it wrote."""
        rows = [line.split() for line in text.splitlines() if line and not line.startswith("tflnest:")]
        outputs = [bytes.fromhex(row[1]) for row in rows if row[0] == "output"]
        return cls({row[0]: int(row[1]) for row in rows if row[0] != "output"}, outputs)


def profile() -> Board:
    """The board, with a stack for an interpreter."""
    board = Board.load(BOARD)
    assert board.port is not None
    return replace(board, port=replace(board.port, thread_stack_bytes=STACK_BYTES))


def board_tree(path: Path, has_cmsis: bool) -> Tree:
    """A tree of TFLM, compiled for the board."""
    flags = (*_FLAGS, *core_flags(profile().core))
    return Tree(path, Toolset(f"{PREFIX}gcc", f"{PREFIX}g++", flags), has_cmsis, own_log=True)


def objects_for(built: Tree, folder: Path, extra: Sequence[str] = ()) -> list[Path]:
    """The component and the program."""
    return built.program(folder, (*SETTINGS, "-DBOARD", f"-I{SOURCES}"), extra)


def link(toolchain: Toolchain, files: Sequence[Path], output: Path) -> Image:
    """Link objects, the models and TFLM's library, in this order."""
    return toolchain.link(profile(), [*files, "-lstdc++", "-lm"], output, flags=())
