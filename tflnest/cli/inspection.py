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


@click.command("inspect", short_help="Show levels, sizes and arena; what fits a board.")
@click.argument("file", type=click.Path())
@click.option(
    "--board", type=ui.BOARD, metavar="NAME|FILE", help="Say what fits; `tflnest boards` lists them."
)
@board_options
@click.option("-v", "--verbose", is_flag=True, help="List every filter, and what the arena's tail holds.")
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

    Head, tail and minimum of the arena are those of TensorFlow Lite Micro, without a board on a Cortex-M.

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
    _show_needs(screen, result)
    if verbose:
        _show_filters(screen, result)
    if result.recipe:
        screen.line()
        screen.line("recipe")
        for line in result.recipe.rstrip().splitlines():
            screen.line(f"  {line}")


def _show_file(screen: ui.Screen, result: Inspection) -> None:
    rows = [("file", f"{result.name}: {ui.size(result.bytes)}"), ("SHA-256", result.sha256)]
    if result.identity is not None:
        rows.append(("identity", result.identity))
    for name, ports in (("input", result.inputs), ("output", result.outputs)):
        rows += [(name, _port(port)) for port in ports]
    operators = ", ".join(f"{count} {name}" for name, count in sorted(result.operators.items()))
    rows += [("operators", operators), ("filters", f"{len(result.nested)} nested, {len(result.flat)} flat")]
    if result.controller is not None:
        choices = ", ".join(f"{item.level}x{item.activation_bits}" for item in result.controller.choices)
        count = len(result.controller.operators)
        rows.append(("controller", f"{count} operators, bits of weights x activation: {choices}"))
    if result.missing_on_device:
        rows.append(("not on device", ", ".join(result.missing_on_device)))
    screen.facts(rows)


def _port(port: Port) -> str:
    quantization = "" if port.scale is None else f", scale {port.scale:.6g}, zero point {port.zero_point}"
    return f"{port.name or '(unnamed)'} {port.type}{list(port.shape)}{quantization}"


def _show_levels(screen: ui.Screen, result: Inspection) -> None:
    crcs = {page.level: f"{page.crc32:08x}" for page in result.pages}
    screen.line()
    screen.table(
        ["level", "bits per weight", "page", "resident", *(["CRC-32"] if crcs else [])],
        [
            (
                size.level,
                f"{size.bits_per_weight:.2f}",
                ui.size(size.page_bytes),
                ui.size(size.resident_bytes),
                *([crcs[size.level]] if crcs else []),
            )
            for size in result.levels
        ],
    )


def _show_arena(screen: ui.Screen, result: Inspection, verbose: bool) -> None:
    arena = result.arena
    screen.line()
    screen.line(f"arena, {arena.target.name}")
    screen.line(f"  head     {ui.size(arena.head_bytes):>12}  activations and scratch")
    screen.line(f"  tail     {ui.size(arena.tail_bytes):>12}  persistent objects")
    if verbose:
        for name, count in arena.tail_breakdown.items():
            screen.line(f"    {ui.size(count):>12}  {name}")
    screen.line(f"  total    {ui.size(arena.total_bytes):>12}")
    screen.line(f"  minimum  {ui.size(arena.minimum_bytes):>12}  smallest arena that works")
    if arena.peak is not None:
        screen.line(f"  peak at operator {arena.peak.label}: {ui.size(arena.peak.live_bytes)} live")
    for name in arena.unknown_kernels:
        screen.note(f"the memory of {name}'s own kernel is not known and counts as 0 bytes")


def _show_needs(screen: ui.Screen, result: Inspection) -> None:
    board = result.board
    if board is None:
        return
    sizes = f"{ui.size(board.sram_bytes)} SRAM, {ui.size(board.flash_bytes)} flash"
    screen.line()
    screen.line(f"board {board.name}: {sizes}")
    screen.table(
        ["level", "pages in", "SRAM", "flash", "fits"],
        [
            (item.level, item.placement, ui.size(item.sram_bytes), ui.size(item.flash_bytes), _fit(item))
            for item in result.needs
        ],
        left=("pages in", "fits"),
    )


def _fit(needs: Needs) -> str:
    if needs.fits:
        return "yes"
    short = [("SRAM", needs.sram_short_bytes), ("flash", needs.flash_short_bytes)]
    return "no, short " + ", ".join(f"{ui.size(count)} {name}" for name, count in short if count)


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
