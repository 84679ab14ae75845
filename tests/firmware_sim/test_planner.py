from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_sim.planner import ONLINE, Request, head_bytes, plan_offsets


@st.composite
def requests(draw, fixed: bool = False):
    count = draw(st.integers(0, 24))
    result = []
    for _ in range(count):
        size = 16 * draw(st.integers(1, 12))
        first = draw(st.integers(0, 10))
        offset = 16 * draw(st.integers(0, 8)) if fixed and draw(st.integers(0, 3)) == 0 else ONLINE
        result.append(Request(size, first, first + draw(st.integers(0, 6)), offset))
    return result


def live_together(a: Request, b: Request) -> bool:
    return a.first <= b.last and b.first <= a.last


def naive_offsets(wanted: list[Request]) -> list[int]:
    """Every buffer at the lowest start of the arena or end of a buffer where nothing is in its way."""
    offsets = [request.offset for request in wanted]
    placed = [index for index, request in enumerate(wanted) if request.offset != ONLINE]
    online = [index for index in reversed(range(len(wanted))) if wanted[index].offset == ONLINE]
    for index in sorted(online, key=lambda number: wanted[number].size, reverse=True):
        request = wanted[index]
        others = [other for other in placed if live_together(wanted[other], request)]
        candidates = sorted({0, *(offsets[other] + wanted[other].size for other in others)})
        offsets[index] = next(
            start
            for start in candidates
            if all(start + request.size <= offsets[o] or offsets[o] + wanted[o].size <= start for o in others)
        )
        placed.append(index)
    return offsets


@given(requests())
def test_buffers_that_live_together_do_not_overlap(wanted):
    offsets = plan_offsets(wanted)
    for i, first in enumerate(wanted):
        assert offsets[i] >= 0
        for j in range(i):
            if live_together(first, wanted[j]):
                assert offsets[i] + first.size <= offsets[j] or offsets[j] + wanted[j].size <= offsets[i]


@given(requests())
def test_head_is_no_smaller_than_what_is_live_at_once(wanted):
    head = head_bytes(wanted, plan_offsets(wanted))
    steps = {request.first for request in wanted}
    live = [sum(r.size for r in wanted if r.first <= step <= r.last) for step in steps]
    assert max(live, default=0) <= head <= sum(request.size for request in wanted)


@given(requests(fixed=True))
def test_equals_a_naive_planner(wanted):
    assert plan_offsets(wanted) == naive_offsets(wanted)


@given(requests(fixed=True))
def test_fixed_offsets_stay(wanted):
    for request, offset in zip(wanted, plan_offsets(wanted), strict=True):
        assert request.offset in (ONLINE, offset)


def test_of_equal_buffers_the_later_one_is_placed_first():
    assert plan_offsets([Request(32, 0, 1), Request(32, 0, 1)]) == [32, 0]


def test_nothing_needs_nothing():
    assert plan_offsets([]) == []
    assert head_bytes([], []) == 0


@pytest.mark.parametrize("size", [16, 48])
def test_a_gap_is_used_when_it_is_large_enough(size):
    # 64 bytes at 0 die at step 1; the 32 at 64 stay, so that a gap of 64 bytes opens below them.
    wanted = [Request(64, 0, 1), Request(48, 0, 5), Request(size, 2, 3)]
    offsets = plan_offsets(wanted)
    assert offsets[:2] == [0, 64]
    assert offsets[2] == 0
