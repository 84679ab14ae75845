from __future__ import annotations

import json
import re

import pytest

from firmware_sim.board import Board, list_boards
from firmware_sim.firmware.plan import Options, core_of, plan_firmware
from firmware_sim.instructions import COSTS, MODELS, InstructionModel, instruction_model, step_features
from tests.firmware_sim.builder import SCALE, BoardBuilder


def test_every_board_of_the_package_has_a_model_of_its_core():
    for name in list_boards():
        assert instruction_model(Board.load(name).core) is not None, name
    assert instruction_model("riscv") is None


def test_coefficients_are_not_negative_and_known():
    table = json.loads(COSTS.read_text("utf-8"))["cores"]
    assert set(table) == set(MODELS.values())
    for core, kinds in table.items():
        assert {"conv", "conv pointwise", "depthwise", "fully connected"} <= set(kinds), core
        assert all(value >= 0 for coefficients in kinds.values() for value in coefficients.values())


def test_features_follow_from_shapes():
    builder = BoardBuilder()
    x = builder.input((1, 8, 8, 4), scale=SCALE)
    plan = plan_firmware(builder.model(builder.conv(x, 6)), core_of(Board.load("mps2-an386")), Options())
    (features,) = step_features(plan, 0, 0)
    assert features.kind == "conv"
    assert features.values["macs"] == 8 * 8 * 6 * 36
    assert features.values["outputs"] == 8 * 8 * 6
    assert features.values["gathered"] == features.values["tiles"] * 8 * 8 * 36
    assert features.values["weights int8"] == 6 * 36


def test_every_level_decodes_its_planes(nested_cnn):
    plan = plan_firmware(nested_cnn, core_of(Board.load("mps2-an386")), Options())
    for level in range(3):
        (features,) = step_features(plan, 1, level)
        (name,) = [name for name in features.values if name.startswith("weights ")]
        assert re.fullmatch(r"weights \d(\+\d)*", name) and name.count("+") == level
        assert features.values[name] == 16 * 16 * 9


def test_unknown_planes_cost_what_known_ones_do_and_unknown_kinds_have_no_count(nested_cnn):
    plan = plan_firmware(nested_cnn, core_of(Board.load("mps2-an386")), Options())
    (features,) = step_features(plan, 1, 2)
    known = InstructionModel({features.kind: {"calls": 7.0, "weights 1+7": 2.0, "weights 7+1": 4.0}})
    assert known.instructions(features) == 7 + 3 * 16 * 16 * 9
    assert InstructionModel({}).instructions(features) is None
    assert InstructionModel({}).step(plan, 1, 2) is None


@pytest.mark.parametrize("core", sorted(set(MODELS.values())))
def test_a_whole_model_takes_a_plausible_count(core, plain_cnn):
    board = next(Board.load(name) for name in list_boards() if MODELS[Board.load(name).core] == core)
    plan = plan_firmware(plain_cnn, core_of(board), Options())
    fitted = instruction_model(core)
    assert fitted is not None
    total = sum(fitted.step(plan, position, 0) or 0 for position in range(len(plan.program.steps)))
    macs = 12 * 12 * 16 * 36 + 6 * 6 * 16 * 144 + 144 * 10
    assert 0.3 * macs < total < 30 * macs
