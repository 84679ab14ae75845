"""`tflnest flash`."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from tflnest.cli import ui
from tflnest.errors import ExitCode

if TYPE_CHECKING:
    from firmware_sim.firmware.flashing import FlashPlan

_TOOLS = ("auto", "uf2", "pyocd", "openocd", "esptool", "emulator")


@click.command("flash", short_help="Put firmware onto a board.")
@click.argument("folder", type=click.Path())
@click.option("--board", type=ui.BOARD, metavar="NAME|FILE", help="[default: the one it was generated for]")
@click.option(
    "--tool",
    type=click.Choice(_TOOLS),
    default="auto",
    show_default=True,
    help="What does it; auto: the first that the board's profile names and that is here.",
)
@click.option("--probe", metavar="ID", help="Debug probe, or a part of its ID. [default: the only one]")
@click.option(
    "-p",
    "--port",
    metavar="PORT|FOLDER",
    help="Serial port (esptool), or folder of the bootloader's drive (uf2). [default: found by itself]",
)
@click.option("-n", "--dry-run", is_flag=True, help="Only show what would be run; builds and opens nothing.")
@click.option("--no-build", is_flag=True, help="Take the firmware as it was built before.")
@ui.output_options
def command(
    folder: str,
    board: str | None,
    tool: str,
    probe: str | None,
    port: str | None,
    dry_run: bool,
    no_build: bool,
    output_format: str,
    quiet: bool,
    no_progress: bool,
) -> ExitCode:
    """Build the firmware in FOLDER where needed, and put it onto its board, or start the board in QEMU.

    pyOCD and OpenOCD use a debug probe, esptool a serial port, uf2 the drive of a bootloader. The profile of
    the board says which of them reach it. Ends with exit code 3 where tool, probe or drive is missing.

    \b
    Examples:
      tflnest flash firmware
      tflnest flash firmware --tool pyocd --dry-run
      tflnest flash firmware --tool emulator
    """
    from firmware_sim.board import Board
    from firmware_sim.emulator import Emulator
    from firmware_sim.firmware.flashing import Tool, build_firmware, flash, plan_flash
    from tflnest.cli.emulation import watch

    screen = ui.screen(output_format, quiet, no_progress)
    plan = plan_flash(
        folder,
        Board.load(board) if board else None,
        None if tool == "auto" else Tool(tool),
        probe=probe,
        port=port,
        dry_run=dry_run,
    )
    if dry_run:
        screen.json({"dry_run": True, **plan.to_dict()})
        _show_plan(screen, plan)
        screen.line("nothing was built or flashed")
        return ExitCode.OK
    image = build_firmware(plan, make=not no_build)
    if plan.tool is Tool.EMULATOR:
        return watch(screen, Emulator(plan.board, image))
    _show_plan(screen, plan)
    try:
        with screen.progress(unit="B" if plan.tool is Tool.UF2 else "") as progress:
            report = flash(plan, image, progress)
    except KeyboardInterrupt:
        screen.note(f"the flash of {plan.board.name} may be incomplete: flash it again")
        raise
    screen.json({"dry_run": False, **report.to_dict()})
    screen.line(f"{plan.board.name}: {report.flash_bytes:,} B flashed in {report.seconds:.1f} s")
    return ExitCode.OK


def _show_plan(screen: ui.Screen, plan: FlashPlan) -> None:
    """The commands as they can be typed, or what is done instead."""
    from firmware_sim.firmware.flashing import Tool
    from firmware_sim.firmware.size import ELF
    from firmware_sim.uf2 import FIRMWARE

    for words in plan.commands:
        screen.line(f"$ {shlex.join(words)}")
    if plan.tool is Tool.UF2:
        drive = "the drive of the bootloader" if plan.drive is None else plan.drive.folder
        screen.line(f"{FIRMWARE} is copied to {drive}")
    elif plan.tool is Tool.EMULATOR:
        screen.line(f"$ {shlex.join(['tflnest', 'emulate', str(plan.folder / ELF)])}")
