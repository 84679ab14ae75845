"""`tflnest firmware`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tflnest.cli import ui
from tflnest.cli.boards import board_options, load_board

if TYPE_CHECKING:
    from firmware_sim.firmware.generation import Firmware

_KINDS = ("board", "c")
_REPORTS = ("text", "json")


@click.command("firmware", short_help="Generate a C project for a board.")
@click.argument("file", type=click.Path())
@click.option(
    "--board", type=ui.BOARD, metavar="NAME|FILE", required=True, help="`tflnest boards` lists them."
)
@board_options
@click.option("-o", "--output", type=click.Path(), metavar="DIR", required=True, help="Folder to make.")
@click.option("-f", "--force", is_flag=True, help="Replace firmware that was generated into DIR before.")
@click.option("--level", type=int, metavar="B", help="Highest level to leave memory for. [default: full-bit]")
@click.option("--empty", is_flag=True, help="No page at all: the base page comes over the serial port too.")
@click.option(
    "--pages",
    type=click.Choice(["flash", "sectors", "sram", "host"]),
    default="flash",
    show_default=True,
    help="Where the lower-bit pages rest; sectors: in flash, but they come over the serial port, as those in SRAM "
    "and on the host do.",
)
@click.option(
    "--smallest", is_flag=True, help="The smallest arena, that of the activations alone, however slow."
)
@click.option(
    "--protocol",
    type=click.Choice(["serial", "none"]),
    default="serial",
    show_default=True,
    help="none: the firmware runs the model on built-in input, and prints the CRC-32 of its outputs.",
)
@click.option(
    "--optimize",
    type=click.Choice(["speed", "size"]),
    default="speed",
    show_default=True,
    help="What the compiler optimizes for: -O2 or -Os.",
)
@click.option(
    "--policy",
    type=click.Choice(["static", "dynamic"]),
    help="dynamic: the controller in FILE chooses the widths of each input, up to the level that is set; static: it is "
    "left out.  [default: dynamic where FILE has a controller]",
)
@click.option("--marks", is_flag=True, help="Let `tflnest emulate --count` count every operator.")
@click.option(
    "--format",
    "formats",
    type=click.Choice([*_KINDS, *_REPORTS]),
    multiple=True,
    help="board: a whole firmware; c: a component for a project of yours. text or json: how to report. May be "
    "given twice.  [default: board, text]",
)
@click.option("-q", "--quiet", is_flag=True, help="No progress and no notes.")
@click.option("--no-progress", is_flag=True, help="No progress on stderr.")
def command(
    file: str,
    board: str,
    sram: str | None,
    flash: str | None,
    output: str,
    force: bool,
    level: int | None,
    pages: str,
    empty: bool,
    smallest: bool,
    protocol: str,
    optimize: str,
    policy: str | None,
    marks: bool,
    formats: tuple[str, ...],
    quiet: bool,
    no_progress: bool,
) -> None:
    """Turn FILE, nested or plain int8, into a C project in DIR: model, kernels, pager, board port, build files.

    Nothing is built. A model that does not fit ends with exit code 5 and says what would fit; operators that
    the device runtime lacks are all named. The same file gives the same bytes.

    \b
    Examples:
      tflnest firmware nested.tflite --board stm32vldiscovery -o firmware
      make -C firmware && tflnest size firmware
      tflnest firmware nested.tflite --board mps2-an386 --pages host -o firmware
      tflnest firmware a.tflite --board microbit --pages sectors --empty -o fw
      tflnest firmware nested.tflite --board netduinoplus2 --format c -o component
    """
    from firmware_sim.firmware.generation import generate_firmware
    from firmware_sim.firmware.plan import Optimization, Options, Protocol
    from firmware_sim.firmware.project import check_folder
    from firmware_sim.pager import Placement

    screen = ui.screen("json" if "json" in formats else "text", quiet, no_progress)
    check_folder(output, force)
    made = generate_firmware(
        file,
        load_board(board, sram, flash),
        Options(
            level=level,
            pages=Placement.FLASH if pages == "sectors" else Placement(pages),
            sectors=pages == "sectors",
            empty=empty,
            smallest=smallest,
            protocol=Protocol(protocol),
            optimization=Optimization(optimize),
            dynamic=None if policy is None else policy == "dynamic",
            marks=marks,
        ),
        component="c" in formats,
    )
    made.write(output, force)
    screen.json(made.to_dict())
    _show(screen, made, output)


def _show(screen: ui.Screen, made: Firmware, output: str) -> None:
    plan, board = made.plan, made.board
    levels = ", ".join(str(level) for level in plan.levels)
    tiles = ", with smaller tiles than usual to fit: slower" if plan.arena.is_reduced else ""
    facts = [
        ("board", f"{board.title} ({board.name}), {plan.core} kernels"),
        ("levels", levels),
        (
            "arena",
            f"{ui.size(plan.arena.bytes)}, activations alone {ui.size(plan.arena.activation_bytes)}{tiles}",
        ),
    ]
    if made.sram is not None:
        sram = made.sram
        facts.append(
            (
                "SRAM",
                f"{ui.size(sram.total_bytes)} of {ui.size(board.sram_bytes)}: arena {ui.size(sram.arena_bytes)}, "
                f"pages {ui.size(sram.slot_bytes)}, static data {ui.size(sram.static_bytes)}, "
                f"stacks {ui.size(sram.stack_bytes)}",
            )
        )
    if made.flash is not None:
        flash = made.flash
        sectors = f"sectors {ui.size(flash.sector_bytes)}, " if flash.sector_bytes else ""
        facts.append(
            (
                "flash",
                f"{ui.size(flash.total_bytes)} of {ui.size(board.flash_bytes)}: pages {ui.size(flash.page_bytes)}, "
                f"{sectors}parameters {ui.size(flash.constant_bytes)}, code {ui.size(flash.code_bytes)} (estimate)",
            )
        )
    screen.facts(facts)
    screen.line(f"wrote {output}")
