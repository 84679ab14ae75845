"""The firmware `firmware/monitor.c` on an emulated board, and how to talk to it."""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from firmware_sim.board import Board
from firmware_sim.emulator import Emulator
from firmware_sim.image import Image
from firmware_sim.qemu import QEMU
from firmware_sim.toolchain import PREFIX, Toolchain

SOURCES = Path(__file__).parent / "firmware"
EMULATED = (
    "stm32vldiscovery",
    "microbit",
    "netduinoplus2",
    "mps2-an385",
    "mps2-an386",
    "mps2-an500",
    "mps3-an547",
)
WORDS_OF_A_FAULT = 7
BYTES_OF_A_COMMAND = 1 + 4


def missing_tools() -> list[str]:
    """Compiler and emulator, as far as they are not installed."""
    return [tool for tool in (f"{PREFIX}gcc", QEMU) if shutil.which(tool) is None]


def require_emulator() -> None:
    """Skip the test where compiler or emulator are not installed; fail it in continuous integration."""
    missing = missing_tools()
    if not missing:
        return
    text = f"{' and '.join(missing)} not installed: make toolchain"
    if os.environ.get("CI") == "true":
        pytest.fail(text)
    pytest.skip(text)


@cache
def folder() -> Path:
    """Where firmware of this test run lies."""
    import atexit
    import tempfile

    holder = tempfile.TemporaryDirectory(prefix="tflnest-test-")
    atexit.register(holder.cleanup)
    return Path(holder.name)


@cache
def build(board: Board, source: str = "monitor.c") -> Image:
    """The test firmware for a board, built once."""
    name = f"{board.name}-{board.sram_bytes}-{source}.elf"
    return Toolchain.find().link(board, [SOURCES / source], folder() / name)


class Monitor:
    """Speaks with the test firmware."""

    def __init__(self, machine: Emulator) -> None:
        self.machine = machine

    def boot(self) -> tuple[int, ...]:
        """Wait for the start; the fault before it, zeros for none."""
        data = self.machine.read(4 + 4 * WORDS_OF_A_FAULT)
        assert data[:4] == b"boot"
        return struct.unpack(f"<{WORDS_OF_A_FAULT}I", data[4:])

    def send(self, command: str, *words: int) -> None:
        self.machine.write(command.encode() + struct.pack(f"<{len(words)}I", *words))

    def ask(self, command: str, *words: int) -> int:
        self.send(command, *words)
        return self.word()

    def word(self) -> int:
        value: int = struct.unpack("<I", self.machine.read(4))[0]
        return value

    def echo(self, data: bytes) -> bytes:
        """Send no more at once than the board's buffer holds, the command included.

        An emulated line is faster than a real one: all of it may arrive before the firmware takes the first byte.
        """
        window = self.machine.board.port.ring_bytes - BYTES_OF_A_COMMAND
        self.send("e", len(data))
        answer = b""
        for start in range(0, len(data), window):
            chunk = data[start : start + window]
            self.machine.write(chunk)
            answer += self.machine.read(len(chunk))
        return answer


@contextmanager
def started(board: Board, source: str = "monitor.c", **options: Any) -> Iterator[Monitor]:
    """The firmware running on a board."""
    with Emulator(board, build(board, source).path, **options) as machine:
        yield Monitor(machine)
