"""What a generated firmware takes when it is linked, beside what was planned."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from firmware_sim.board import Board, CycleCosts, Emulation, FlashMethods, Port
from firmware_sim.firmware.project import read_manifest
from firmware_sim.firmware.selftest import run_selftest
from firmware_sim.image import Image
from firmware_sim.target import align_up
from firmware_sim.toolchain import Toolchain, link_error
from tflnest.errors import TflnestError, UsageError
from tflnest.version import JSON_SCHEMA_VERSION

#: Linked flash may differ by so much from what was planned: compilers differ.
FLASH_TOLERANCE = 0.02

ELF = "build/firmware.elf"
_BUILD_SECONDS = 600
_STACK_SECTION = ".stack"


@dataclass(frozen=True)
class Linked:
    """What a linked firmware takes, in bytes.

    Attributes:
        stack_bytes: Stacks.
        arena_bytes: Activations and scratch.
        slot_bytes: Pages in SRAM.
        static_bytes: All other variables, with the gaps between objects.
        sram_bytes: Everything in SRAM.
        flash_bytes: Everything in flash.
        sector_bytes: Sectors for pages that come over the line, the part of it that is not linked.
    """

    stack_bytes: int
    arena_bytes: int
    slot_bytes: int
    static_bytes: int
    sram_bytes: int
    flash_bytes: int
    sector_bytes: int


@dataclass(frozen=True)
class SizeReport:
    """Planned and linked sizes of a firmware.

    Attributes:
        folder: Of the project.
        manifest: What was planned.
        board: The board.
        linked: What was linked.
        stack_peak_bytes: The most of the stack that a run in QEMU used; None where it was not run.
    """

    folder: Path
    manifest: Mapping[str, Any]
    board: Board
    linked: Linked
    stack_peak_bytes: int | None = None

    @property
    def sram_equal(self) -> bool:
        """Whether every part of the SRAM has exactly its planned size."""
        planned = self.manifest["sram"]
        return all(
            planned[name] == getattr(self.linked, name)
            for name in ("stack_bytes", "arena_bytes", "slot_bytes", "static_bytes")
        )

    @property
    def flash_deviation(self) -> float | None:
        """Linked over planned flash, less 1; None where none was planned."""
        planned = self.manifest["flash"]
        return None if planned is None else self.linked.flash_bytes / planned["total_bytes"] - 1.0

    @property
    def as_planned(self) -> bool:
        """Whether SRAM is equal and flash within the tolerance."""
        deviation = self.flash_deviation
        planned = self.manifest["flash"]
        if planned is not None and planned["sector_bytes"] != self.linked.sector_bytes:
            return False
        return self.sram_equal and (deviation is None or abs(deviation) <= FLASH_TOLERANCE)

    def to_dict(self) -> dict[str, Any]:
        """For a report in JSON."""
        return {
            "schema_version": JSON_SCHEMA_VERSION,
            "folder": str(self.folder),
            "board": self.board.name,
            "planned": {"sram": self.manifest["sram"], "flash": self.manifest["flash"]},
            "linked": vars(self.linked),
            "stack_peak_bytes": self.stack_peak_bytes,
            "sram_equal": self.sram_equal,
            "flash_deviation": self.flash_deviation,
            "as_planned": self.as_planned,
        }


def measure_size(folder: str | Path, *, run: bool = False) -> SizeReport:
    """Build a generated firmware where needed, and measure it.

    Args:
        folder: Of the project.
        run: Also run it in QEMU, to measure the stack; only firmware without a protocol runs by itself.

    Raises:
        UsageError: The folder holds no firmware for a board, or one that does not run by itself.
        DoesNotFitError: The linker says that the board's memory is too small.
        TflnestError: It cannot be built.
        DeviceError: It does not run.
    """
    path = Path(folder)
    manifest = read_manifest(path)
    if manifest["kind"] != "firmware":
        raise UsageError(f"{path}: is a component, and has no size of its own", "link it into a firmware")
    if run and manifest["protocol"] != "none":
        raise UsageError(
            f"{path}: waits for a host, and does not run by itself", "generate it with --protocol none"
        )
    board = board_from(manifest["board"])
    image = build(path, board)
    peak = run_selftest(board, image).stack_bytes if run else None
    return SizeReport(path, manifest, board, linked_sizes(image, board), peak)


def build(folder: Path, board: Board) -> Image:
    """The linked firmware of a project; `make` builds what is not up to date.

    Raises:
        DoesNotFitError: The linker says that the board's memory is too small.
        TflnestError: It cannot be built.
    """
    Toolchain.find()
    command = ["make", "--silent", f"--jobs={os.cpu_count() or 1}", "-C", str(folder), ELF]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_BUILD_SECONDS, check=False
        )
    except OSError as error:
        raise TflnestError(f"make cannot be started: {error.strerror or error}", "install make") from error
    except subprocess.TimeoutExpired:
        raise TflnestError(f"make took longer than {_BUILD_SECONDS} s") from None
    if done.returncode:
        raise link_error(board, done.stderr)
    return Image(folder / ELF)


def linked_sizes(image: Image, board: Board) -> Linked:
    """The sizes of a linked firmware."""
    sections = image.sections.values()
    sram = (
        max(section.address + section.size for section in sections if section.is_writable) - board.sram_base
    )
    rooms = [symbol.size for name, symbol in image.symbols.items() if name.startswith("model_room_")]
    sectors = sum(align_up(size, board.flash_sector_bytes) for size in rooms)
    flash = [section for section in sections if section.has_content]
    last = max(section.load_address + section.size for section in flash)
    symbols = image.symbols
    stack = image.sections[_STACK_SECTION].size
    arena = symbols["arena"].size if "arena" in symbols else 0
    slots = sum(symbol.size for name, symbol in symbols.items() if name.startswith("model_slot_"))
    return Linked(
        stack_bytes=stack,
        arena_bytes=arena,
        slot_bytes=slots,
        static_bytes=sram - stack - arena - slots,
        sram_bytes=sram,
        flash_bytes=last - min(section.load_address for section in flash) + sectors,
        sector_bytes=sectors,
    )


def board_from(values: Mapping[str, Any]) -> Board:
    """The board that a manifest describes.

    Raises:
        UsageError: The manifest is damaged.
    """
    try:
        made = {**values, "cycles": CycleCosts(**values["cycles"])}
        if "port" in values:
            made["port"] = Port(**values["port"])
        if "emulator" in values:
            made["emulator"] = Emulation(**values["emulator"])
        if "flash" in values:
            made["flash"] = FlashMethods(**values["flash"])
        return Board(**made)
    except (KeyError, TypeError) as error:
        raise UsageError(
            f"the description of the board is damaged: {error}", "generate the firmware again"
        ) from None
