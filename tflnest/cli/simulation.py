"""`tflnest simulate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tflnest.cli import ui
from tflnest.cli.boards import board_options, load_board
from tflnest.files import check_writable

if TYPE_CHECKING:
    from firmware_sim.simulation import Simulation


@click.command("simulate")
@click.argument("file", type=click.Path())
@click.option("--board", metavar="NAME|FILE", required=True, help="`tflnest boards` lists them.")
@board_options
@click.option("--level", type=int, help="Run at this level all the time. [default: full-bit]")
@click.option("--schedule", metavar="B@N,...", help='Levels over inferences, for example "4@0,8@10,4@20".')
@click.option(
    "--pages",
    type=click.Choice(["flash", "sram", "host"]),
    default="flash",
    show_default=True,
    help="Where the lower-bit pages rest; from the host they come over the serial port.",
)
@click.option(
    "--data", type=click.Path(), help="Samples to run: .npz with key x, or .npy. [default: memory only]"
)
@click.option("--runs", type=int, metavar="N", help="Number of inferences.")
@click.option("--plot", type=click.Path(), metavar="PNG", help="Write the memory timeline as a picture.")
@click.option("--trace", type=click.Path(), metavar="JSON", help="Write every event.")
@click.option("-f", "--force", is_flag=True, help="Overwrite the picture and the trace.")
@ui.output_options
def command(
    file: str,
    board: str,
    sram: str | None,
    flash: str | None,
    data: str | None,
    plot: str | None,
    trace: str | None,
    force: bool,
    output_format: str,
    quiet: bool,
    no_progress: bool,
    **options: Any,
) -> None:
    """Run FILE on a pretend board whose SRAM and flash really are limits.

    Prints what every operator needs, what each level keeps resident and what a switch moves. A model that does
    not fit ends with exit code 5 and says what would fit. Cycles and times are estimates.

    \b
    Examples:
      tflnest simulate nested.tflite --board stm32vldiscovery --level 4
      tflnest simulate nested.tflite --board nrf52840 --pages host --schedule "4@0,8@10,4@20" --plot timeline.png
    """
    from firmware_sim.simulation import simulate
    from firmware_sim.timeline import write_plot, write_trace
    from tflnest.dataset import load_dataset
    from tflnest.schema import require_extra

    screen = ui.screen(output_format, quiet, no_progress)
    for path in (plot, trace):
        if path is not None:
            check_writable(path, force)
    if plot is not None:
        require_extra("matplotlib", "plot", "to draw the timeline")
    inputs = None if data is None else load_dataset(data).x
    with screen.progress() as progress:
        result = simulate(file, load_board(board, sram, flash), inputs=inputs, progress=progress, **options)
    if plot is not None:
        write_plot(result, plot, force)
    if trace is not None:
        write_trace(result, trace, force)
    screen.json(result.to_dict())
    _show_board(screen, result)
    _show_operators(screen, result)
    _show_levels(screen, result)
    _show_switches(screen, result)
    for path in (plot, trace):
        if path is not None:
            screen.line(f"wrote {path}")


def _show_board(screen: ui.Screen, result: Simulation) -> None:
    board, arena = result.board, result.arena
    screen.line(f"{result.name} on {board.title} ({board.name})")
    screen.line(
        f"SRAM   {ui.size(result.peak_sram_bytes):>12} of {ui.size(board.sram_bytes)} at the peak: "
        f"arena {ui.size(arena.needed_bytes)}, stack and static data {ui.size(board.stack_bytes)}, page slots the rest"
    )
    needs = max(result.needs, key=lambda item: item.flash_bytes)
    screen.line(
        f"flash  {ui.size(needs.flash_bytes):>12} of {ui.size(board.flash_bytes)}: "
        f"pages {ui.size(needs.page_bytes)}, runtime {ui.size(needs.runtime_bytes)} (estimate)"
    )
    screen.line(
        f"time   {1000 * result.inference_seconds:>9,.1f} ms an inference at {board.clock_hz / 1e6:g} MHz: "
        f"{result.macs:,} multiply-accumulates, {round(result.cycles):,} cycles (estimate: {board.cycles.source})"
    )


def _show_operators(screen: ui.Screen, result: Simulation) -> None:
    screen.line()
    screen.table(
        ["operator", "live", "scratch", "tile", "MACs", "cycles"],
        [
            (
                memory.label,
                ui.size(memory.live_bytes),
                ui.size(memory.scratch_bytes),
                memory.tile_channels or "",
                "" if cost is None else f"{cost.macs:,}",
                "" if cost is None else f"{round(cost.cycles):,}",
            )
            for memory, cost in result.operator_rows()
        ],
        left=("operator",),
    )


def _show_levels(screen: ui.Screen, result: Simulation) -> None:
    screen.line()
    screen.table(
        ["level", "page", "resident", "separate model", "SRAM", "flash", "fits"],
        [
            (
                size.level,
                ui.size(size.page_bytes),
                ui.size(size.resident_bytes),
                ui.size(size.separate_bytes),
                ui.size(needs.sram_bytes),
                ui.size(needs.flash_bytes),
                "yes" if needs.fits else "no",
            )
            for size, needs in zip(result.storage.levels, result.needs, strict=True)
        ],
    )


def _show_switches(screen: ui.Screen, result: Simulation) -> None:
    storage = result.storage
    if not storage.switches:
        return
    screen.line()
    for switch in storage.switches:
        screen.line(
            f"switch {switch.low} <-> {switch.high}: {ui.size(switch.page_bytes)}; separate models move "
            f"{ui.size(switch.separate_bytes)} ({100 * switch.reduction:.1f} % less)"
        )
    screen.line(
        f"storage: {ui.size(storage.nested_bytes)}; separate models take {ui.size(storage.separate_bytes)} "
        f"({100 * storage.reduction:.1f} % less)"
    )
    screen.line()
    rows = []
    for move in result.moves:
        rows.append(
            (
                move.inference,
                move.level,
                ", ".join(f"{'in' if item.incoming else 'out'} {item.page}" for item in move.transfers)
                or "-",
                ui.size(move.moved_bytes),
                ui.size(move.link_bytes),
                f"{move.seconds:.2f} s",
            )
        )
    screen.table(
        ["inference", "level", "pages", "moved", "over the link", "link time"], rows, left=("pages",)
    )
