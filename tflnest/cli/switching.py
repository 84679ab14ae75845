"""`tflnest switch`."""

from __future__ import annotations

from typing import Any

import click

from tflnest.cli import ui
from tflnest.cli.connection import board_at, connection_options, take_connection


@click.command("switch", short_help="Choose the level that a board runs at.")
@click.argument("level", type=int)
@click.option("--operator", type=int, metavar="N", help="Only this operator of the model. [default: all]")
@connection_options
@ui.output_options
def command(
    level: int, operator: int | None, output_format: str, quiet: bool, no_progress: bool, **options: Any
) -> None:
    """Let the board run at LEVEL from now on. Its pages must be there; see `tflnest push`.

    \b
    Examples:
      tflnest switch 6 --port /dev/ttyACM0
      tflnest switch 8 --operator 3 --port /dev/ttyACM0
    """
    screen = ui.screen(output_format, quiet, no_progress)
    with board_at(**take_connection(options)) as board:
        board.switch(level, operator)
        info = board.info()
    levels = {row.operator: row.level for row in info.operators}
    screen.json({"level": info.level, "operators": levels})
    screen.line(
        f"the board runs at level {level}"
        if operator is None
        else f"operator {operator} runs at {level} bits"
    )
