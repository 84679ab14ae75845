"""What generated firmware consists of: pages, arena, and every object in SRAM, before anything is compiled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property

from firmware_sim.board import LEAST_RING_BYTES, Board, Port
from firmware_sim.firmware.arena import Arena, plan_firmware_arena
from firmware_sim.firmware.program import DeviceProgram, device_program
from firmware_sim.pager import Placement
from firmware_sim.sectors import MARK_BYTES
from firmware_sim.target import align_up
from tflnest.device import Call, Core
from tflnest.errors import UsageError
from tflnest.model import Model


class Protocol(StrEnum):
    """What the firmware's serial port is for."""

    SERIAL = "serial"
    NONE = "none"


class Optimization(StrEnum):
    """What the compiler optimizes for."""

    SIZE = "size"
    SPEED = "speed"

    @property
    def flag(self) -> str:
        """The flag of the compiler."""
        return "-Os" if self is Optimization.SIZE else "-O2"


@dataclass(frozen=True)
class Options:
    """What a user chooses.

    Attributes:
        level: The highest level that there is memory for; None for the full-bit level.
        pages: Where the lower-bit pages rest; the base page rests in flash.
        sectors: Whether pages that rest in flash come over the line, into sectors of their own; the base page does not.
        empty: Whether the firmware has no page at all: the base page comes too, into flash, where the other pages rest
            in SRAM into SRAM.
        smallest: Whether the smallest arena counts more than speed.
        protocol: Whether the firmware talks to a host, or runs once on input of its own.
        optimization: For size or for speed.
        dynamic: Whether the file's controller chooses the widths of each input; None: where it has one.
        marks: Whether the instructions of every operator can be counted on an emulator.
    """

    level: int | None = None
    pages: Placement = Placement.FLASH
    sectors: bool = False
    empty: bool = False
    smallest: bool = False
    protocol: Protocol = Protocol.SERIAL
    optimization: Optimization = Optimization.SPEED
    dynamic: bool | None = None
    marks: bool = False


@dataclass(frozen=True)
class FirmwarePlan:
    """Everything that is decided.

    Attributes:
        program: What runs.
        options: What was chosen.
        core: Variant of the kernels.
        arena: Where activations and scratch lie.
        top: Position of the highest level that there is memory for.
    """

    program: DeviceProgram
    options: Options
    core: Core
    arena: Arena
    top: int

    @property
    def levels(self) -> tuple[int, ...]:
        """The levels that the firmware can run, lowest first."""
        return self.program.levels[: self.top + 1]

    def placement(self, page: int) -> Placement | None:
        """Where a page rests; None where the firmware has no room for it."""
        if page > self.top:
            return None
        in_sram = self.options.empty and self.options.pages is Placement.SRAM
        return Placement.FLASH if page == 0 and not in_sram else self.options.pages

    @property
    def flash_pages(self) -> tuple[int, ...]:
        """The pages that are constants in flash."""
        return tuple(
            page
            for page in range(self.top + 1)
            if self.placement(page) is Placement.FLASH and page not in self.stored_pages
        )

    @property
    def stored_pages(self) -> tuple[int, ...]:
        """The pages that come over the line into flash."""
        options = self.options
        return tuple(
            page
            for page in range(self.top + 1)
            if self.placement(page) is Placement.FLASH
            and (options.empty or (page and options.sectors))
            and self.program.pages[page].size
        )

    def sectors_bytes(self, board: Board) -> int:
        """Bytes of flash for the pages that come into it, whole sectors."""
        sizes = (self.program.pages[page].size + MARK_BYTES for page in self.stored_pages)
        return sum(align_up(size, board.flash_sector_bytes) for size in sizes)

    def ring_bytes(self, port: Port) -> int:
        """Size of the receive buffer: the least where nobody is listened to."""
        return port.ring_bytes if self.options.protocol is Protocol.SERIAL else LEAST_RING_BYTES

    @property
    def slots(self) -> tuple[int, ...]:
        """The pages with a slot in SRAM."""
        return tuple(
            page
            for page in range(self.top + 1)
            if self.placement(page) is not Placement.FLASH and self.program.pages[page].size
        )

    @cached_property
    def calls(self) -> tuple[tuple[Call, ...], ...]:
        """The calls of every step, with the tiles and levels that were chosen."""
        return tuple(
            tuple(self._reduced(position, call) for call in step.calls)
            for position, step in enumerate(self.program.steps)
        )

    def _reduced(self, position: int, call: Call) -> Call:
        """A call without the levels that there is no memory for."""
        nested = self.program.steps[position].nested
        tile = self.arena.tiles.get(position)
        chosen = call if tile is None else call.with_tile(tile)
        if nested is None:
            return chosen
        count = sum(nested.page_of(own) <= self.top for own in range(len(nested.nesting.levels)))
        return replace(chosen, filters=chosen.filters[:count])


def plan_firmware(model: Model, core: Core, options: Options) -> FirmwarePlan:
    """Decide everything that does not depend on the board's memory.

    Raises:
        UsageError: The model has no such level, or no controller where one is asked for.
        UnsupportedError: The device runtime lacks operators; the message names every one of them.
        FormatError: The model contradicts itself.
    """
    return plan_program(device_program(model, options.dynamic), core, options)


def plan_program(program: DeviceProgram, core: Core, options: Options) -> FirmwarePlan:
    """The same for a model that is bound already.

    Raises:
        UsageError: The model has no such level.
    """
    top = level_position(program.levels, options.level)
    return FirmwarePlan(program, options, core, plan_firmware_arena(program, core, options.smallest), top)


def level_position(levels: Sequence[int], level: int | None) -> int:
    """The position of a level; the highest where none is named.

    Raises:
        UsageError: There is no such level.
    """
    if level is None:
        return len(levels) - 1
    if level not in levels:
        names = ", ".join(str(known) for known in levels)
        raise UsageError(f"the model has no level {level}", f"levels: {names}")
    return levels.index(level)


def core_of(board: Board) -> Core:
    """The variant of the kernels that a board's processor runs."""
    if board.has_mve:
        return Core.MVE
    return Core.DSP if board.has_dsp else Core.PORTABLE
