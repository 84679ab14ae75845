"""`tflnest page-out`."""

from __future__ import annotations

from typing import Any

import click

from tflnest.cli import ui
from tflnest.cli.connection import board_at, connection_options, take_connection


@click.command("page-out", short_help="Give SRAM back: drop pages from a board.")
@click.option("--level", type=int, metavar="B", help="The level that stays runnable. [default: the lowest]")
@connection_options
@ui.output_options
def command(level: int | None, output_format: str, quiet: bool, no_progress: bool, **options: Any) -> None:
    """Give up the pages in SRAM that a level does not need; the board runs on at that level.

    \b
    Example:
      tflnest page-out --port /dev/ttyACM0
    """
    screen = ui.screen(output_format, quiet, no_progress)
    with board_at(**take_connection(options)) as board:
        before = board.state().free_sram
        pages = board.page_out(level)
        state = board.state()
    freed = state.free_sram - before
    screen.json(
        {"pages": list(pages), "freed_bytes": freed, "free_sram_bytes": state.free_sram, "level": state.level}
    )
    if not pages:
        screen.line("no page was given up")
        return
    names = ", ".join(map(str, pages))
    room = f"{freed:,} B of SRAM" if freed else "their room stays theirs"
    screen.line(f"pages {names} given up: {room}, {state.free_sram:,} B are free; level {state.level}")
