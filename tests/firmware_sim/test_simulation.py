from __future__ import annotations

import json

import numpy as np
import pytest

from firmware_sim.board import Board
from firmware_sim.firmware.generation import generate_firmware
from firmware_sim.firmware.plan import Options
from firmware_sim.pager import Placement
from firmware_sim.simulation import simulate
from firmware_sim.target import align_up
from firmware_sim.trace import EventKind
from tests.controllers import controlled
from tests.firmware_sim.builder import SCALE, BoardBuilder
from tests.models import random_inputs
from tflnest.errors import DoesNotFitError, ExitCode, UsageError
from tflnest.interpreter import ENGINES, Interpreter

MOVES = (EventKind.PAGE_IN, EventKind.PAGE_OUT)


@pytest.fixture(scope="module")
def samples():
    return np.random.default_rng(5).integers(-128, 128, (12, 12, 12, 4)).astype(np.int8)


@pytest.fixture
def board():
    return Board.load("microbit")


def sram_for(simulation, pages):
    """SRAM that the model takes on a board with these pages in slots."""
    sizes = simulation.storage.levels
    slots = sum(align_up(sizes[page].page_bytes, 8) for page in pages)
    return simulation.memory.stack_bytes + simulation.memory.arena_bytes + slots


def test_outputs_are_those_of_each_level(nested_cnn, board, samples):
    result = simulate(nested_cnn, board, schedule="4@0,8@3,6@8", pages="host", inputs=samples)
    assert result.runs == 18
    again = np.concatenate([samples, samples[:6]])
    for level, start, end in ((4, 0, 3), (8, 3, 8), (6, 8, 18)):
        expected = Interpreter(model=nested_cnn, level=level).run(again[start:end])
        np.testing.assert_array_equal(result.outputs[start:end], expected)


@pytest.mark.parametrize("placement", list(Placement))
def test_placements_agree_and_move_what_they_should(nested_cnn, board, samples, placement):
    result = simulate(nested_cnn, board, schedule="4@0,8@3,4@6", pages=placement, inputs=samples, runs=9)
    reference = simulate(nested_cnn, board, schedule="4@0,8@3,4@6", inputs=samples, runs=9)
    np.testing.assert_array_equal(result.outputs, reference.outputs)
    lower = sum(page.size for page in nested_cnn.directory.pages[1:])
    expected = {Placement.FLASH: (0, 0), Placement.SRAM: (lower, 0), Placement.HOST: (lower, lower)}[
        placement
    ]
    assert (result.counters.link_bytes, result.counters.dropped_bytes) == expected
    moved = [move.moved_bytes for move in result.moves]
    assert moved == ([0, lower, lower] if placement is Placement.HOST else [0, 0, 0])


def test_sram_is_accounted_at_every_moment(nested_cnn, board):
    result = simulate(nested_cnn, board, schedule="4@0,8@2,4@4", pages="host", runs=6)
    base = sram_for(result, ())
    used = [(event.kind, event.page, event.sram_used_bytes) for event in result.trace.of(*MOVES)]
    one, both = sram_for(result, (1,)), sram_for(result, (1, 2))
    assert used == [
        (EventKind.PAGE_IN, 0, base),
        (EventKind.PAGE_IN, 1, one),
        (EventKind.PAGE_IN, 2, both),
        (EventKind.PAGE_OUT, 2, one),
        (EventKind.PAGE_OUT, 1, base),
    ]
    assert result.peak_sram_bytes == both
    inferences = result.trace.of(EventKind.INFERENCE)
    assert [event.level for event in inferences] == [4, 4, 8, 8, 4, 4]
    assert [event.sram_used_bytes for event in inferences] == [base, base, both, both, base, base]
    seconds = [event.seconds for event in result.trace.events]
    assert seconds == sorted(seconds)
    assert result.seconds == pytest.approx(
        2 * result.inference_seconds
        + 4 * simulate(nested_cnn, board, level=4, pages="host").inference_seconds
        + sum(move.seconds for move in result.moves)
    )


