"""The tensor arena of generated firmware: activations and scratch, placed ahead of time.

Activations live as long as TensorFlow Lite Micro lets them, and the greedy planner places them; so the plan
without scratch is the head that TFLM needs without any kernel's own memory. Each kernel's scratch is added, with
the largest tile of output channels that does not make the arena too large. A tile of 0 channels takes no scratch: with
such tiles at the peak the arena is no larger than the activations.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from firmware_sim.allocator import ARENA_ALIGNMENT
from firmware_sim.arena import OperatorMemory
from firmware_sim.firmware.program import DeviceProgram, DeviceStep
from firmware_sim.lifetimes import Lifetimes, lifetimes
from firmware_sim.planner import Request, head_bytes, plan_offsets
from firmware_sim.target import align_up
from tflnest.device import Core

#: Output channels that a kernel decodes at a time, fastest first.
TILES = (64, 32, 16, 8, 4)
#: Further ones, slow and small, where memory is short.
SMALL_TILES = (2, 1)
#: All of them; the last one takes no scratch, decodes weights again and again, and is the slowest.
ALL_TILES = (*TILES, *SMALL_TILES, 0)

#: Bytes by which tiles may make the arena larger, and the same for models of dense layers alone: they use every
#: weight once, and gain nothing from large tiles.
ALLOWANCE_BYTES = 3072
DENSE_ALLOWANCE_BYTES = 1536

_ROUNDS = 64


@dataclass(frozen=True)
class Scratch:
    """Memory of one step while it runs.

    Attributes:
        step: Its position in the program.
        size: Bytes, aligned.
        offset: From the start of the arena.
    """

    step: int
    size: int
    offset: int


@dataclass(frozen=True)
class Arena:
    """Where everything lies.

    Attributes:
        bytes: Size, a multiple of 16.
        activation_bytes: What it would be without scratch.
        offsets: Of every activation, by tensor index.
        scratch: Of the steps that need some, by position in the program.
        tiles: Output channels that are decoded at a time, by position; steps without filters have none.
        is_reduced: Whether tiles are smaller than usual because memory is short.
    """

    bytes: int
    activation_bytes: int
    offsets: Mapping[int, int]
    scratch: Mapping[int, Scratch]
    tiles: Mapping[int, int]
    is_reduced: bool = False


def plan_firmware_arena(
    program: DeviceProgram, core: Core, smallest: bool = False, room: int | None = None
) -> Arena:
    """Place activations and scratch.

    Args:
        program: What runs.
        core: Variant of the kernels; they need different scratch.
        smallest: Choose tiles for the smallest arena, however slow; otherwise the largest tiles that add at most
            `ALLOWANCE_BYTES` to the activations.
        room: Bytes that there are for the arena. Where the usual tiles take more, the largest that do not are
            chosen; where none do, the smallest arena.

    Raises:
        FormatError: The control flow of the file makes no sense.
    """
    planner = _Planner(program, core)
    activation_bytes = planner.height(None)
    lowest = planner.lowest(ALL_TILES)
    if smallest:
        return planner.arena(planner.choose(lowest, ALL_TILES), activation_bytes)
    limit = activation_bytes + (DENSE_ALLOWANCE_BYTES if _is_dense(program) else ALLOWANCE_BYTES)
    candidates = TILES if planner.lowest(TILES) <= limit else TILES + SMALL_TILES
    usual = planner.arena(
        planner.choose(max(limit, planner.lowest(candidates)), candidates), activation_bytes
    )
    if room is None or usual.bytes <= room:
        return usual
    return replace(
        planner.arena(planner.choose(max(room, lowest), ALL_TILES), activation_bytes), is_reduced=True
    )


def _is_dense(program: DeviceProgram) -> bool:
    """Whether all layers with weights are FULLY_CONNECTED."""
    return all(
        call.function.name == "tflnest_fully_connected_s8"
        for step in program.steps
        for call in step.calls
        if call.has_tile
    )


@dataclass(frozen=True)
class _Activation:
    """A tensor in the arena; times as in `lifetimes`."""

    tensor: int
    size: int
    first: int
    last: int


class _Planner:
    """Plans one program on one core."""

    def __init__(self, program: DeviceProgram, core: Core) -> None:
        times = lifetimes(program.graph)
        self._core = core
        self._steps = program.steps
        self._activations = _activations(program, times)
        self._times = [times.operators[program.subgraph.index, step.operator.index] for step in program.steps]
        self._tiled = [position for position, step in enumerate(program.steps) if _has_tile(step)]
        self._sizes: dict[tuple[int, int | None], int] = {}

    def lowest(self, candidates: Sequence[int]) -> int:
        """Bytes of the arena with the last one of the candidates everywhere."""
        return self.height({position: candidates[-1] for position in self._tiled})

    def height(self, tiles: Mapping[int, int] | None) -> int:
        """Bytes of the arena with these tiles; None counts the activations alone."""
        requests = self._requests(tiles)
        return head_bytes(requests, plan_offsets(requests))

    def choose(self, limit: int, candidates: Sequence[int]) -> dict[int, int]:
        """The largest tile of every step with which the arena stays within the limit, in bytes.

        Args:
            limit: At least the arena with the smallest candidates.
            candidates: Tiles, largest first.
        """
        choice = {position: 0 for position in self._tiled}
        for position in self._tiled:
            first, last = self._times[position]
            live = sum(item.size for item in self._activations if item.first <= last and first <= item.last)
            while (
                choice[position] < len(candidates) - 1
                and live + self._scratch(position, candidates[choice[position]]) > limit
            ):
                choice[position] += 1
        for _ in range(_ROUNDS):
            tiles = {position: candidates[index] for position, index in choice.items()}
            lower = self._too_high(tiles, limit) & {
                position for position, index in choice.items() if index < len(candidates) - 1
            }
            if not lower:
                break
            for position in lower:
                choice[position] += 1
        return self._lower_largest(
            {position: candidates[index] for position, index in choice.items()}, limit, candidates
        )

    def _lower_largest(self, tiles: dict[int, int], limit: int, candidates: Sequence[int]) -> dict[int, int]:
        """Make the tile with the most scratch smaller until the arena stays within the limit."""
        while self.height(tiles) > limit:
            larger = [position for position, tile in tiles.items() if tile > candidates[-1]]
            if not larger:
                break
            worst = max(larger, key=lambda position: self._size(position, tiles))
            tiles[worst] = candidates[candidates.index(tiles[worst]) + 1]
        return tiles

    def arena(self, tiles: Mapping[int, int], activation_bytes: int) -> Arena:
        """The plan with these tiles."""
        requests = self._requests(tiles)
        offsets = plan_offsets(requests)
        count = len(self._activations)
        owners = [position for position in range(len(self._steps)) if self._size(position, tiles)]
        return Arena(
            bytes=align_up(head_bytes(requests, offsets), ARENA_ALIGNMENT),
            activation_bytes=activation_bytes,
            offsets={
                item.tensor: offset for item, offset in zip(self._activations, offsets[:count], strict=True)
            },
            scratch={
                position: Scratch(position, request.size, offset)
                for position, request, offset in zip(owners, requests[count:], offsets[count:], strict=True)
            },
            tiles=dict(tiles),
        )

    def _requests(self, tiles: Mapping[int, int] | None) -> list[Request]:
        """Activations, then the scratch of every step that has some."""
        requests = [Request(item.size, item.first, item.last) for item in self._activations]
        if tiles is not None:
            for position, times in enumerate(self._times):
                size = self._size(position, tiles)
                if size:
                    requests.append(Request(size, *times))
        return requests

    def _too_high(self, tiles: Mapping[int, int], limit: int) -> set[int]:
        """The steps that run while something lies above the limit."""
        requests = self._requests(tiles)
        offsets = plan_offsets(requests)
        high = [item for item, offset in zip(requests, offsets, strict=True) if offset + item.size > limit]
        return {
            position
            for position in self._tiled
            if any(
                item.first <= self._times[position][1] and self._times[position][0] <= item.last
                for item in high
            )
        }

    def _size(self, position: int, tiles: Mapping[int, int]) -> int:
        return self._scratch(position, tiles.get(position))

    def _scratch(self, position: int, tile: int | None) -> int:
        key = position, tile
        if key not in self._sizes:
            self._sizes[key] = step_scratch(self._steps[position], tile, self._core)
        return self._sizes[key]


def operator_memory(program: DeviceProgram, plan: Arena) -> tuple[OperatorMemory, ...]:
    """What every operator needs while it runs, in order."""
    times = lifetimes(program.graph)
    activations = [(item, plan.offsets[item.tensor] + item.size) for item in _activations(program, times)]
    rows = []
    for position, step in enumerate(program.steps):
        first, last = times.operators[program.subgraph.index, step.operator.index]
        live = [(item.size, end) for item, end in activations if item.first <= last and first <= item.last]
        scratch = plan.scratch.get(position)
        if scratch is not None:
            live.append((scratch.size, scratch.offset + scratch.size))
        rows.append(
            OperatorMemory(
                subgraph=program.subgraph.index,
                index=step.operator.index,
                name=step.operator.name,
                live_bytes=sum(size for size, _ in live),
                end_bytes=max((end for _, end in live), default=0),
                scratch_bytes=0 if scratch is None else scratch.size,
                tile_channels=plan.tiles.get(position),
            )
        )
    return tuple(rows)


def step_scratch(step: DeviceStep, tile: int | None, core: Core) -> int:
    """Bytes of scratch of a step, aligned.

    Args:
        step: Its calls run one after another.
        tile: Output channels that are decoded at a time; None where there is no choice.
        core: Variant of the kernels.
    """
    calls = [call if tile is None else call.with_tile(tile) for call in step.calls]
    return align_up(max((call.scratch(core) for call in calls), default=0), ARENA_ALIGNMENT)


def _has_tile(step: DeviceStep) -> bool:
    return any(call.has_tile for call in step.calls)


def _activations(program: DeviceProgram, times: Lifetimes) -> list[_Activation]:
    """Everything that is read or written and not constant, in the order of the file."""
    used = {*program.subgraph.inputs, *program.subgraph.outputs}
    for step in program.steps:
        for call in step.calls:
            used.update(argument.tensor for argument in (*call.inputs, *call.outputs))
    return [
        _Activation(
            tensor.index,
            align_up(tensor.bytes, ARENA_ALIGNMENT),
            *times.of(program.subgraph.index, tensor.index),
        )
        for tensor in program.tensors
        if tensor.data is None and tensor.index in used and tensor.bytes
    ]
