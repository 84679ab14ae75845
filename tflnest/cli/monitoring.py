"""`tflnest monitor`."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from tflnest.cli import ui
from tflnest.cli.connection import board_at, connection_options, take_connection
from tflnest.errors import UsageError, VerificationError
from tflnest.version import JSON_SCHEMA_VERSION

if TYPE_CHECKING:
    from tflnest.bridge.messages import StateRow, StatisticsRow


@click.command("monitor", short_help="Watch a board: pages, runs, traffic, errors.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.05),
    default=1.0,
    show_default=True,
    metavar="S",
    help="Seconds between looks.",
)
@click.option(
    "--count", type=click.IntRange(min=1), metavar="N", help="Stop after N looks. [default: Ctrl-C]"
)
@click.option("--reset", is_flag=True, help="Set the counters to 0 first.")
@click.option(
    "--replay",
    type=click.Path(),
    metavar="TRACE",
    help="Instead, send again what the host sent in a trace, and compare the answers; exits with 4 where they differ. [default: watch]",
)
@connection_options
@ui.output_options
def command(
    interval: float,
    count: int | None,
    reset: bool,
    replay: str | None,
    output_format: str,
    quiet: bool,
    no_progress: bool,
    **options: Any,
) -> None:
    """Show resident pages, level, runs, their time, traffic and errors, a line per look.

    Takes the board away from any other program that talks to it. JSON comes as one document per line.

    \b
    Examples:
      tflnest monitor --port /dev/ttyACM0
      tflnest monitor --replay push.trace --port /dev/ttyACM0
    """
    screen = ui.screen(output_format, quiet, no_progress)
    connection = take_connection(options)
    if replay is not None:
        _replay(screen, replay, connection)
        return
    with board_at(**connection) as board:
        if reset:
            board.reset_statistics()
        looks = 0
        while count is None or looks < count:
            if looks:
                time.sleep(interval)
            _show(screen, board.state(), board.statistics())
            looks += 1


def _show(screen: ui.Screen, state: StateRow, counts: StatisticsRow) -> None:
    pages = [page for page in range(8) if state.resident >> page & 1]
    if screen.is_json:
        document = {"resident_pages": pages, "level": state.level or None, "free_sram_bytes": state.free_sram}
        click.echo(
            json.dumps({"schema_version": JSON_SCHEMA_VERSION, **document, "statistics": asdict(counts)})
        )
        return
    lost = counts.damaged_frames + counts.oversized_frames + counts.stalled_frames
    names = ", ".join(map(str, pages)) or "none"
    screen.line(
        f"level {state.level or '-'}  pages {names}  free {state.free_sram:,} B  runs {counts.runs:,} "
        f"({counts.run_milliseconds:,} ms)  in {counts.received_bytes:,} B  out {counts.sent_bytes:,} B  "
        f"lost frames {lost:,}  overruns {counts.overruns:,}  errors {counts.errors:,}"
    )


def _replay(screen: ui.Screen, path: str, connection: dict[str, Any]) -> None:
    from tflnest.bridge.remote import open_transport
    from tflnest.bridge.trace import read_trace, replay

    if connection["trace"]:
        raise UsageError("--replay and --trace were given", "a trace that is played again is there already")
    rows = read_trace(path)
    transport = open_transport(connection["port"], connection["baud"])
    try:
        result = replay(rows, transport, connection["timeout"])
    finally:
        transport.close()
    screen.json(asdict(result))
    screen.line(
        f"{result.sent_bytes:,} B sent, {result.received_bytes:,} of {result.expected_bytes:,} B received, "
        f"{'identical' if result.identical else 'different'}"
    )
    if not result.identical:
        raise VerificationError(
            "the board answered other bytes than in the trace",
            "a board in another state, or at another speed, does: reset it first",
        )
