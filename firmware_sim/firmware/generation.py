"""Generate firmware from a model: plan it, refuse what does not fit, make the project."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from firmware_sim.board import Board
from firmware_sim.board_port import port_of
from firmware_sim.firmware.code_size import FlashUse, plan_flash
from firmware_sim.firmware.memory import Sram, fit_tiles, plan_sram
from firmware_sim.firmware.plan import (
    FirmwarePlan,
    Optimization,
    Options,
    Protocol,
    core_of,
    plan_firmware,
    plan_program,
)
from firmware_sim.firmware.project import (
    MANIFEST_VERSION,
    Project,
    board_project,
    component_project,
    write_project,
)
from firmware_sim.pager import Placement
from tflnest.errors import DoesNotFitError, UsageError
from tflnest.model import Model
from tflnest.version import __version__


@dataclass(frozen=True)
class Firmware:
    """What was generated.

    Attributes:
        plan: What was decided.
        board: What it was planned for.
        sram: What will lie in SRAM; None for a component, whose surroundings are unknown.
        flash: What will lie in flash; None where the core's code was not measured, and for a component.
        project: The files.
    """

    plan: FirmwarePlan
    board: Board
    sram: Sram | None
    flash: FlashUse | None
    project: Project

    def write(self, folder: str | Path, force: bool = False) -> None:
        """Write all files into a folder, as a whole or not at all.

        Raises:
            UsageError: The folder holds what tflnest did not make, or firmware and `force` is false.
            TflnestError: The system could not write it; nothing is left behind.
        """
        write_project(self.project, folder, force)

    def to_dict(self) -> dict[str, Any]:
        """For a report in JSON."""
        return {**self.project.manifest, "files": sorted(self.project.files)}


def generate_firmware(
    model: Model | str | Path,
    board: Board | str | Path,
    options: Options | None = None,
    *,
    component: bool = False,
    title: str | None = None,
) -> Firmware:
    """Make firmware for a board, or a component for its processor, without writing anything.

    Args:
        model: A model, nested or plain int8, or its path.
        board: A board, its name, or the path of a profile.
        options: Choices; the defaults where none are given.
        component: Make C files without `main` and port.
        title: Name of the model, for the README; None for the name of its file.

    Raises:
        DoesNotFitError: The board's memory is too small; the hint says what would fit.
        UnsupportedError: The device runtime lacks operators; the message names every one of them.
        UsageError: The model has no such level, the board no port, or pages cannot come where they should.
        FormatError: The model is corrupt.
    """
    loaded = model if isinstance(model, Model) else Model.load(model)
    name = title or ("model" if isinstance(model, Model) else Path(model).stem)
    chosen = board if isinstance(board, Board) else Board.load(board)
    wanted = options or Options()
    if component:
        wanted = replace(wanted, protocol=Protocol.NONE, marks=False)
    else:
        port_of(chosen)
    plan = plan_firmware(loaded, core_of(chosen), wanted)
    _check_coming(plan, chosen)
    if component:
        manifest = _manifest(plan, chosen, None, None)
        project = component_project(plan, name, manifest, component_memory(plan))
        return Firmware(plan, chosen, None, None, project)
    plan = fit_tiles(plan, chosen)
    sram, flash = require_fit(plan, chosen)
    manifest = _manifest(plan, chosen, sram, flash)
    project = board_project(plan, chosen, name, manifest, board_memory(sram, flash, chosen))
    return Firmware(plan, chosen, sram, flash, project)


def _check_coming(plan: FirmwarePlan, board: Board) -> None:
    """Refuse firmware whose pages could not come."""
    options = plan.options
    if not (options.sectors or options.empty):
        return
    if options.protocol is not Protocol.SERIAL:
        raise UsageError(
            "pages cannot come: a component, and firmware without a protocol, have no serial port",
            "generate firmware with --protocol serial, or keep all pages in it (--pages flash)",
        )
    if plan.program.model.directory is None:
        raise UsageError(
            "the model is not nested, so it has no pages that could come", "nest it: tflnest convert"
        )
    if plan.stored_pages and not port_of(board).flash:
        raise UsageError(
            f"the port of the board {board.name} has no driver for flash sectors",
            "keep pages in SRAM (--pages sram, with --empty the base page too), or write one: PORTS.md",
        )


def _manifest(plan: FirmwarePlan, board: Board, sram: Sram | None, flash: FlashUse | None) -> dict[str, Any]:
    options = plan.options
    return {
        "manifest_version": MANIFEST_VERSION,
        "generator": f"tflnest {__version__}",
        "kind": "component" if sram is None else "firmware",
        "identity": plan.program.identity.hex(),
        "board": board.to_dict(),
        "core": str(plan.core),
        "levels": list(plan.levels),
        "pages": str(options.pages),
        "stored_pages": list(plan.stored_pages),
        "empty": options.empty,
        "protocol": str(options.protocol),
        "optimization": str(options.optimization),
        "smallest": options.smallest,
        "arena_bytes": plan.arena.bytes,
        "activation_bytes": plan.arena.activation_bytes,
        "reduced_tiles": plan.arena.is_reduced,
        "tiles": {
            str(plan.program.steps[position].operator.index): tile
            for position, tile in sorted(plan.arena.tiles.items())
        },
        "sram": None if sram is None else sram.to_dict(),
        "flash": None if flash is None else flash.to_dict(),
    }


# ------------------------------------------------------------------------------------------------------- fitting


def require_fit(plan: FirmwarePlan, board: Board) -> tuple[Sram, FlashUse | None]:
    """What firmware takes on a board.

    Raises:
        DoesNotFitError: More than there is; the hint says what would fit.
    """
    sram, flash = plan_sram(plan, board), plan_flash(plan, board)
    if sram.total_bytes > board.sram_bytes:
        parts = (
            f"stack {sram.stack_bytes:,} + arena {sram.arena_bytes:,} + pages {sram.slot_bytes:,} + "
            f"static data {sram.static_bytes:,}"
        )
        raise DoesNotFitError(
            f"{board.name}: the firmware needs {sram.total_bytes:,} bytes of SRAM ({parts}), and there are "
            f"{board.sram_bytes:,}: short by {sram.total_bytes - board.sram_bytes:,} bytes, with the smallest tiles",
            _remedy(plan, board),
            memory="sram",
            needed_bytes=sram.total_bytes,
            available_bytes=board.sram_bytes,
        )
    if flash is not None and flash.total_bytes > board.flash_bytes:
        parts = f"code about {flash.code_bytes:,} + model {flash.page_bytes + flash.constant_bytes:,}"
        if flash.sector_bytes:
            parts += f" + sectors for pages {flash.sector_bytes:,}"
        raise DoesNotFitError(
            f"{board.name}: the firmware needs {flash.total_bytes:,} bytes of flash ({parts}), and there are "
            f"{board.flash_bytes:,}: short by {flash.total_bytes - board.flash_bytes:,} bytes",
            _remedy(plan, board),
            memory="flash",
            needed_bytes=flash.total_bytes,
            available_bytes=board.flash_bytes,
        )
    return sram, flash


def fits(plan: FirmwarePlan, board: Board) -> bool:
    """Whether the memories of a board hold a firmware."""
    flash = plan_flash(plan, board)
    return plan_sram(plan, board).total_bytes <= board.sram_bytes and (
        flash is None or flash.total_bytes <= board.flash_bytes
    )


def _remedy(plan: FirmwarePlan, board: Board) -> str:
    """What would fit: other options, the first that does."""
    for options, text in _other_options(plan):
        if fits(fit_tiles(plan_program(plan.program, plan.core, options), board), board):
            return f"this would fit: {text}"
    return "no option makes it fit: choose another board or a smaller model"


def _other_options(plan: FirmwarePlan) -> Iterator[tuple[Options, str]]:
    options = plan.options
    if options.optimization is Optimization.SPEED:
        yield replace(options, optimization=Optimization.SIZE), "--optimize size"
    empty = " --empty" if options.empty else ""
    for pages in (Placement.FLASH, Placement.HOST):
        if pages is not options.pages or options.sectors:
            yield replace(options, pages=pages, sectors=False), f"--pages {pages}{empty}"
    for level in reversed(plan.levels[:-1]):
        if options.sectors:
            yield replace(options, level=level), f"--level {level} --pages sectors{empty}"
        for pages in dict.fromkeys((options.pages, Placement.FLASH, Placement.HOST)):
            text = f"--level {level} --pages {pages}{empty}"
            yield replace(options, level=level, pages=pages, sectors=False), text


# -------------------------------------------------------------------------------------------------------- README


def board_memory(sram: Sram, flash: FlashUse | None, board: Board) -> str:
    """What firmware takes, for its README."""
    rows = [
        "| SRAM | bytes |",
        "|---|---|",
        f"| arena: activations and scratch | {sram.arena_bytes:,} |",
        f"| slots of pages | {sram.slot_bytes:,} |",
        f"| other variables | {sram.static_bytes:,} |",
        f"| stacks | {sram.stack_bytes:,} |",
        f"| all, of {board.sram_bytes:,} | {sram.total_bytes:,} |",
    ]
    if flash is not None:
        rows += [
            "",
            "| flash | bytes |",
            "|---|---|",
            f"| pages | {flash.page_bytes:,} |",
            *([f"| sectors for pages | {flash.sector_bytes:,} |"] if flash.sector_bytes else []),
            f"| parameters and tables | {flash.constant_bytes:,} |",
            f"| code, estimated | {flash.code_bytes:,} |",
            f"| all, of {board.flash_bytes:,} | {flash.total_bytes:,} |",
        ]
    return "\n".join(rows)


def component_memory(plan: FirmwarePlan) -> str:
    """What a component takes, for its README."""
    slots = sum(plan.program.pages[page].size for page in plan.slots)
    pages = sum(plan.program.pages[page].size for page in plan.flash_pages)
    return (
        f"SRAM: an arena of {plan.arena.bytes:,} bytes, {slots:,} bytes for pages from outside, and a few bytes of "
        f"state. Flash: {pages:,} bytes of pages, besides parameters and code."
    )
