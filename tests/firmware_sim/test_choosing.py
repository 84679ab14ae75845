"""Controllers and narrowed activations in generated firmware: planned memory, and the bits on emulated boards."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from firmware_sim.board import Board
from firmware_sim.component.contents import code_parts, tflm_parts
from firmware_sim.firmware.arena import operator_memory, plan_firmware_arena
from firmware_sim.firmware.generation import generate_firmware
from firmware_sim.firmware.plan import Options, Protocol
from firmware_sim.firmware.program import device_program
from firmware_sim.firmware.selftest import expected_crc32, input_bytes, run_selftest
from firmware_sim.firmware.size import build, measure_size
from firmware_sim.inspection import inspect
from firmware_sim.pager import Placement
from firmware_sim.simulation import simulate
from firmware_sim.virtual_model import VirtualModel
from tests.controllers import controlled, narrow_levels
from tests.firmware_sim.monitor import require_emulator
from tests.models import NetworkBuilder, everything, nested, network
from tflnest.device import Core
from tflnest.device.narrowing import NARROW
from tflnest.errors import UsageError
from tflnest.interpreter import Interpreter
from tflnest.model import Model

UP_AND_DOWN = [4, 6, 8, 6, 4]


def forked() -> Model:
    """A network in which an activation is read twice, so that it cannot be narrowed where it lies."""
    net = NetworkBuilder(4)
    x = net.convolution(net.start(), 8, name="stem")
    left = net.convolution(x, 8, name="left")
    right = net.convolution(x, 8, name="right", kernel=1)
    y = net.activation((1, 8, 8, 8), "sum")
    net.operator("ADD", [left, right], [y], fused_activation_function="NONE")
    return net.finish(net.dense(net.flatten(net.convolution(y, 8, stride=4, name="last")), 6, name="head"))


def test_activations_are_narrowed_in_place_where_nobody_reads_them_later() -> None:
    program = device_program(controlled(nested(forked(), everything())))
    places = {
        step.operator.index: call.inputs[0].tensor == call.outputs[0].tensor
        for step in program.steps
        for call in step.calls
        if call.function is NARROW
    }
    assert places == {1: False, 2: True, 4: True, 6: True}
    assert program.choosing is not None and program.choosing.operators == (1, 2, 4, 6)
    plan = plan_firmware_arena(program, Core.DSP)
    static = plan_firmware_arena(device_program(program.model, dynamic=False), Core.DSP)
    assert plan.activation_bytes >= static.activation_bytes
    # The stem, its narrowed copy and the output of "left" lie side by side, 512 bytes each.
    memory = {row.index: row for row in operator_memory(program, plan)}
    assert memory[1].live_bytes - memory[1].scratch_bytes == 3 * 512
    indices = [step.operator.index for step in program.steps]
    assert indices[:4] == [0, 7, 8, 9], "the controller runs behind the stem"


def test_a_controller_can_be_left_out() -> None:
    model = controlled()
    static = device_program(model, dynamic=False)
    assert static.choosing is None and max(step.operator.index for step in static.steps) == 5
    assert not any(call.function is NARROW for step in static.steps for call in step.calls)
    with pytest.raises(UsageError, match="no controller"):
        device_program(nested(network(), everything()), dynamic=True)


def chosen(model: Model, level: int) -> tuple[tuple[int, int], ...]:
    """What the reference interpreter's controller chooses on the input of the self-test."""
    interpreter = Interpreter(model=model, level=level, policy="dynamic")
    shape = model.graph.main.input_tensors()[0].shape
    interpreter.run(input_bytes(int(np.prod(shape))).view(np.int8).reshape(shape))
    widths, pairs = interpreter.widths, []
    assert model.controller is not None
    for index in model.controller.operators:
        column = next(place for place, item in enumerate(widths.operators) if item.index == index)
        own = (4, 6, 8).index(int(widths.weight_bits[0, column]))
        pairs.append((own, int(widths.activation_bits[0, column])))
    return tuple(pairs)


