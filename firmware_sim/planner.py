"""The memory plan of the arena's head: TensorFlow Lite Micro's greedy planner, byte for byte.

Buffers are placed one after another, the largest first, each into the first gap between the buffers that
are alive at the same time and were placed before it. Which of two equally large buffers comes first decides
about bytes, so ties are kept as TFLM has them: the one that was added later is placed first.

Source: TFLM memory_planner/greedy_memory_planner.cc, described in its docs/memory_management.md.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

#: Offset that asks the planner to choose; what offline plans use for it, too.
ONLINE = -1


@dataclass(frozen=True)
class Request:
    """A buffer that wants a place.

    Attributes:
        size: Bytes, already aligned.
        first: First time step at which it is alive.
        last: Last time step at which it is alive, inclusive.
        offset: Fixed place in bytes, or `ONLINE`.
    """

    size: int
    first: int
    last: int
    offset: int = ONLINE


def plan_offsets(requests: Sequence[Request]) -> list[int]:
    """Choose an offset in bytes for every buffer, in the order in which they were given."""
    offsets = [request.offset for request in requests]
    placed: list[tuple[int, int]] = []
    for index in _placement_order(requests):
        request = requests[index]
        if request.offset == ONLINE:
            offsets[index] = _first_gap(request, requests, placed)
        position = bisect_right(placed, offsets[index], key=lambda entry: entry[0])
        placed.insert(position, (offsets[index], index))
    return offsets


def head_bytes(requests: Sequence[Request], offsets: Sequence[int]) -> int:
    """Bytes from the start of the arena to the end of the last buffer."""
    return max((offset + request.size for offset, request in zip(offsets, requests, strict=True)), default=0)


def _placement_order(requests: Sequence[Request]) -> list[int]:
    fixed = [index for index, request in enumerate(requests) if request.offset != ONLINE]
    online = [index for index, request in enumerate(requests) if request.offset == ONLINE]
    online.sort(key=lambda index: (-requests[index].size, -index))
    return fixed + online


def _first_gap(request: Request, requests: Sequence[Request], placed: Sequence[tuple[int, int]]) -> int:
    candidate = 0
    for offset, index in placed:
        other = requests[index]
        if other.first > request.last or request.first > other.last:
            continue
        if offset - candidate >= request.size:
            break
        candidate = max(candidate, offset + other.size)
    return candidate
