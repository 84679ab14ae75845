"""`tflnest push`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tflnest.cli import ui
from tflnest.cli.connection import board_at, connection_options, take_connection

if TYPE_CHECKING:
    from tflnest.bridge.push import PushReport, PushStep
    from tflnest.model import Model


@click.command("push", short_help="Send a board the pages that it lacks.")
@click.argument("file", type=click.Path())
@click.option("--level", type=int, metavar="B", help="Up to this level. [default: the highest]")
@click.option("--dry-run", is_flag=True, help="Only show what would be sent at most; opens no port.")
@connection_options
@ui.output_options
def command(
    file: str,
    level: int | None,
    dry_run: bool,
    output_format: str,
    quiet: bool,
    no_progress: bool,
    **options: Any,
) -> None:
    """Send the board the pages of FILE that it lacks, and run at the new level.

    Pages that are there are not sent again: the board computes their CRC-32 first. A push that was cut off goes
    on where it was. Until a page is complete and verified, the board runs what it ran. A board that takes any model
    (`tflnest device` without FILE) gets the model itself first.

    \b
    Examples:
      tflnest push nested.tflite --level 4 --port /dev/ttyACM0
      tflnest push nested.tflite --port /dev/ttyACM0
    """
    from tflnest.model import Model

    screen = ui.screen(output_format, quiet, no_progress)
    model = Model.load(file)
    connection = take_connection(options)
    if dry_run:
        _show_plan(screen, model, level, connection["baud"])
        return
    with board_at(**connection) as board, screen.progress(unit="B") as progress:
        report = board.push(model, level, progress, lambda step: _tell(screen, model, step))
    screen.json({"port": board.name, **report.to_dict()})
    screen.line(summary(report))


def _tell(screen: ui.Screen, model: Model, step: PushStep) -> None:
    from tflnest.bridge.push import PushKind

    assert model.directory is not None
    if step.kind is PushKind.MODEL:
        screen.line(
            f"model {model.directory.name} has arrived with its base page: {step.payload_bytes:,} bytes"
        )
    elif step.kind is PushKind.READY:
        kind = "full-bit" if step.level == model.directory.levels[-1] else "part-bit"
        screen.line(f"{kind} model ready after {step.payload_bytes:,} bytes: level {step.level}")
    elif step.kind is PushKind.RESUMED:
        screen.note(f"page {step.page} goes on where it was cut off")
    elif step.kind is PushKind.RESTARTED:
        screen.note("the board was started anew; the push goes on")


def summary(report: PushReport) -> str:
    """What a push did, in a line."""
    if not report.payload_bytes:
        return "nothing was sent: the board has all pages"
    what = [f"pages {', '.join(map(str, report.pages))}"] if report.pages else []
    pages = " and ".join((["model"] if report.model_bytes else []) + what)
    share = (
        ""
        if report.capacity_share is None
        else f", {ui.percent(report.capacity_share)} of the line's capacity"
    )
    again = ""
    if report.repeats:
        again = f", {report.repeats:,} {'repeat' if report.repeats == 1 else 'repeats'}"
    rate = report.payload_bytes / report.seconds if report.seconds > 0 else 0
    return (
        f"{pages}: {report.payload_bytes:,} B ({report.wire_bytes:,} B on the wire) in {report.seconds:.2f} s, "
        f"{rate:,.0f} B/s{share}{again}"
    )


def _show_plan(screen: ui.Screen, model: Model, level: int | None, baud: int | None) -> None:
    """What a board without any page would be sent."""
    from tflnest.bridge.push import plan_push
    from tflnest.bridge.remote import default_baud
    from tflnest.bridge.transport import BITS_PER_BYTE

    plan = plan_push(model, level)
    speed = baud or default_baud()
    total = sum(page.size for page in plan)
    seconds = total * BITS_PER_BYTE / speed
    rows = [{"page": page.index, "level": page.level, "size_bytes": page.size} for page in plan]
    screen.json({"dry_run": True, "pages": rows, "payload_bytes": total, "baud": speed, "seconds": seconds})
    for page in plan:
        screen.line(f"page {page.index} (level {page.level})  {page.size:,} B")
    screen.line(f"at most {total:,} B, at least {seconds:.2f} s at {speed:,} baud; nothing was sent")
