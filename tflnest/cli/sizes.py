"""`tflnest size`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tflnest.cli import ui
from tflnest.errors import ExitCode

if TYPE_CHECKING:
    from firmware_sim.firmware.size import SizeReport


@click.command("size", short_help="Compare linked firmware with what was planned.")
@click.argument("folder", type=click.Path())
@click.option("--run", is_flag=True, help="Run it in QEMU too, and measure the stack.")
@ui.output_options
def command(folder: str, run: bool, output_format: str, quiet: bool, no_progress: bool) -> ExitCode:
    """Build the firmware in FOLDER where needed, and compare its sections with what `tflnest firmware` planned.

    SRAM must be equal to the byte, flash within 2 %; otherwise the exit code is 4.

    \b
    Example:
      tflnest size firmware
    """
    from firmware_sim.firmware.size import measure_size

    screen = ui.screen(output_format, quiet, no_progress)
    report = measure_size(folder, run=run)
    screen.json(report.to_dict())
    _show(screen, report)
    return ExitCode.OK if report.as_planned else ExitCode.VERIFICATION


def _show(screen: ui.Screen, report: SizeReport) -> None:
    planned, linked = report.manifest["sram"], report.linked
    rows = [
        ("arena", planned["arena_bytes"], linked.arena_bytes),
        ("page slots", planned["slot_bytes"], linked.slot_bytes),
        ("static data", planned["static_bytes"], linked.static_bytes),
        ("stacks", planned["stack_bytes"], linked.stack_bytes),
        ("SRAM", planned["total_bytes"], linked.sram_bytes),
    ]
    flash = report.manifest["flash"]
    if flash is not None and flash["sector_bytes"]:
        rows.append(("flash sectors", flash["sector_bytes"], linked.sector_bytes))
    if flash is not None:
        rows.append(("flash", flash["total_bytes"], linked.flash_bytes))
    screen.table(
        ["", "planned", "linked", "difference"],
        [
            (name, f"{plan:,}", f"{link:,}", f"{link - plan:+,}" if link != plan else "0")
            for name, plan, link in rows
        ],
        left=("",),
    )
    if report.stack_peak_bytes is not None:
        screen.line(f"the stack of main was used up to {report.stack_peak_bytes:,} bytes")
    if not report.as_planned:
        screen.line("not as planned: another compiler, or files were changed")