def test_a_level_fits_to_the_byte(nested_cnn, board):
    usual = simulate(nested_cnn, board, pages="host")
    needed = sram_for(usual, (1, 2)) - usual.memory.arena_bytes + usual.memory.activation_bytes
    exact = board.with_limits(sram_bytes=needed)
    assert not usual.memory.is_reduced
    small = simulate(nested_cnn, exact, pages="host")
    assert small.memory.is_reduced and small.peak_sram_bytes == needed
    with pytest.raises(DoesNotFitError) as caught:
        simulate(nested_cnn, board.with_limits(sram_bytes=needed - 1), pages="host")
    error = caught.value
    assert error.exit_code is ExitCode.DOES_NOT_FIT
    assert (error.memory, error.needed_bytes, error.available_bytes) == ("sram", needed, needed - 1)
    assert "short by 1 bytes, at operator 0 (CONV_2D), with the smallest tiles (--smallest)" in error.message
    assert "level 8 needs" in error.message
    assert "level 6 with pages on the host (--level 6 --pages host)" in (error.hint or "")
    assert "level 8 with pages in flash" in (error.hint or "")
    assert "another board: " in (error.hint or "")


def test_a_schedule_is_refused_before_it_starts_when_its_highest_level_does_not_fit(nested_cnn, board):
    usual = simulate(nested_cnn, board, level=6, pages="host").memory
    small = board.with_limits(sram_bytes=usual.sram_bytes - usual.arena_bytes + usual.activation_bytes)
    assert simulate(nested_cnn, small, schedule="4@0,6@1", pages="host").runs == 11
    with pytest.raises(DoesNotFitError, match="level 8"):
        simulate(nested_cnn, small, schedule="4@0,8@5", pages="host")


def test_flash_is_a_limit_too(nested_cnn, board):
    base, *lower = (align_up(page.size, 16) for page in nested_cnn.directory.pages)
    runtime = simulate(nested_cnn, board, pages="host").memory.runtime_bytes
    tight = board.with_limits(flash_bytes=runtime + base)
    assert simulate(nested_cnn, tight, pages="host", schedule="4@0,8@1").counters.link_bytes > 0
    with pytest.raises(DoesNotFitError) as caught:
        simulate(nested_cnn, tight, level=4)
    assert caught.value.memory == "flash"
    assert f"short by {sum(lower):,} bytes" in caught.value.message
    assert "most are of operator" in caught.value.message
    assert "--pages host" in (caught.value.hint or "")


def test_what_fits_nowhere_says_so():
    builder = BoardBuilder()
    model = builder.model(builder.unary("RELU", builder.input((1, 1 << 14, 1 << 14, 1), scale=SCALE)))
    with pytest.raises(DoesNotFitError) as caught:
        simulate(model, "microbit")
    assert caught.value.hint == "no board that is known would hold it"
    assert caught.value.operator == 0


def test_a_plain_model(plain_cnn, board, samples):
    result = simulate(plain_cnn, board, inputs=samples)
    np.testing.assert_array_equal(result.outputs, Interpreter(model=plain_cnn).run(samples))
    assert (result.identity, result.runs, result.counters.page_ins) == (None, 12, 0)
    assert [size.level for size in result.storage.levels] == [8]
    with pytest.raises(UsageError, match="no level 4"):
        simulate(plain_cnn, board, level=4)


def test_a_model_on_file_and_a_named_board(plain_cnn, tmp_path):
    path = tmp_path / "cnn.tflite"
    plain_cnn.save(path)
    result = simulate(path, "nrf52840")
    assert (result.name, result.board.name, result.runs) == (str(path), "nrf52840", 1)


def test_progress_is_told(nested_cnn, board):
    told = []
    simulate(nested_cnn, board, schedule="4@0,8@2", runs=5, progress=lambda *args: told.append(args))
    assert told == [("inferences", 2, 5), ("inferences", 5, 5)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": 5}, "no level 5"),
        ({"level": 4, "schedule": "4@0"}, "a level and a schedule"),
        ({"schedule": "4@0,5@2"}, "no level 5"),
        ({"schedule": "4@0,8@9", "runs": 9}, "switches at inference 9, and only 9 are run"),
        ({"runs": 0}, "0 inferences"),
        ({"runs": 1_000_000}, "1,000,000 inferences"),
        ({"pages": "disk"}, "cannot rest in 'disk'"),
        ({"inputs": np.int8(1)}, "expected samples of"),
        ({"inputs": np.zeros((0, 12, 12, 4), np.int8)}, "expected samples of"),
        ({"inputs": np.zeros((1, 3), np.int8)}, "takes arrays of shape"),
    ],
)
def test_senseless_arguments(nested_cnn, board, options, message):
    with pytest.raises(UsageError, match=message):
        simulate(nested_cnn, board, **options)


