"""`tflnest boards`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tflnest.cli import ui

if TYPE_CHECKING:
    from firmware_sim.board import Board


@click.command("boards", short_help="List the boards, or show one.")
@click.argument("name", required=False, type=ui.BOARD)
@ui.output_options
def command(name: str | None, output_format: str, quiet: bool, no_progress: bool) -> None:
    """List the board profiles, or show the profile NAME (or of a TOML file) in full.

    \b
    Examples:
      tflnest boards
      tflnest boards nrf52840
    """
    from firmware_sim.board import Board, list_boards

    screen = ui.screen(output_format, quiet, no_progress)
    boards = [Board.load(item) for item in ([name] if name else list_boards())]
    screen.json({"boards": [board.to_dict() for board in boards]})
    if name:
        screen.facts((key, _value(key, value)) for key, value in boards[0].to_dict().items())
        return
    screen.table(
        ["board", "SRAM", "flash", "core", "MHz", "description"],
        [
            (
                board.name,
                ui.size(board.sram_bytes),
                ui.size(board.flash_bytes),
                board.core,
                f"{board.clock_hz / 1e6:g}",
                board.title,
            )
            for board in boards
        ],
        left=("board", "core", "description"),
    )


def _value(key: str, value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if key.endswith("_base") and isinstance(value, int):
        return f"0x{value:08x}"
    if key.endswith("_bytes") and isinstance(value, int):
        return ui.size(value)
    if key.endswith("_hz") and isinstance(value, int):
        return f"{value:,} Hz"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_value(name, item)}" for name, item in value.items())
    return str(value)


def board_options(command: ui.Command) -> ui.Command:
    """Decorator: which board, and other memory sizes for it."""
    options = (
        click.option("--sram", metavar="SIZE", help="Other SRAM size, for example 8KiB."),
        click.option("--flash", metavar="SIZE", help="Other flash size, for example 64KiB."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def load_board(name: str, sram: str | None, flash: str | None) -> Board:
    """The board of a name or path with the sizes that were asked for."""
    from firmware_sim.board import Board, parse_size

    return Board.load(name).with_limits(
        parse_size(sram) if sram is not None else None, parse_size(flash) if flash is not None else None
    )
