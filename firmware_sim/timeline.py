"""The memory of a simulation over time, as a picture and as JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from firmware_sim.simulation import Simulation
from firmware_sim.trace import Event, EventKind
from tflnest.files import check_writable, write_file
from tflnest.schema import require_extra
from tflnest.version import JSON_SCHEMA_VERSION

_ARENA, _STACK, _LIMIT, _MARK = "#3b6fb6", "#8a8f98", "#b3261e", "#333333"
_SLOTS = ("#f2a541", "#d9763a", "#b5573c", "#8f3d3d", "#6b2d3c", "#4d2138", "#331a30")
_FREE = "#f1f3f5"
_KIB = 1024
#: Labels of moves that are closer than this part of the axis are left out.
_LABEL_WIDTH = 0.09


def write_trace(simulation: Simulation, path: str | Path, force: bool = False) -> None:
    """Write the report of a simulation with every event, as JSON.

    Raises:
        UsageError: The file exists and `force` is false.
    """
    report = {
        "schema_version": JSON_SCHEMA_VERSION,
        "simulation": simulation.to_dict(),
        "events": [event.to_dict() for event in simulation.trace.events],
    }
    write_file(path, (json.dumps(report, indent=2) + "\n").encode("utf-8"), force=force)


def write_plot(simulation: Simulation, path: str | Path, force: bool = False) -> None:
    """Write a picture (PNG) of SRAM over inferences and of live bytes per operator.

    Raises:
        MissingExtraError: matplotlib is not installed.
        UsageError: The file exists and `force` is false.
    """
    require_extra("matplotlib", "plot", "to draw the memory timeline")
    check_writable(path, force)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    timeline, operators = figure.subplots(2, 1, height_ratios=(1.25, 1))
    board = simulation.board
    figure.suptitle(f"{Path(simulation.name).name} on {board.title}", fontsize=12)
    _draw_timeline(timeline, simulation)
    _draw_operators(operators, simulation)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=120, metadata={"Software": None})
    write_file(path, image.getvalue(), force=force)


# ---------------------------------------------------------------------------------------------- timeline


def _draw_timeline(axes: Any, simulation: Simulation) -> None:
    """SRAM over inferences: stack, arena and page slots stacked, the limit as a line, moves as marks."""
    board, runs = simulation.board, simulation.runs
    stack, arena = simulation.memory.stack_bytes, simulation.memory.arena_bytes
    axes.fill_between([0, runs], 0, board.sram_bytes / _KIB, color=_FREE, linewidth=0)
    axes.fill_between([0, runs], 0, stack / _KIB, color=_STACK, linewidth=0, label="stack and static data")
    axes.fill_between(
        [0, runs], stack / _KIB, (stack + arena) / _KIB, color=_ARENA, linewidth=0, label="tensor arena"
    )
    bottoms = _draw_slots(axes, simulation, stack + arena)
    axes.axhline(
        board.sram_bytes / _KIB, color=_LIMIT, linewidth=1.5, label=f"SRAM, {board.sram_bytes / _KIB:g} KiB"
    )
    top = max(board.sram_bytes, bottoms) / _KIB * 1.18
    if simulation.peak_sram_bytes < board.sram_bytes / 3:
        # A limit far above everything would press the rest into the ground.
        top = simulation.peak_sram_bytes / _KIB * 1.35
        axes.text(
            runs,
            top * 0.97,
            f"limit {board.sram_bytes / _KIB:g} KiB, above ",
            color=_LIMIT,
            ha="right",
            va="top",
        )
    axes.set_ylim(0, top)
    axes.set_xlim(0, runs)
    axes.xaxis.get_major_locator().set_params(integer=True)
    _mark_moves(axes, simulation, top)
    axes.set_xlabel("inferences finished")
    axes.set_ylabel("SRAM in use (KiB)")
    _legend(axes)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_slots(axes: Any, simulation: Simulation, bottom: int) -> int:
    """Page slots on top of the arena, in the order of the pages; returns the highest end in bytes."""
    highest = bottom
    spans = _slot_spans(simulation.trace.events, simulation.runs)
    pages = {size.level: size.page_bytes for size in simulation.storage.levels}
    levels = list(pages)
    for page, start, end in spans:
        below = sum(
            pages[levels[other]]
            for other, begin, finish in spans
            if other < page and begin < end and start < finish
        )
        low, high = bottom + below, bottom + below + pages[levels[page]]
        first = not any(span[0] == page and span[1] < start for span in spans)
        axes.fill_between(
            [start, end],
            low / _KIB,
            high / _KIB,
            color=_SLOTS[(page - 1) % len(_SLOTS)],
            linewidth=0,
            label=f"page {page} (to level {levels[page]})" if first else None,
        )
        highest = max(highest, high)
    return highest


def _slot_spans(events: Sequence[Event], runs: int) -> list[tuple[int, int, int]]:
    """(page, first inference, inference after the last) of every page that was in SRAM."""
    open_since: dict[int, int] = {}
    spans = []
    for event in events:
        if event.page is None or not event.moved_bytes:
            continue
        if event.kind is EventKind.PAGE_IN:
            open_since[event.page] = event.inference
        elif event.kind is EventKind.PAGE_OUT and event.page in open_since:
            spans.append((event.page, open_since.pop(event.page), event.inference))
    spans += [(page, start, runs) for page, start in open_since.items()]
    return sorted(span for span in spans if span[1] < span[2])


def _mark_moves(axes: Any, simulation: Simulation, top: float) -> None:
    """A dashed line and a label for every change of level."""
    gap = simulation.runs * _LABEL_WIDTH
    labelled = -gap
    for number, move in enumerate(simulation.moves):
        if number:
            axes.axvline(move.inference, color=_MARK, linewidth=0.8, linestyle=(0, (4, 3)))
        if move.inference - labelled < gap:
            continue
        labelled = move.inference
        pages_in = [str(transfer.page) for transfer in move.transfers if transfer.incoming]
        pages_out = [str(transfer.page) for transfer in move.transfers if not transfer.incoming]
        parts = [f"level {move.level}"]
        parts += [f"page-in {', '.join(pages_in)}"] if pages_in else []
        parts += [f"page-out {', '.join(pages_out)}"] if pages_out else []
        place = move.inference + simulation.runs * 0.006
        axes.text(place, top * 0.985, "\n".join(parts), fontsize=8, va="top", color=_MARK)


def _legend(axes: Any) -> None:
    """A legend in one line above the axes, where it covers nothing."""
    axes.legend(
        loc="lower left", bbox_to_anchor=(0, 1.0), ncols=8, fontsize=8, frameon=False, borderaxespad=0.2
    )


# ---------------------------------------------------------------------------------------------- operators


def _draw_operators(axes: Any, simulation: Simulation) -> None:
    """Live bytes of the head per operator within one inference: activations, and scratch on top."""
    rows = simulation.operators
    places = range(len(rows))
    scratch = [row.scratch_bytes / _KIB for row in rows]
    tensors = [(row.live_bytes - row.scratch_bytes) / _KIB for row in rows]
    axes.bar(places, tensors, color=_ARENA, width=0.85, label="activations")
    axes.bar(places, scratch, bottom=tensors, color=_SLOTS[0], width=0.85, label="scratch")
    top = max((row.end_bytes for row in rows), default=0)
    axes.axhline(top / _KIB, color=_LIMIT, linewidth=1.2, label=f"activations and scratch, {top:,} bytes")
    axes.set_xlim(-0.6, len(rows) - 0.4)
    axes.set_ylim(0, max(top / _KIB * 1.3, 0.01))
    axes.set_ylabel("live bytes (KiB)")
    axes.set_xlabel("operator")
    step = max(1, -(-len(rows) // 40))
    shown = list(places)[::step]
    names = [f"{rows[index].index} {rows[index].name.removeprefix('TFLNEST_').lower()}" for index in shown]
    axes.set_xticks(shown, names, rotation=60, ha="right", rotation_mode="anchor", fontsize=7)
    _legend(axes)
    axes.spines[["top", "right"]].set_visible(False)