@pytest.mark.parametrize("board", ["microbit", "mps2-an386", "mps3-an547"])
def test_boards_choose_what_the_reference_interpreter_chooses(board: str, tmp_path: Path) -> None:
    require_emulator()
    model = controlled(nested(forked(), everything()), seed=2)
    firmware = generate_firmware(model, board, Options(protocol=Protocol.NONE))
    firmware.write(tmp_path / "firmware")
    report = run_selftest(firmware.board, build(tmp_path / "firmware", firmware.board))
    assert [(run.level, run.status, run.crc32) for run in report.runs] == [
        (level, 0, expected_crc32(model, level, policy="dynamic")) for level in UP_AND_DOWN
    ]
    assert [run.widths for run in report.runs] == [chosen(model, level) for level in UP_AND_DOWN]
    assert len({width for run in report.runs for width in run.widths}) > 1
    assert measure_size(tmp_path / "firmware").as_planned


def test_levels_that_narrow_activations_run_on_boards(tmp_path: Path) -> None:
    require_emulator()
    model = narrow_levels(nested(forked(), everything()), (3, 5, 8))
    firmware = generate_firmware(model, "mps2-an386", Options(protocol=Protocol.NONE))
    firmware.write(tmp_path / "firmware")
    report = run_selftest(firmware.board, build(tmp_path / "firmware", firmware.board))
    assert [(run.level, run.status, run.crc32) for run in report.runs] == [
        (level, 0, expected_crc32(model, level)) for level in UP_AND_DOWN
    ]
    assert report.runs[0].widths == ()
    assert measure_size(tmp_path / "firmware").sram_equal


def test_simulate_counts_the_controller() -> None:
    model = controlled()
    x = input_bytes(3 * 192).view(np.int8).reshape(3, 8, 8, 3)
    result = simulate(model, "mps2-an386", inputs=x)
    assert result.outputs is not None
    assert np.array_equal(result.outputs, Interpreter(model=model, policy="dynamic").run(x))
    names = {row.index: (row.name, cost.macs) for row, cost in result.operator_rows() if cost is not None}
    assert names[7] == ("FULLY_CONNECTED", 256) and names[8] == ("FULLY_CONNECTED", 192)
    plain = simulate(nested(network(), everything()), "mps2-an386")
    assert result.macs == plain.macs + 256 + 192 + 1024
    assert result.memory.sram_bytes > plain.memory.sram_bytes


def test_the_virtual_board_chooses_too() -> None:
    model = controlled()
    x = input_bytes(192).view(np.int8).reshape(1, 8, 8, 3)
    subject = VirtualModel(model, Board.load("mps2-an386"), Placement.FLASH)
    subject.inputs[0].data[:] = x.tobytes()
    assert subject.invoke() == 0
    expected = Interpreter(model=model, policy="dynamic").run(x)
    assert bytes(subject.outputs[0].data) == expected.tobytes()


def test_libraries_expect_what_the_controller_chooses() -> None:
    model = controlled()
    code = code_parts(model, "heading", "chooses").checks
    assert code == {level: expected_crc32(model, level, policy="dynamic") for level in (4, 6, 8)}
    tflm = tflm_parts(model, "heading", "chooses").checks
    assert tflm == {level: expected_crc32(model, level, policy="static") for level in (4, 6, 8)} != code


def test_inspect_tells_of_the_controller() -> None:
    result = inspect(controlled())
    document = result.to_dict()
    assert document["controller"]["operators"] == (1, 2, 3, 5)
    assert document["controller"]["choices"][0] == {"level": 4, "activation_bits": 4}
    assert inspect(nested(network(), everything())).to_dict()["controller"] is None
    narrow = inspect(narrow_levels(nested(network(), everything()), (2, 4, 8)))
    assert {item.activation_bits for item in narrow.nested} == {(2, 4, 8)}