def test_several_inputs(board):
    builder = BoardBuilder()
    a, b = builder.input((1, 8), scale=SCALE), builder.input((1, 8), scale=SCALE)
    y = builder.tensor((1, 8), scale=SCALE)
    builder.operator("ADD", (a, b), (y,))
    model = builder.model(y)
    x = np.arange(16, dtype=np.int8).reshape(2, 8)
    result = simulate(model, board, inputs=[x, x])
    np.testing.assert_array_equal(result.outputs, Interpreter(model=model).run([x, x]))
    with pytest.raises(UsageError, match="1 inputs were given, and the model has 2"):
        simulate(model, board, inputs=[x])
    with pytest.raises(UsageError, match="several inputs"):
        simulate(model, board, inputs=x)


def test_the_report_is_json(nested_cnn, board):
    report = json.loads(json.dumps(simulate(nested_cnn, board, schedule="4@0,8@1", pages="host").to_dict()))
    assert report["schema_version"] == 1
    assert [level["level"] for level in report["levels"]] == [4, 6, 8]
    assert all(level["needs"]["fits"] for level in report["levels"])
    assert report["schedule"] == ["4@0", "8@1"]
    assert len(report["operators"]) == 6
    assert report["storage"]["switches"][1]["weights_reduction"] > 0.84
    assert report["estimate"]["cycles"] > report["estimate"]["macs"] > 0
    assert report["moves"][1]["link_bytes"] == sum(page.size for page in nested_cnn.directory.pages[1:])


@pytest.mark.parametrize("placement", list(Placement))
@pytest.mark.parametrize("level", [4, 8])
def test_memory_is_that_of_generated_firmware(nested_cnn, board, placement, level):
    result = simulate(nested_cnn, board, level=level, pages=placement)
    made = generate_firmware(nested_cnn, board, Options(level=_level_of(level, placement), pages=placement))
    assert result.memory.is_firmware
    assert result.memory.sram_bytes == result.peak_sram_bytes == made.sram.total_bytes
    assert abs(result.memory.flash_bytes - made.flash.total_bytes) < 16


def _level_of(level, placement):
    """Only pages on the host are left out below the highest level: the others rest on the board."""
    return level if placement is Placement.HOST else None


def test_what_the_device_lacks_counts_as_tflm_would(board):
    builder = BoardBuilder()
    source = builder.input((1, 4, 4, 3), scale=SCALE)
    real = builder.tensor((1, 4, 4, 3), "FLOAT32")
    builder.operator("DEQUANTIZE", (source,), (real,))
    result = simulate(builder.model(real), board)
    assert not result.memory.is_firmware
    assert result.memory.arena_bytes == result.arena.needed_bytes
    assert result.memory.stack_bytes == board.stack_bytes


@pytest.mark.parametrize("engine", ENGINES)
def test_every_inference_tells_what_a_controller_chose(engine):
    model = controlled()
    inputs = random_inputs(model, 24)
    result = simulate(
        model, "nrf52840", schedule="8@0,4@20", pages="host", inputs=inputs, runs=28, engine=engine
    )
    events = [event.widths for event in result.trace.of(EventKind.INFERENCE)]
    assert len({*events[:20]}) > 1
    again = np.concatenate([inputs, inputs[:4]])
    for level, rows in ((8, range(20)), (4, range(20, 28))):
        interpreter = Interpreter(model=model, level=level, policy="dynamic")
        for row in rows:
            interpreter.run(again[row : row + 1])
            assert events[row] == interpreter.widths.pairs(0)
    np.testing.assert_array_equal(result.widths.samples, np.arange(28))
    assert {pair[0] for pair in events[-1][:5]} <= {4, 8}  # 8 for what is flat, or the controller's own
    document = result.to_dict()["widths"]
    assert document["bit_operations"] == pytest.approx(result.widths.bit_operations().mean())
    assert len(document["operators"]) == len(events[0])
    assert all(not event.widths for event in result.trace.events if event.kind is not EventKind.INFERENCE)


def test_nothing_is_told_of_widths_without_a_controller_or_inputs(nested_cnn, board, samples):
    assert simulate(nested_cnn, board, inputs=samples).widths is None
    assert simulate(controlled(), "nrf52840").to_dict()["widths"] is None
