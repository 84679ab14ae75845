"""How large the tensor arena of a model must be, and where everything lies in it.

The head holds activations and scratch, planned as TensorFlow Lite Micro plans it; the tail holds its
persistent objects; the minimum is the smallest arena in which TFLM can prepare the model, which is more than
head and tail where planning itself needs more memory than running.

Checked against the `tflite_micro` wheel (x86-64) and against TFLM on a Cortex-M4: head, tail and minimum are
equal to the byte for the models in `benchmarks/arena.py`. Kernels of CMSIS-NN need more than the reference
kernels that count here: 16 to 656 bytes for the same models on a Cortex-M4, more with vector extensions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from firmware_sim.allocator import ARENA_ALIGNMENT, HeadPlan, script
from firmware_sim.footprint import is_known, prepare
from firmware_sim.lifetimes import Lifetimes, lifetimes
from firmware_sim.planner import ONLINE, Request, plan_offsets
from firmware_sim.target import CORTEX_M, Target, align_up
from tflnest.errors import FormatError, UnsupportedError
from tflnest.graph import Graph, Operator, Subgraph
from tflnest.model import Model
from tflnest.nested import NestedOperator, is_nested, parse

#: Metadata entry with offsets that were planned ahead of time.
OFFLINE_PLAN = "OfflineMemoryAllocation"
#: Most buffers that are planned; the time that planning takes grows with their square.
MAX_BUFFERS = 8192
#: Rounds in which tiles that do not fit are made smaller, before all of them are.
_TILE_ROUNDS = 8
#: Output channels that a nested kernel can decode at once, best first.
TILE_CHANNELS = (16, 8, 4)


@dataclass(frozen=True)
class PlannedBuffer:
    """A buffer in the head.

    Attributes:
        kind: A tensor, or scratch of an operator.
        name: Name of the tensor or of the operator.
        subgraph: Index of its subgraph.
        index: Index of the tensor or of the operator.
        size: Bytes, aligned.
        first: Time step at which it comes alive.
        last: Time step after which it is dead.
        offset: Bytes from the start of the arena.
    """

    kind: Literal["tensor", "scratch"]
    name: str
    subgraph: int
    index: int
    size: int
    first: int
    last: int
    offset: int = ONLINE

    @property
    def end(self) -> int:
        """First byte behind the buffer."""
        return self.offset + self.size


@dataclass(frozen=True)
class OperatorMemory:
    """What an operator needs while it runs.

    Attributes:
        subgraph: Index of its subgraph.
        index: Index of the operator.
        name: Name of the operator.
        live_bytes: Bytes of all buffers that are alive.
        end_bytes: End of the highest of them: the head that this operator alone would need.
        scratch_bytes: Bytes of its own scratch.
        tile_channels: Output channels that a kernel with weights decodes at once; 0 where it decodes a few weights at a
            time and takes no scratch, None for all other operators.
    """

    subgraph: int
    index: int
    name: str
    live_bytes: int
    end_bytes: int
    scratch_bytes: int
    tile_channels: int | None = None

    @property
    def label(self) -> str:
        """How messages call the operator: index and name."""
        return f"{self.index} ({self.name})"


@dataclass(frozen=True)
class ArenaPlan:
    """The arena of a model on a target.

    Attributes:
        target: Whose structure sizes count for the tail.
        head_bytes: Activations and scratch.
        tail_bytes: Persistent objects.
        minimum_bytes: Smallest arena, starting at a multiple of 16, in which the model can be prepared. A few
            bytes below head + tail are possible: an end that is not aligned may waste less.
        buffers: Everything in the head.
        operators: Every operator that runs, in order.
        tail_breakdown: Bytes of the tail by what they are for, alignment apart.
        unknown_kernels: Operators about whose kernel's own memory nothing is known; they count with 0 bytes.
    """

    target: Target
    head_bytes: int
    tail_bytes: int
    minimum_bytes: int
    buffers: tuple[PlannedBuffer, ...]
    operators: tuple[OperatorMemory, ...]
    tail_breakdown: dict[str, int]
    unknown_kernels: tuple[str, ...] = ()

    @property
    def total_bytes(self) -> int:
        """Head and tail: what TFLM reports as used."""
        return self.head_bytes + self.tail_bytes

    @property
    def needed_bytes(self) -> int:
        """The arena to provide: enough to prepare the model and to run it, a multiple of 16."""
        return align_up(max(self.total_bytes, self.minimum_bytes), ARENA_ALIGNMENT)

    @property
    def peak(self) -> OperatorMemory | None:
        """The operator that needs the most of the head; None for a model without operators."""
        return max(
            self.operators, key=lambda operator: (operator.end_bytes, operator.live_bytes), default=None
        )

    def to_dict(self) -> dict[str, Any]:
        """Sizes for a report in JSON."""
        return {
            "target": self.target.name,
            "head_bytes": self.head_bytes,
            "tail_bytes": self.tail_bytes,
            "total_bytes": self.total_bytes,
            "minimum_bytes": self.minimum_bytes,
            "needed_bytes": self.needed_bytes,
            "tail_breakdown": dict(self.tail_breakdown),
            "unknown_kernels": list(self.unknown_kernels),
        }


def plan_arena(model: Model, target: Target = CORTEX_M) -> ArenaPlan:
    """Plan the arena of a model.

    Args:
        model: Any model; nested operators count like the stock ones, with scratch for a decoded tile.
        target: Whose structure sizes count.

    Raises:
        FormatError: The offline plan or the control flow of the file makes no sense.
        UnsupportedError: There are more than `MAX_BUFFERS` buffers.
    """
    graph = model.graph
    times = lifetimes(graph)
    fixed = _offline_offsets(graph)
    buffers, requests = _collect(graph, times, fixed)
    nested = _nested(graph, times)
    if len(buffers) + len(nested) > MAX_BUFFERS:
        raise UnsupportedError(
            f"the model has {len(buffers) + len(nested):,} buffers, at most {MAX_BUFFERS:,} are planned"
        )
    tiles = _choose_tiles(buffers, nested)
    buffers, requests = _add_tiles(graph, buffers, requests, nested, tiles)
    placed = _place(buffers)
    head = max((buffer.end for buffer in placed), default=0)
    steps = script(graph, target, HeadPlan(head, len(placed), tuple(requests), _tail_variables(graph, fixed)))
    unknown = {op.name for sub in graph.subgraphs for op in sub.operators if not is_known(op)}
    return ArenaPlan(
        target=target,
        head_bytes=head,
        tail_bytes=steps.tail_bytes(),
        minimum_bytes=steps.minimum_bytes(),
        buffers=tuple(placed),
        operators=tuple(_operators(graph, times, placed, tiles)),
        tail_breakdown=dict(steps.tail),
        unknown_kernels=tuple(sorted(unknown)),
    )


def tile_scratch_bytes(operator: NestedOperator, channels: int) -> int:
    """Scratch of a nested kernel: int8 tile, two expanded pixels, parameters of every channel.

    A dense layer uses every weight once, so its kernel decodes in registers and only expands the input.

    Args:
        operator: A nested operator.
        channels: Output channels that are decoded at once.
    """
    weights_per_channel = operator.weights // max(operator.channels, 1)
    if operator.stock == "FULLY_CONNECTED":
        return 2 * weights_per_channel
    return channels * weights_per_channel + 4 * weights_per_channel + 20 * channels


# ---------------------------------------------------------------------------------------------- buffers

_Key = tuple[int, int]


def _offline_offsets(graph: Graph) -> list[int]:
    """Offsets of the metadata entry, for the tensors of all subgraphs in order; empty where there is none."""
    content = graph.metadata.get(OFFLINE_PLAN)
    if content is None:
        return []
    count = sum(len(subgraph.tensors) for subgraph in graph.subgraphs)
    if len(content) < 12 or len(content) % 4:
        raise FormatError(f"the {OFFLINE_PLAN} metadata has {len(content)} bytes, expected {12 + 4 * count}")
    values = np.frombuffer(content, dtype="<i4")
    if values[2] != count or values.size < 3 + count:
        raise FormatError(
            f"the {OFFLINE_PLAN} metadata places {values[2]} tensors in {len(content)} bytes, and the model has {count}"
        )
    offsets = [int(value) for value in values[3 : 3 + count]]
    if any(offset < ONLINE for offset in offsets):
        raise FormatError(f"the {OFFLINE_PLAN} metadata has the offset {min(offsets)}")
    return offsets


def _tail_variables(graph: Graph, fixed: Sequence[int]) -> tuple[int, ...]:
    """Bytes of the variables that no offline plan places in the head."""
    tensors = [tensor for subgraph in graph.subgraphs for tensor in subgraph.tensors]
    offsets = fixed or [ONLINE] * len(tensors)
    return tuple(
        tensor.bytes
        for tensor, offset in zip(tensors, offsets, strict=True)
        if tensor.is_variable and offset == ONLINE
    )


def _collect(graph: Graph, times: Lifetimes, fixed: Sequence[int]) -> tuple[list[PlannedBuffer], list[int]]:
    """Planned tensors, then scratch of stock operators; and the number of scratch requests per operator."""
    buffers: list[PlannedBuffer] = []
    number = 0
    for subgraph in graph.subgraphs:
        for tensor in subgraph.tensors:
            offset = fixed[number] if fixed else ONLINE
            number += 1
            variable_online = tensor.is_variable and offset == ONLINE
            if tensor.is_constant or variable_online or tensor.bytes == 0:
                continue
            first, last = times.of(subgraph.index, tensor.index)
            size = align_up(tensor.bytes, ARENA_ALIGNMENT)
            buffers.append(
                PlannedBuffer("tensor", tensor.name, subgraph.index, tensor.index, size, first, last, offset)
            )
    requests: list[int] = []
    for subgraph in graph.subgraphs:
        for operator in subgraph.operators:
            asked = [ask.amount for ask in prepare(operator, subgraph) if ask.kind == "scratch"]
            requests.append(len(asked))
            buffers.extend(_scratch(operator, subgraph, times, amount) for amount in asked)
    return buffers, requests


def _scratch(operator: Operator, subgraph: Subgraph, times: Lifetimes, amount: int) -> PlannedBuffer:
    first, last = times.operators.get((subgraph.index, operator.index), (-1, -1))
    size = align_up(amount, ARENA_ALIGNMENT)
    return PlannedBuffer("scratch", operator.name, subgraph.index, operator.index, size, first, last)


def _place(buffers: Sequence[PlannedBuffer]) -> list[PlannedBuffer]:
    requests = [Request(buffer.size, buffer.first, buffer.last, buffer.offset) for buffer in buffers]
    return [
        replace(buffer, offset=offset) for buffer, offset in zip(buffers, plan_offsets(requests), strict=True)
    ]


# ---------------------------------------------------------------------------------------------- tiles


@dataclass(frozen=True)
class _Nested:
    """A nested operator, and when it runs."""

    operator: NestedOperator
    first: int
    last: int

    def scratch_bytes(self, channels: int) -> int:
        return align_up(tile_scratch_bytes(self.operator, channels), ARENA_ALIGNMENT)

    def choices(self) -> list[int]:
        """Tiles, largest first; a layer with fewer channels than a tile decodes all of them."""
        if self.operator.stock == "FULLY_CONNECTED":
            return [1]
        return sorted({min(tile, self.operator.channels) for tile in TILE_CHANNELS}, reverse=True)


def _nested(graph: Graph, times: Lifetimes) -> dict[_Key, _Nested]:
    found = {}
    for subgraph in graph.subgraphs:
        for operator in subgraph.operators:
            if is_nested(operator):
                key = (subgraph.index, operator.index)
                found[key] = _Nested(parse(operator, subgraph), *times.operators.get(key, (-1, -1)))
    return found


def _tile_buffers(nested: dict[_Key, _Nested], tiles: dict[_Key, int]) -> list[PlannedBuffer]:
    return [
        PlannedBuffer(
            "scratch",
            item.operator.operator.name,
            *key,
            item.scratch_bytes(tiles[key]),
            item.first,
            item.last,
        )
        for key, item in nested.items()
    ]


def _choose_tiles(buffers: Sequence[PlannedBuffer], nested: dict[_Key, _Nested]) -> dict[_Key, int]:
    """The largest tile for every nested operator that does not make the head larger than the smallest does."""
    tiles = {key: item.choices()[-1] for key, item in nested.items()}
    limit = max((buffer.end for buffer in _place([*buffers, *_tile_buffers(nested, tiles)])), default=0)
    for key, item in nested.items():
        live = sum(
            buffer.size for buffer in buffers if buffer.first <= item.last and item.first <= buffer.last
        )
        fitting = [tile for tile in item.choices() if live + item.scratch_bytes(tile) <= limit]
        tiles[key] = fitting[0] if fitting else item.choices()[-1]
    for _ in range(_TILE_ROUNDS):
        placed = _place([*buffers, *_tile_buffers(nested, tiles)])
        too_high = [buffer for buffer in placed if buffer.end > limit]
        lower = {
            key for key in tiles if tiles[key] > nested[key].choices()[-1] and _shares(nested[key], too_high)
        }
        if not lower:
            return tiles
        for key in lower:
            choices = nested[key].choices()
            tiles[key] = choices[choices.index(tiles[key]) + 1]
    return {key: item.choices()[-1] for key, item in nested.items()}


def _shares(item: _Nested, buffers: Sequence[PlannedBuffer]) -> bool:
    return any(buffer.first <= item.last and item.first <= buffer.last for buffer in buffers)


def _add_tiles(
    graph: Graph,
    buffers: Sequence[PlannedBuffer],
    requests: Sequence[int],
    nested: dict[_Key, _Nested],
    tiles: dict[_Key, int],
) -> tuple[list[PlannedBuffer], list[int]]:
    keys = [
        (subgraph.index, operator.index) for subgraph in graph.subgraphs for operator in subgraph.operators
    ]
    counts = [count + (key in nested) for key, count in zip(keys, requests, strict=True)]
    return [*buffers, *_tile_buffers(nested, tiles)], counts


# ---------------------------------------------------------------------------------------------- operators


def _operators(
    graph: Graph, times: Lifetimes, placed: Sequence[PlannedBuffer], tiles: dict[_Key, int]
) -> list[OperatorMemory]:
    rows = []
    for (subgraph, index), (first, last) in times.operators.items():
        live = [buffer for buffer in placed if buffer.first <= last and first <= buffer.last]
        own = [b.size for b in live if b.kind == "scratch" and (b.subgraph, b.index) == (subgraph, index)]
        rows.append(
            OperatorMemory(
                subgraph=subgraph,
                index=index,
                name=graph.subgraphs[subgraph].operators[index].name,
                live_bytes=sum(buffer.size for buffer in live),
                end_bytes=max((buffer.end for buffer in live), default=0),
                scratch_bytes=sum(own),
                tile_channels=tiles.get((subgraph, index)),
            )
        )
    return sorted(rows, key=lambda row: times.operators[row.subgraph, row.index])
