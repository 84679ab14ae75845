"""The measured sizes of the runtime's code are those of the code as it is."""

from __future__ import annotations

import pytest

from firmware_sim.board import Board
from firmware_sim.firmware.code_measurement import measure_base, measure_kernels, text_of
from firmware_sim.firmware.code_size import CODE_SIZES, SECTORS, code_sizes, struct_size
from firmware_sim.firmware.plan import Optimization, Protocol
from firmware_sim.toolchain import Toolchain
from tests.firmware_sim.monitor import require_emulator
from tflnest.device.parameters import ConvParams, Field, Filter, Shape

#: Firmware is predicted within 2 %: the parts may be off by a little more.
TOLERANCE = 0.04
HINT = "run python -m firmware_sim.firmware.code_measurement"


@pytest.fixture(scope="module")
def toolchain() -> Toolchain:
    require_emulator()
    found = Toolchain.find()
    if found.version != code_sizes()["compiler"]:
        pytest.skip(f"measured with gcc {code_sizes()['compiler']}, here is {found.version}")
    return found


def test_the_file_is_what_its_writer_writes():
    assert CODE_SIZES.read_text(encoding="ascii") == text_of(code_sizes())


@pytest.mark.parametrize("protocol", Protocol)
def test_bases_are_up_to_date(protocol, toolchain, tmp_path):
    board = Board.load("mps2-an386")
    size, _ = measure_base(toolchain, board, Optimization.SPEED, protocol, tmp_path)
    known = code_sizes()["bases"][board.name]["speed"][str(protocol)]
    assert abs(size - known) <= TOLERANCE * known, HINT


def test_the_base_with_flash_sectors_is_up_to_date(toolchain, tmp_path):
    board = Board.load("microbit")
    size, _ = measure_base(toolchain, board, Optimization.SIZE, Protocol.SERIAL, tmp_path, sectors=True)
    known = code_sizes()["bases"][board.name]["size"][SECTORS]
    assert abs(size - known) <= TOLERANCE * known, HINT


def test_kernels_are_up_to_date(toolchain, tmp_path):
    board = Board.load("mps2-an386")
    _, symbols = measure_base(toolchain, board, Optimization.SPEED, Protocol.NONE, tmp_path)
    measured = measure_kernels(toolchain, board.core, Optimization.SPEED, tmp_path, symbols)
    known = code_sizes()["kernels"][board.core]["speed"]
    for name in ("tflnest_conv_s8", "tflnest_depthwise_conv_s8", "tflnest_fully_connected_s8"):
        now, then = (sum(item["sizes"][n] for n in item["functions"][name]) for item in (measured, known))
        assert abs(now - then) <= TOLERANCE * then, f"{name}: {then:,} -> {now:,} bytes; {HINT}"


def test_structs_have_their_size_on_32_bit_cores():
    assert struct_size(Shape) == (16, 4)
    assert struct_size(Field) == (8, 4)
    assert struct_size(Filter) == (24, 4)
    assert struct_size(ConvParams) == (88, 4)
