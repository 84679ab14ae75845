"""`tflnest simulate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tflnest.cli import ui
from tflnest.cli.boards import board_options, load_board
from tflnest.cli.widths import millions, show_widths
from tflnest.files import check_writable
from tflnest.interpreter import ENGINES

if TYPE_CHECKING:
    from firmware_sim.simulation import Simulation


@click.command("simulate", short_help="Run on a pretend board whose memory is a limit.")
@click.argument("file", type=click.Path())
@click.option(
    "--board", type=ui.BOARD, metavar="NAME|FILE", required=True, help="`tflnest boards` lists them."
)
@board_options
@click.option("--level", type=int, metavar="B", help="Run at this level throughout. [default: full-bit]")
@click.option("--schedule", metavar="B@N,...", help='Levels over inferences, for example "4@0,8@10,4@20".')
@click.option(
    "--pages",
    type=click.Choice(["flash", "sram", "host"]),
    default="flash",
    show_default=True,
    help="Where the lower-bit pages rest; from the host they come over the serial port.",
)
@click.option(
    "--data",
    type=click.Path(),
    metavar="FILE",
    help="Samples to run: .npz with key x, or .npy. [default: none, memory only]",
)
@click.option(
    "--runs", type=int, metavar="N", help="Number of inferences. [default: as the schedule and the data ask]"
)
@click.option(
    "--engine",
    type=click.Choice(ENGINES),
    default=ENGINES[0],
    show_default=True,
    help="What computes the outputs; both give the same bits.",
)
@click.option("--plot", type=click.Path(), metavar="PNG", help="Write the memory timeline as a picture.")
@click.option("--trace", type=click.Path(), metavar="JSON", help="Write the report with every event.")
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
    """Run FILE, nested or plain, on a pretend board whose SRAM and flash really are limits.

    Prints what every operator needs, what each level keeps resident and what a switch moves. A model that does
    not fit ends with exit code 5 and says what would fit. Cycles and times are estimates.

    \b
    Examples:
      tflnest simulate nested.tflite --board stm32vldiscovery --level 4
      tflnest simulate nested.tflite --board nrf52840 --pages host \\
          --schedule "4@0,8@10,4@20" --plot timeline.png
    """
    from firmware_sim.simulation import simulate
    from firmware_sim.timeline import write_plot, write_trace
    from tflnest.dataset import load_dataset
    from tflnest.model import Model
    from tflnest.runner import single_input
    from tflnest.schema import require_extra

    screen = ui.screen(output_format, quiet, no_progress)
    for path in (plot, trace):
        if path is not None:
            check_writable(path, force)
    if plot is not None:
        require_extra("matplotlib", "plot", "to draw the timeline")
    chosen = load_board(board, sram, flash)
    inputs = None if data is None else load_dataset(data).inputs_for(single_input(Model.load(file)))
    with screen.progress() as progress:
        result = simulate(file, chosen, inputs=inputs, progress=progress, **options)
    if plot is not None:
        write_plot(result, plot, force)
    if trace is not None:
        write_trace(result, trace, force)
    screen.json(result.to_dict())
    _show_board(screen, result)
    _show_operators(screen, result)
    _show_levels(screen, result)
    _show_switches(screen, result)
    _show_widths(screen, result)
    for path in (plot, trace):
        if path is not None:
            screen.line(f"wrote {path}")


def _show_board(screen: ui.Screen, result: Simulation) -> None:
    board, needs, tflm = result.board, result.memory, result.arena
    slots = result.peak_sram_bytes - needs.arena_bytes - needs.stack_bytes
    kind = "generated firmware" if needs.is_firmware else "TFLM: the device runtime lacks an operator"
    instructions = "" if result.instructions is None else f"{round(result.instructions):,} instructions, "
    tiles = ", with smaller tiles than usual to fit: slower" if needs.is_reduced else ""
    screen.facts(
        [
            ("model", f"{result.name}, {_levels(result)}"),
            ("board", f"{board.title} ({board.name})"),
            (
                "SRAM",
                f"{ui.size(result.peak_sram_bytes)} of {ui.size(board.sram_bytes)} at the peak: arena "
                f"{ui.size(needs.arena_bytes)}, stack and static data {ui.size(needs.stack_bytes)}, "
                f"page slots {ui.size(slots)} ({kind}{tiles})",
            ),
            *_smallest(result),
            (
                "flash",
                f"{ui.size(needs.flash_bytes)} of {ui.size(board.flash_bytes)}: pages "
                f"{ui.size(needs.page_bytes)}, code and parameters {ui.size(needs.runtime_bytes)} (estimate)",
            ),
            (
                "TFLM",
                f"would need an arena of {ui.size(tflm.needed_bytes)}: head {ui.size(tflm.head_bytes)}, "
                f"tail {ui.size(tflm.tail_bytes)}",
            ),
            (
                "time",
                f"{1000 * result.inference_seconds:,.1f} ms an inference at {board.clock_hz / 1e6:g} MHz: "
                f"{result.macs:,} multiply-accumulates, {instructions}{round(result.cycles):,} cycles (estimate: "
                f"{board.cycles.source})",
            ),
        ]
    )


def _smallest(result: Simulation) -> list[tuple[str, str]]:
    """What the arena could be, where there is scratch in it."""
    needs = result.memory
    if not needs.is_firmware or needs.arena_bytes == needs.activation_bytes:
        return []
    saved = ui.size(needs.arena_bytes - needs.activation_bytes)
    return [("", f"{saved} of the arena are scratch for speed: tflnest firmware --smallest does without")]


def _levels(result: Simulation) -> str:
    """What ran: one level, or a schedule."""
    runs = f"{result.runs} inference{'s' if result.runs > 1 else ''}"
    if result.identity is None:
        return f"not nested, {runs}"
    if len(result.schedule) == 1:
        return f"level {result.schedule[0].level}, pages in {result.placement}, {runs}"
    schedule = ",".join(map(str, result.schedule))
    return f"schedule {schedule}, pages in {result.placement}, {runs}"


def _show_operators(screen: ui.Screen, result: Simulation) -> None:
    screen.line()
    screen.table(
        ["operator", "live", "scratch", "tile", "MACs", "cycles"],
        [
            (
                memory.label,
                ui.size(memory.live_bytes),
                ui.size(memory.scratch_bytes),
                "" if memory.tile_channels is None else memory.tile_channels,
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
        ["level", "page", "resident", "separate", "SRAM", "flash", "fits"],
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
    screen.table(
        ["switch", "moves", "separate models move", "saved"],
        [
            (
                f"{switch.low} <-> {switch.high}",
                ui.size(switch.page_bytes),
                ui.size(switch.separate_bytes),
                f"{100 * switch.reduction:.1f} %",
            )
            for switch in storage.switches
        ]
        + [
            (
                "storage",
                ui.size(storage.nested_bytes),
                ui.size(storage.separate_bytes),
                f"{100 * storage.reduction:.1f} %",
            )
        ],
        left=("switch",),
    )
    screen.line()
    screen.table(
        ["inference", "level", "pages", "moved", "over the link", "link time"],
        [
            (
                move.inference,
                move.level,
                ", ".join(f"{'in' if item.incoming else 'out'} {item.page}" for item in move.transfers)
                or "-",
                ui.size(move.moved_bytes),
                ui.size(move.link_bytes),
                f"{move.seconds:.2f} s",
            )
            for move in result.moves
        ],
        left=("pages",),
    )


def _show_widths(screen: ui.Screen, result: Simulation) -> None:
    """What the controller chose."""
    if result.widths is None:
        return
    operations = float(result.widths.bit_operations().mean())
    screen.line()
    screen.line(f"the controller chose, with {millions(operations)} bit operations an inference on average:")
    show_widths(screen, result.widths.of_operators())
