"""`tflnest verify`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import click

from tflnest.cli import ui
from tflnest.cli.connection import board_at, connection_options, take_connection
from tflnest.errors import VerificationError


@click.command("verify", short_help="Check the pages that a board holds.")
@click.argument("file", type=click.Path(), required=False)
@connection_options
@ui.output_options
def command(file: str | None, output_format: str, quiet: bool, no_progress: bool, **options: Any) -> None:
    """Let the board compute the CRC-32 of every page in its memory, and compare.

    Without FILE they must be what the firmware says its pages are. Exits with 4 where one is not.

    \b
    Example:
      tflnest verify nested.tflite --port /dev/ttyACM0
    """
    screen = ui.screen(output_format, quiet, no_progress)
    with board_at(**take_connection(options)) as board:
        checks = board.verify(file)
    screen.json({"pages": [{**asdict(check), "sound": check.sound} for check in checks]})
    screen.table(
        ["page", "level", "resident", "expected", "on the board", "result"],
        [
            (
                check.page,
                check.level,
                "yes" if check.resident else "no",
                f"{check.expected_crc32:08x}",
                "-" if check.crc32 is None else f"{check.crc32:08x}",
                ("sound" if check.sound else "DAMAGED") if check.resident else "-",
            )
            for check in checks
        ],
        left=("resident", "result"),
    )
    damaged = [str(check.page) for check in checks if not check.sound]
    if damaged:
        raise VerificationError(
            f"page {', '.join(damaged)} on the board is damaged",
            "page it out and push it again",
        )
