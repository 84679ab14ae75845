"""Run a model on a pretend board: does it fit, what does each operator need, what does a switch move.

The memories of the board are real limits here: the arena and every page slot are allocated in an `Sram` of
the board's size, pages in flash are programmed into a `Flash` of its size, and the interpreter reads weights
from nowhere but the resident pages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from firmware_sim.arena import ArenaPlan, OperatorMemory
from firmware_sim.board import Board
from firmware_sim.estimate import OperatorCost
from firmware_sim.fitting import Fitter, Needs
from firmware_sim.memory import Flash, Sram
from firmware_sim.pager import Counters, Pager, Placement, Transfer
from firmware_sim.schedule import Switch, check_levels, parse_schedule
from firmware_sim.storage import Storage, measure_storage
from firmware_sim.trace import Event, EventKind, Trace
from tflnest.errors import UsageError
from tflnest.graph import Tensor
from tflnest.interpreter import Interpreter
from tflnest.model import Model
from tflnest.pages import FilePages
from tflnest.progress import Progress, silent
from tflnest.version import JSON_SCHEMA_VERSION
from tflnest.widths import Widths

#: Most inferences that one simulation runs.
MAX_RUNS = 100_000
#: Inferences after the last switch of a schedule, where neither runs nor inputs say how many there are.
DEFAULT_RUNS = 10

STACK_REGION = "stack and static data"
ARENA_REGION = "tensor arena"

Outputs = NDArray[Any] | tuple[NDArray[Any], ...]


@dataclass(frozen=True)
class Move:
    """One change of level that the simulation made.

    Attributes:
        inference: Number of inferences that were finished before it.
        level: The new level.
        transfers: Pages that came and went.
        seconds: Estimated time on the link.
    """

    inference: int
    level: int
    transfers: tuple[Transfer, ...]
    seconds: float

    @property
    def link_bytes(self) -> int:
        """Bytes that came over the link."""
        return sum(transfer.link_bytes for transfer in self.transfers)

    @property
    def moved_bytes(self) -> int:
        """Bytes that were written into SRAM or given back."""
        return sum(transfer.moved_bytes for transfer in self.transfers)


@dataclass(frozen=True)
class Simulation:
    """What a simulation found.

    Attributes:
        name: Path of the model, or "model".
        identity: Identity of a nested model in hexadecimal; None for a plain one.
        board: The board.
        placement: Where the lower-bit pages rest.
        schedule: Levels over inferences.
        runs: Number of inferences.
        arena: The arena that TFLM would need on this board.
        memory: What the highest level that ran needs: that of generated firmware, where there can be one.
        operators: What every operator needs in its arena.
        costs: Estimated work per operator of the main subgraph, and behind them of a controller's, at the highest
            level that ran.
        storage: Sizes of levels, switches and separate models.
        needs: Memory that every level needs here, lowest first.
        moves: Changes of level, the start included.
        counters: Bytes that were moved in all.
        trace: Every event.
        peak_sram_bytes: Most SRAM that was in use at once, stack reserve included.
        seconds: Estimated time of everything.
        widths: What a controller chose in every inference, a row each; None without inputs, or without a controller.
        outputs: Outputs of every inference, samples first; None without inputs.
    """

    name: str
    identity: str | None
    board: Board
    placement: Placement
    schedule: tuple[Switch, ...]
    runs: int
    arena: ArenaPlan
    memory: Needs
    operators: tuple[OperatorMemory, ...]
    costs: tuple[OperatorCost, ...]
    storage: Storage
    needs: tuple[Needs, ...]
    moves: tuple[Move, ...]
    counters: Counters
    trace: Trace
    peak_sram_bytes: int
    seconds: float
    widths: Widths | None = field(default=None, compare=False)
    outputs: Outputs | None = field(default=None, compare=False)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        return sum(cost.macs for cost in self.costs)

    @property
    def cycles(self) -> float:
        """Estimated cycles of one inference."""
        return sum(cost.cycles for cost in self.costs)

    @property
    def instructions(self) -> float | None:
        """Estimated instructions of one inference; None where the model of the core does not know every operator."""
        counts = [cost.instructions for cost in self.costs]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None

    @property
    def inference_seconds(self) -> float:
        """Estimated time of one inference."""
        return self.cycles / self.board.clock_hz

    @property
    def peak(self) -> OperatorMemory | None:
        """The operator that needs the most of the arena; None for a model without operators."""
        return max(
            self.operators, key=lambda operator: (operator.end_bytes, operator.live_bytes), default=None
        )

    def operator_rows(self) -> list[tuple[OperatorMemory, OperatorCost | None]]:
        """Memory and work of every operator that runs; no work where a control flow operator enters it."""
        return [
            (memory, self.costs[memory.index] if memory.subgraph == 0 else None) for memory in self.operators
        ]

    def to_dict(self) -> dict[str, Any]:
        """For a report in JSON."""
        return {
            "schema_version": JSON_SCHEMA_VERSION,
            "model": {"name": self.name, "identity": self.identity},
            "board": self.board.to_dict(),
            "placement": str(self.placement),
            "schedule": [str(switch) for switch in self.schedule],
            "runs": self.runs,
            "memory": self.memory.to_dict(),
            "arena": self.arena.to_dict(),
            "peak": {
                "sram_bytes": self.peak_sram_bytes,
                "sram_available_bytes": self.board.sram_bytes,
                "operator": self.peak.label if self.peak is not None else None,
            },
            "operators": [_operator_dict(memory, cost) for memory, cost in self.operator_rows()],
            "levels": [
                {
                    "level": size.level,
                    "page_bytes": size.page_bytes,
                    "resident_bytes": size.resident_bytes,
                    "bits_per_weight": size.bits_per_weight,
                    "needs": needs.to_dict(),
                }
                for size, needs in zip(self.storage.levels, self.needs, strict=True)
            ],
            "storage": self.storage.to_dict(),
            "moves": [
                {
                    "inference": move.inference,
                    "level": move.level,
                    "moved_bytes": move.moved_bytes,
                    "link_bytes": move.link_bytes,
                    "seconds": move.seconds,
                }
                for move in self.moves
            ],
            "counters": vars(self.counters),
            "widths": None if self.widths is None else _widths_dict(self.widths),
            "estimate": {
                "macs": self.macs,
                "instructions": None if self.instructions is None else round(self.instructions),
                "cycles": round(self.cycles),
                "inference_seconds": self.inference_seconds,
                "seconds": self.seconds,
                "source": self.board.cycles.source,
            },
        }


def _widths_dict(widths: Widths) -> dict[str, Any]:
    return {
        "bit_operations": float(widths.bit_operations().mean()),
        "limited": float(widths.limited.any(axis=1).mean()),
        "operators": [item.to_dict() for item in widths.of_operators()],
    }


def _operator_dict(memory: OperatorMemory, cost: OperatorCost | None) -> dict[str, Any]:
    return {
        "subgraph": memory.subgraph,
        "operator": memory.index,
        "name": memory.name,
        "live_bytes": memory.live_bytes,
        "end_bytes": memory.end_bytes,
        "scratch_bytes": memory.scratch_bytes,
        "tile_channels": memory.tile_channels,
        "macs": cost.macs if cost is not None else None,
        "instructions": round(cost.instructions)
        if cost is not None and cost.instructions is not None
        else None,
        "cycles": round(cost.cycles) if cost is not None else None,
    }


def simulate(
    model: Model | str | Path,
    board: Board | str | Path,
    *,
    level: int | None = None,
    schedule: str | Sequence[Switch] | None = None,
    pages: Placement | str = Placement.FLASH,
    inputs: ArrayLike | Sequence[ArrayLike] | None = None,
    runs: int | None = None,
    engine: str = "reference",
    progress: Progress = silent,
) -> Simulation:
    """Run a model on a pretend board.

    Args:
        model: A model, nested or plain, or its path.
        board: A board, its name, or the path of a profile.
        level: Run all the time at this level; None for the highest, or for what the schedule says.
        schedule: Levels over inferences, for example "4@0,8@10,4@20". Not together with `level`.
        pages: Where the lower-bit pages rest: "flash", "sram" or "host". The base page is in flash.
        inputs: Samples, shape (n, ...), or one such array per input; where there are fewer than runs, they are
            used over again. None only counts memory and moves pages.
        runs: Number of inferences; None for one per sample, or enough for the schedule.
        engine: What computes the outputs: "reference" or "native".
        progress: Told after every stretch of inferences at one level.

    Raises:
        DoesNotFitError: A level that is run does not fit; the hint says what would.
        UsageError: The arguments make no sense together.
        FormatError: The model is corrupt.
    """
    name = "model" if isinstance(model, Model) else str(model)
    loaded = model if isinstance(model, Model) else Model.load(model)
    chosen = board if isinstance(board, Board) else Board.load(board)
    placement = _placement(pages)
    storage = measure_storage(loaded)
    switches = _schedule(storage, level, schedule)
    samples = _samples(loaded, inputs)
    count = _runs(loaded, switches, samples, runs)
    fitter = Fitter(loaded, storage)
    for wanted in sorted({switch.level for switch in switches}):
        fitter.require(chosen, wanted, placement)
    highest = max(switch.level for switch in switches)
    memory = fitter.needs(chosen, highest, placement)
    costs = {
        switch.level: tuple(fitter.costs(chosen, switch.level, placement, highest)) for switch in switches
    }
    device = _Device(loaded, chosen, memory, placement, engine, costs)
    outputs = device.run(switches, count, samples, progress)
    directory = loaded.directory
    return Simulation(
        name=name,
        identity=directory.identity.hex() if directory is not None else None,
        board=chosen,
        placement=placement,
        schedule=switches,
        runs=count,
        arena=fitter.plan(chosen),
        memory=memory,
        operators=fitter.operators(chosen, highest, placement),
        costs=costs[highest],
        storage=storage,
        needs=tuple(fitter.needs(chosen, size.level, placement) for size in storage.levels),
        moves=tuple(device.moves),
        counters=device.pager.counters if device.pager is not None else Counters(),
        trace=device.trace,
        peak_sram_bytes=device.sram.watermark,
        seconds=device.seconds,
        widths=Widths.joined(device.widths) if device.widths else None,
        outputs=outputs,
    )


# ---------------------------------------------------------------------------------------------- arguments


def _placement(pages: Placement | str) -> Placement:
    try:
        return Placement(pages)
    except ValueError:
        names = ", ".join(Placement)
        raise UsageError(f"pages cannot rest in {str(pages)!r}", f"places: {names}") from None


def _schedule(
    storage: Storage, level: int | None, schedule: str | Sequence[Switch] | None
) -> tuple[Switch, ...]:
    levels = [size.level for size in storage.levels]
    if schedule is None:
        if level is not None and level not in levels:
            names = ", ".join(str(known) for known in levels)
            raise UsageError(f"the model has no level {level}", f"levels: {names}")
        return (Switch(levels[-1] if level is None else level, 0),)
    if level is not None:
        raise UsageError("a level and a schedule were given", "give one of them")
    switches = parse_schedule(schedule) if isinstance(schedule, str) else tuple(schedule)
    check_levels(switches, levels)
    return switches


def _samples(model: Model, inputs: ArrayLike | Sequence[ArrayLike] | None) -> list[NDArray[Any]] | None:
    """One array per input of the model; None where there are no samples."""
    if inputs is None:
        return None
    tensors = model.graph.main.input_tensors()
    arrays = [np.asarray(inputs)] if len(tensors) == 1 else [np.asarray(array) for array in _sequence(inputs)]
    if len(arrays) != len(tensors):
        raise UsageError(f"{len(arrays)} inputs were given, and the model has {len(tensors)}")
    for array, tensor in zip(arrays, tensors, strict=True):
        batch = _batch(tensor)
        if array.ndim == 0 or len(array) < batch or len(array) % batch:
            raise UsageError(
                f"input {tensor.label} has shape {array.shape}, expected samples of {tensor.shape}"
            )
    return arrays


def _batch(tensor: Tensor) -> int:
    return max(tensor.shape[0], 1) if tensor.shape else 1


def _sequence(inputs: Any) -> Sequence[Any]:
    if not isinstance(inputs, list | tuple):
        raise UsageError("the model has several inputs", "give a list with one array per input")
    return inputs


def _runs(
    model: Model, switches: Sequence[Switch], samples: Sequence[NDArray[Any]] | None, runs: int | None
) -> int:
    last = switches[-1].inference
    if runs is None:
        runs = len(samples[0]) // _batch(model.graph.main.input_tensors()[0]) if samples else 1
        runs = max(runs, last + DEFAULT_RUNS) if last else runs
    if not 1 <= runs <= MAX_RUNS:
        raise UsageError(f"{runs:,} inferences were asked for, allowed are 1 to {MAX_RUNS:,}")
    if last >= runs:
        raise UsageError(
            f"the schedule switches at inference {last}, and only {runs} are run", "run more of them"
        )
    return runs


# ---------------------------------------------------------------------------------------------- device


class _Device:
    """A board with a model on it."""

    def __init__(
        self,
        model: Model,
        board: Board,
        memory: Needs,
        placement: Placement,
        engine: str,
        costs: Mapping[int, Sequence[OperatorCost]],
    ) -> None:
        self.model = model
        self.engine = engine
        self.board = board
        self.placement = placement
        self.memory = memory
        self.sram = Sram(board.sram_bytes, board.sram_base)
        self.flash = Flash(
            board.flash_bytes, board.flash_base, board.flash_sector_bytes, board.flash_program_bytes
        )
        self.trace = Trace()
        self.moves: list[Move] = []
        self.widths: list[Widths] = []
        self.seconds = 0.0
        self.level: int | None = None
        self.done = 0
        self.pager = self._pager()
        self._inference_seconds = {
            level: sum(cost.cycles for cost in items) / board.clock_hz for level, items in costs.items()
        }

    def _pager(self) -> Pager | None:
        directory = self.model.directory
        if directory is None:
            return None
        placement = {
            page.index: self.placement if page.index else Placement.FLASH for page in directory.pages
        }
        images = FilePages(self.model.to_bytes(), directory)
        return Pager(
            directory,
            images,
            self.sram,
            self.flash,
            placement,
            self.memory.runtime_bytes,
            listener=self._transferred,
        )

    def run(
        self,
        switches: Sequence[Switch],
        runs: int,
        samples: Sequence[NDArray[Any]] | None,
        progress: Progress,
    ) -> Outputs | None:
        self._start()
        engine: Interpreter | None = None
        results: list[Outputs] = []
        ends = [switch.inference for switch in switches[1:]] + [runs]
        for switch, end in zip(switches, ends, strict=True):
            self._switch(switch)
            if samples is not None:
                if engine is None:
                    level = switch.level if self.pager is not None else None
                    engine = Interpreter(
                        model=self.model,
                        level=level,
                        pages=self.pager,
                        engine=self.engine,
                        policy="static" if self.model.controller is None else "dynamic",
                    )
                elif self.pager is not None:
                    engine.set_level(switch.level)
                results.append(engine.run(_slice(self.model, samples, self.done, end)))
                if self.model.controller is not None:
                    first = np.arange(self.done, end)
                    self.widths.append(engine.widths.of_samples(first))
            for row in range(end - self.done):
                self.seconds += self._inference_seconds[switch.level]
                self.done += 1
                chosen = self.widths[-1].pairs(row) if self.widths else ()
                self._record(EventKind.INFERENCE, widths=chosen)
            progress("inferences", self.done, runs)
        return _join(results) if results else None

    def _start(self) -> None:
        self.sram.allocate(STACK_REGION, self.memory.stack_bytes)
        self.sram.allocate(ARENA_REGION, self.memory.arena_bytes)
        self._record(EventKind.START)
        if self.pager is not None:
            self.pager.start()

    def _switch(self, switch: Switch) -> None:
        before = self.seconds
        transfers = self.pager.switch(switch.level) if self.pager is not None else []
        self.level = switch.level
        self.moves.append(Move(self.done, switch.level, tuple(transfers), self.seconds - before))
        self._record(EventKind.LEVEL)

    def _transferred(self, transfer: Transfer) -> None:
        self.seconds += self.board.link_seconds(transfer.link_bytes)
        self._record(EventKind.PAGE_IN if transfer.incoming else EventKind.PAGE_OUT, transfer)

    def _record(
        self,
        kind: EventKind,
        transfer: Transfer | None = None,
        widths: tuple[tuple[int, int], ...] = (),
    ) -> None:
        self.trace.add(
            Event(
                kind=kind,
                inference=self.done,
                seconds=self.seconds,
                level=self.level,
                sram_used_bytes=self.sram.used_bytes,
                resident_pages=self.pager.resident_pages if self.pager is not None else (),
                page=transfer.page if transfer is not None else None,
                placement=str(transfer.placement) if transfer is not None else None,
                moved_bytes=transfer.moved_bytes if transfer is not None else 0,
                link_bytes=transfer.link_bytes if transfer is not None else 0,
                widths=widths,
            )
        )


def _slice(model: Model, samples: Sequence[NDArray[Any]], start: int, end: int) -> Any:
    """The samples of inferences start..end, used over again where there are too few."""
    parts = []
    for array, tensor in zip(samples, model.graph.main.input_tensors(), strict=True):
        batch = _batch(tensor)
        rows = np.arange(start * batch, end * batch) % len(array)
        parts.append(array[rows])
    return parts[0] if len(parts) == 1 else parts


def _join(results: Sequence[Outputs]) -> Outputs:
    if isinstance(results[0], tuple):
        return tuple(np.concatenate(group) for group in zip(*results, strict=True))
    return np.concatenate([result for result in results if not isinstance(result, tuple)])
