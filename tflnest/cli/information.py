"""`tflnest info`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tflnest.cli import ui
from tflnest.cli.connection import board_at, connection_options, take_connection

if TYPE_CHECKING:
    from tflnest.bridge.info import BoardInfo


@click.command("info", short_help="Ask a board what it is and what it runs.")
@connection_options
@ui.output_options
def command(output_format: str, quiet: bool, no_progress: bool, **options: Any) -> None:
    """Show the board, its firmware, its model, the pages it holds and its counters.

    \b
    Examples:
      tflnest info --port /dev/ttyACM0
      tflnest info --port socket://127.0.0.1:5331 --format json
    """
    screen = ui.screen(output_format, quiet, no_progress)
    with board_at(**take_connection(options)) as board:
        info = board.info()
    screen.json(info.to_dict())
    _show(screen, info)


def _show(screen: ui.Screen, info: BoardInfo) -> None:
    document = info.to_dict()
    transfer = document["transfer"]
    what = "a model" if transfer and transfer["page"] is None else f"page {(transfer or {}).get('page')}"
    room = ui.size(info.description_room or 0)
    screen.facts(
        [
            ("board", info.board),
            ("firmware", f"tflnest {info.runtime_version}, protocol {info.device.protocol_version}"),
            (
                "frames",
                f"{info.device.frame_bytes:,} B, {info.device.window_bytes:,} B may be on their way",
            ),
            ("model", info.identity[:12] if info.levels else f"none; takes any of up to {room}"),
            ("levels", ", ".join(map(str, info.levels)) or "none"),
            ("runs at", level_name(info.level)),
            ("free SRAM", ui.size(info.state.free_sram)),
            (
                "transfer",
                f"{what}, {transfer['offset']:,} B have arrived" if transfer else "none",
            ),
        ]
    )
    screen.line()
    screen.table(
        ["page", "level", "place", "bytes", "room", "resident"],
        [
            (
                page["page"],
                page["level"],
                page["place"],
                f"{page['size_bytes']:,}",
                f"{page['capacity_bytes']:,}",
                "yes" if page["resident"] else "no",
            )
            for page in document["pages"]
        ],
        left=("place",),
    )
    screen.line()
    screen.facts(
        (name.replace("_", " "), f"{count:,}") for name, count in document["statistics"].items() if count
    )


def level_name(level: int | None) -> str:
    """A level for people."""
    return "levels of its operators, or none yet" if level is None else f"level {level}"
