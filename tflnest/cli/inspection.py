"""`tflnest inspect`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tflnest.cli import ui
from tflnest.cli.boards import board_options, load_board
from tflnest.errors import UsageError

if TYPE_CHECKING:
    from firmware_sim.fitting import Needs
    from firmware_sim.inspection import Inspection, Port


@click.command("inspect")
@click.argument("file", type=click.Path())
@click.option("--board", metavar="NAME|FILE", help="Say what fits on a board; `tflnest boards` lists them.")
@board_options
@click.option("-v", "--verbose", is_flag=True, help="Also list every nested filter, and the arena's tail.")
@ui.output_options
def command(
    file: str,
    board: str | None,
    sram: str | None,
    flash: str | None,
    verbose: bool,
    output_format: str,
    quiet: bool,
    no_progress: bool,
) -> None:
    """Show what is in FILE, nested or plain, and how large a tensor arena it takes.

    Without a board the arena is that of a Cortex-M. Head, tail and minimum are those of TensorFlow Lite Micro.

    \b
    Example:
      tflnest inspect nested.tflite --board stm32vldiscovery
    """
    from firmware_sim.inspection import inspect

    screen = ui.screen(output_format, quiet, no_progress)
    if board is None and (sram is not None or flash is not None):
        raise UsageError("--sram and --flash change a board", "name one with --board")
    chosen = None if board is None else load_board(board, sram, flash)
    result = inspect(file, chosen)
    screen.json(result.to_dict())
    _show_file(screen, result)
    _show_levels(screen, result)
    _show_arena(screen, result, verbose)
    if verbose:
        _show_filters(screen, result)
    if result.recipe:
        screen.line()
        screen.line("recipe")
        for line in result.recipe.rstrip().splitlines():
            screen.line(f"  {line}")


def _show_file(screen: ui.Screen, result: Inspection) -> None:
    screen.line(f"{result.name}: {ui.size(result.bytes)}, SHA-256 {result.sha256[:12]}")
    if result.identity is not None:
        screen.line(f"identity  {result.identity}")
    for name, ports in (("input", result.inputs), ("output", result.outputs)):
        for port in ports:
            screen.line(f"{name:<9} {_port(port)}")
    operators = ", ".join(f"{count} {name}" for name, count in sorted(result.operators.items()))
    screen.line(f"operators {operators}")
    screen.line(f"filters   {len(result.nested)} nested, {len(result.flat)} flat")


def _port(port: Port) -> str:
    quantization = "" if port.scale is None else f", scale {port.scale:.6g}, zero point {port.zero_point}"
    return f"{port.name or '(unnamed)'} {port.type}{list(port.shape)}{quantization}"


def _show_levels(screen: ui.Screen, result: Inspection) -> None:
    screen.line()
    columns = ["level", "bits per weight", "page", "resident"]
    crcs = {page.level: f"{page.crc32:08x}" for page in result.pages}
    if crcs:
        columns.append("CRC-32")
    placements = list(dict.fromkeys(str(item.placement) for item in result.needs))
    columns += [f"pages in {name}" if crcs else "fits" for name in placements]
    rows = []
    for size in result.levels:
        row = [
            str(size.level),
            f"{size.bits_per_weight:.2f}",
            ui.size(size.page_bytes),
            ui.size(size.resident_bytes),
        ]
        if crcs:
            row.append(crcs[size.level])
        row += [_fit(item) for item in result.needs if item.level == size.level]
        rows.append(row)
    screen.table(columns, rows)


def _fit(needs: Needs) -> str:
    if needs.fits:
        return "fits"
    short = [("SRAM", needs.sram_short_bytes), ("flash", needs.flash_short_bytes)]
    return "short " + ", ".join(f"{ui.size(count)} {name}" for name, count in short if count)


def _show_arena(screen: ui.Screen, result: Inspection, verbose: bool) -> None:
    arena = result.arena
    where = (
        f"board {result.board.name}: {ui.size(result.board.sram_bytes)} SRAM, {ui.size(result.board.flash_bytes)} flash"
        if result.board
        else "no board"
    )
    screen.line()
    screen.line(f"arena ({arena.target.name}; {where})")
    screen.line(f"  head     {ui.size(arena.head_bytes):>12}  activations and scratch")
    screen.line(f"  tail     {ui.size(arena.tail_bytes):>12}  persistent objects")
    screen.line(f"  total    {ui.size(arena.total_bytes):>12}")
    screen.line(f"  minimum  {ui.size(arena.minimum_bytes):>12}  smallest arena that works")
    if arena.peak is not None:
        screen.line(f"  peak at operator {arena.peak.label}: {ui.size(arena.peak.live_bytes)} live")
    if verbose:
        for name, count in arena.tail_breakdown.items():
            screen.line(f"    {ui.size(count):>12}  {name}")
    for name in arena.unknown_kernels:
        screen.note(f"the memory of {name}'s own kernel is not known and counts as 0 bytes")


def _show_filters(screen: ui.Screen, result: Inspection) -> None:
    screen.line()
    screen.table(
        ["filter", "operator", "weights", "levels", "scheme"],
        [
            (
                item.scope,
                f"{item.operator} {item.stock}",
                f"{item.weights:,}",
                ",".join(map(str, item.levels)),
                item.scheme,
            )
            for item in result.nested
        ]
        + [(name, "", "", "flat", "") for name in result.flat],
        left=("filter", "operator", "scheme"),
    )
