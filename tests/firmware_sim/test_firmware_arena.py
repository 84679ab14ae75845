"""The arena of generated firmware: nothing overlaps, tiles stay within their allowance."""

from __future__ import annotations

from itertools import combinations

import pytest

from firmware_sim.arena import plan_arena
from firmware_sim.firmware import arena as firmware_arena
from firmware_sim.firmware.arena import ALLOWANCE_BYTES, TILES, plan_firmware_arena, step_scratch
from firmware_sim.firmware.program import DeviceProgram, device_program
from firmware_sim.lifetimes import lifetimes
from tests.models import NetworkBuilder, nested, network
from tests.shared import int8_paths
from tflnest.device import Core
from tflnest.model import Model

CORES = tuple(Core)


@pytest.fixture(scope="module")
def program() -> DeviceProgram:
    return device_program(nested(network()))


def live_buffers(program: DeviceProgram, plan: firmware_arena.Arena) -> list[tuple[int, int, int, int]]:
    """Offset, end, first and last time of everything in the arena."""
    times = lifetimes(program.model.graph)
    rows = []
    for index, offset in plan.offsets.items():
        rows.append((offset, offset + program.tensors[index].bytes, *times.of(0, index)))
    for position, scratch in plan.scratch.items():
        operator = program.steps[position].operator.index
        rows.append((scratch.offset, scratch.offset + scratch.size, *times.operators[0, operator]))
    return rows


@pytest.mark.parametrize("smallest", [False, True])
@pytest.mark.parametrize("core", CORES)
def test_nothing_that_lives_at_the_same_time_overlaps(program, core, smallest):
    plan = plan_firmware_arena(program, core, smallest)
    rows = live_buffers(program, plan)
    assert max(row[1] for row in rows) <= plan.bytes
    assert all(row[0] % 16 == 0 for row in rows)
    for one, other in combinations(rows, 2):
        together = one[2] <= other[3] and other[2] <= one[3]
        assert not together or one[1] <= other[0] or other[1] <= one[0]


@pytest.mark.parametrize("core", CORES)
def test_scratch_is_what_the_calls_need(program, core):
    plan = plan_firmware_arena(program, core)
    for position, step in enumerate(program.steps):
        needed = step_scratch(step, plan.tiles.get(position), core)
        assert (plan.scratch[position].size if needed else 0) == needed
    assert set(plan.tiles.values()) <= set(TILES)


@pytest.mark.parametrize("core", CORES)
def test_the_smallest_arena_is_the_smallest(program, core):
    fast, small = (plan_firmware_arena(program, core, smallest) for smallest in (False, True))
    assert small.bytes <= fast.bytes
    assert fast.activation_bytes == small.activation_bytes == small.bytes


@pytest.mark.parametrize("core", CORES)
def test_tiles_shrink_step_by_step_to_what_there_is_room_for(program, core):
    usual, small = (plan_firmware_arena(program, core, smallest) for smallest in (False, True))
    assert plan_firmware_arena(program, core, room=usual.bytes) == usual
    assert usual.bytes > small.bytes and not usual.is_reduced
    for room in range(usual.bytes - 16, small.bytes - 1, -16):
        plan = plan_firmware_arena(program, core, room=room)
        assert plan.is_reduced and small.bytes <= plan.bytes <= room
    assert plan_firmware_arena(program, core, room=small.bytes - 16).bytes == small.bytes


def test_tiles_are_small_where_memory_is_short_and_large_elsewhere(monkeypatch):
    net = NetworkBuilder()
    y = net.convolution(net.start((1, 16, 16, 32)), 32, name="wide")
    y = net.convolution(y, 32, stride=4, name="narrow")
    program = device_program(nested(net.finish(y)))
    monkeypatch.setattr(firmware_arena, "ALLOWANCE_BYTES", 3500)
    plan = plan_firmware_arena(program, Core.PORTABLE)
    assert plan.bytes <= plan.activation_bytes + 3500
    assert plan.tiles[0] < 16
    assert plan.tiles[1] == max(TILES)


def test_models_that_are_all_dense_get_less(monkeypatch):
    net = NetworkBuilder()
    y = net.dense(net.flatten(net.start((1, 4, 4, 16))), 64, name="a")
    program = device_program(nested(net.finish(y)))
    plan = plan_firmware_arena(program, Core.PORTABLE)
    assert plan.bytes <= plan.activation_bytes + firmware_arena.DENSE_ALLOWANCE_BYTES


def test_the_activations_alone_are_the_head_of_tflm():
    model = network()
    plan = plan_firmware_arena(device_program(model), Core.PORTABLE)
    assert plan.activation_bytes == plan_arena(model).head_bytes


@pytest.mark.shared
@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("path", int8_paths(), ids=lambda path: path.stem)
def test_public_models_stay_within_the_allowance(path, core):
    if path.stem.startswith("mobilenet_v2"):
        pytest.skip("larger than any board here")
    program = device_program(Model.load(path))
    plan, small = (plan_firmware_arena(program, core, smallest) for smallest in (False, True))
    assert plan.bytes <= plan.activation_bytes + ALLOWANCE_BYTES
    assert small.bytes == small.activation_bytes == plan.activation_bytes
