"""Generated firmware, built and run on emulated boards: the same bits, the planned bytes, hard limits."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from firmware_sim.board import Board
from firmware_sim.counting import Counter
from firmware_sim.emulator import Emulator
from firmware_sim.firmware import size
from firmware_sim.firmware.generation import Firmware, generate_firmware
from firmware_sim.firmware.plan import Optimization, Options, Protocol
from firmware_sim.firmware.selftest import (
    INFERENCE_REGION,
    Report,
    expected_crc32,
    input_bytes,
    parse_report,
    run_selftest,
)
from firmware_sim.firmware.size import build, linked_sizes, measure_size
from firmware_sim.pager import Placement
from tests.firmware_sim.builder import small_cnn
from tests.firmware_sim.monitor import EMULATED, require_emulator
from tests.models import every_layout, nested, network, random_inputs
from tests.shared import SHARED
from tflnest.bridge.remote import connect
from tflnest.errors import DeviceError, DoesNotFitError, TflnestError, UsageError
from tflnest.interpreter import Interpreter
from tflnest.model import Model

LEVELS = (4, 6, 8)
UP_AND_DOWN = [4, 6, 8, 6, 4]


@pytest.fixture(autouse=True)
def emulator() -> None:
    require_emulator()


@pytest.fixture(scope="module")
def model() -> Model:
    return nested(network())


@pytest.fixture(scope="module")
def expected(model) -> dict[int, int]:
    return {level: expected_crc32(model, level) for level in LEVELS}


def made(model: Model, board: str | Board, folder: Path, **options) -> Firmware:
    """Firmware in a folder; without a protocol unless one is asked for."""
    firmware = generate_firmware(model, board, Options(**{"protocol": Protocol.NONE, **options}))
    firmware.write(folder / "firmware", force=True)
    return firmware


def reported(model: Model, board: str | Board, folder: Path, **options) -> Report:
    firmware = made(model, board, folder, **options)
    return run_selftest(firmware.board, build(folder / "firmware", firmware.board))


def results(report: Report) -> list[tuple[int, int, int | None]]:
    return [(run.level, run.status, run.crc32) for run in report.runs]


# ------------------------------------------------------------------------------------------------------ exactness


@pytest.mark.parametrize("board", EMULATED)
def test_every_board_gives_the_bits_of_the_reference_interpreter(board, model, expected, tmp_path):
    report = reported(model, board, tmp_path)
    assert report.identity == model.directory.identity.hex()
    assert results(report) == [(level, 0, expected[level]) for level in UP_AND_DOWN]
    linked = measure_size(tmp_path / "firmware")
    assert linked.sram_equal
    assert abs(linked.flash_deviation) <= size.FLASH_TOLERANCE
    assert report.stack_bytes <= linked.linked.stack_bytes


def test_every_layout_of_constants(tmp_path):
    model = every_layout()
    ran = reported(model, "mps2-an386", tmp_path)
    assert {run.level for run in ran.runs} == {2, 4, 6, 8}
    for run in ran.runs:
        assert (run.status, run.crc32) == (0, expected_crc32(model, run.level))


@pytest.mark.parametrize("options", [{"smallest": True}, {"optimization": Optimization.SIZE}])
def test_options_do_not_change_the_bits(options, model, expected, tmp_path):
    report = reported(model, "mps2-an386", tmp_path, **options)
    assert results(report) == [(level, 0, expected[level]) for level in UP_AND_DOWN]
    assert measure_size(tmp_path / "firmware").as_planned


def test_plain_models_run_too(tmp_path):
    model = small_cnn()
    assert results(reported(model, "mps2-an385", tmp_path)) == [(8, 0, expected_crc32(model))]
    assert measure_size(tmp_path / "firmware", run=True).stack_peak_bytes > 0


def test_pages_that_never_came_do_not_run(model, expected, tmp_path):
    report = reported(model, "mps2-an386", tmp_path, pages=Placement.HOST)
    assert results(report) == [
        (4, 0, expected[4]),
        (6, -4, None),
        (8, -4, None),
        (6, -4, None),
        (4, 0, expected[4]),
    ]
    assert measure_size(tmp_path / "firmware").as_planned


def test_a_corrupt_page_in_flash_is_not_run(model, expected, tmp_path):
    made(model, "mps2-an386", tmp_path)
    firmware = tmp_path / "firmware"
    _damage(firmware, model, 2)
    report = run_selftest(Board.load("mps2-an386"), build(firmware, Board.load("mps2-an386")))
    assert [(run.level, run.status) for run in report.runs] == [(4, 0), (6, 0), (8, -4), (6, 0), (4, 0)]
    assert report.runs[1].crc32 == expected[6]
    _damage(firmware, model, 0)
    report = run_selftest(Board.load("mps2-an386"), build(firmware, Board.load("mps2-an386")))
    assert (report.start_status, report.runs) == (-6, ())


def _damage(firmware: Path, model: Model, page: int) -> None:
    """Change the CRC-32 that the firmware expects of a page."""
    path = firmware / "model.c"
    crc = f"0x{model.directory.pages[page].crc32:08x}u"
    text = path.read_text()
    assert text.count(f".crc32 = {crc}") == 1
    path.write_text(text.replace(crc, "0xdeadbeefu"))


def test_marks_count_every_operator(model, tmp_path):
    firmware = made(model, "mps2-an386", tmp_path, marks=True)
    image = build(tmp_path / "firmware", firmware.board)
    report = run_selftest(firmware.board, image, counter=Counter())
    counts = [
        {region.id: region.instructions for region in report.regions[start : start + 7]}
        for start in range(0, len(report.regions), 7)
    ]
    assert len(counts) == len(UP_AND_DOWN)
    operators = {step.operator.index for step in firmware.plan.program.steps}
    for count in counts:
        assert set(count) == operators | {INFERENCE_REGION}
        own = sum(count[index] for index in operators)
        assert own < count[INFERENCE_REGION] < own + 100
    assert counts[0] == counts[4] and counts[1] == counts[3]


# --------------------------------------------------------------------------------------------------------- limits


@pytest.mark.parametrize("protocol", Protocol)
def test_sram_that_just_suffices_links_and_16_bytes_less_do_not(model, expected, tmp_path, protocol):
    whole = Board.load("netduinoplus2").with_limits(sram_bytes=8192)
    needed = generate_firmware(model, whole, Options(protocol=protocol)).sram.total_bytes
    board = whole.with_limits(sram_bytes=needed)
    made(model, board, tmp_path, protocol=protocol)
    image = build(tmp_path / "firmware", board)
    assert linked_sizes(image, board).sram_bytes == needed
    script = tmp_path / "firmware" / "port" / "port.ld"
    script.write_text(script.read_text().replace(f"LENGTH = {needed}", f"LENGTH = {needed - 16}"))
    with pytest.raises(DoesNotFitError) as error:
        build(tmp_path / "firmware", board.with_limits(sram_bytes=needed - 16))
    assert error.value.needed_bytes - error.value.available_bytes == 16


def test_a_board_with_exactly_the_sram_runs(model, expected, tmp_path):
    whole = Board.load("mps2-an386")
    needed = generate_firmware(model, whole, Options(protocol=Protocol.NONE)).sram.total_bytes
    report = reported(model, whole.with_limits(sram_bytes=-(-needed // 128) * 128), tmp_path)
    assert results(report) == [(level, 0, expected[level]) for level in UP_AND_DOWN]


# ---------------------------------------------------------------------------------------------------- serial port


@pytest.mark.parametrize("board", ["microbit", "mps2-an386"])
def test_pages_come_over_the_serial_port_and_go_again(board, model, tmp_path):
    firmware = made(model, board, tmp_path, protocol=Protocol.SERIAL, pages=Placement.HOST)
    image = build(tmp_path / "firmware", firmware.board)
    interpreter = Interpreter(model=model)
    x = random_inputs(model, 1)
    with Emulator(firmware.board, image) as machine, connect(machine.url) as remote:
        assert remote.info().identity == model.directory.identity.hex()
        for level in (4, 6, 8):
            remote.push(model, level=level)
            interpreter.set_level(level)
            assert np.array_equal(remote.run(x), interpreter.run(x))
        assert all(check.sound for check in remote.verify(model))
        remote.switch(4)
        remote.page_out(4)
        interpreter.set_level(4)
        assert np.array_equal(remote.run(x), interpreter.run(x))
        assert remote.state().resident == 1
        with pytest.raises(TflnestError):
            remote.switch(8)
        remote.push(model, level=6)
        machine.reset()
        interpreter.set_level(6)
        with connect(machine.url) as again:
            assert np.array_equal(again.run(x), interpreter.run(x))  # the page survived the reset
    assert measure_size(tmp_path / "firmware").as_planned


# ----------------------------------------------------------------------------------------------------------- size


def test_what_is_not_as_planned_is_told(model, tmp_path):
    made(model, "mps2-an386", tmp_path)
    path = tmp_path / "firmware" / "model.c"
    text = path.read_text().replace(
        "tflnest_pager model_pager;", "tflnest_pager model_pager;\nuint32_t extra[4];"
    )
    path.write_text(
        text.replace("return tflnest_pager_start(", "extra[1]++;\n    return tflnest_pager_start(")
    )
    report = measure_size(tmp_path / "firmware")
    assert not report.as_planned and not report.sram_equal
    assert report.linked.static_bytes == report.manifest["sram"]["static_bytes"] + 16


def test_what_cannot_be_measured(model, tmp_path):
    generate_firmware(model, "mps2-an386", component=True).write(tmp_path / "component")
    with pytest.raises(UsageError, match="component"):
        measure_size(tmp_path / "component")
    made(model, "mps2-an386", tmp_path, protocol=Protocol.SERIAL)
    with pytest.raises(UsageError, match="waits for a host"):
        measure_size(tmp_path / "firmware", run=True)
    with pytest.raises(UsageError, match="no firmware"):
        measure_size(tmp_path)
    (tmp_path / "firmware" / "model.c").write_text("nonsense")
    with pytest.raises(TflnestError, match="nonsense"):
        measure_size(tmp_path / "firmware")


def test_an_incomplete_report_is_an_error():
    with pytest.raises(DeviceError, match="no complete report"):
        parse_report("model ab\nlevel 8 status 0 crc 0")
    assert parse_report("model ab\nstart status -6\nstack 100\nend").start_status == -6


def test_input_bytes_are_those_of_the_generator():
    assert input_bytes(4).tolist() == _bytes_of_the_generator(4)


def _bytes_of_the_generator(count: int) -> list[int]:
    state, values = np.uint32(0x12345678), []
    with np.errstate(over="ignore"):
        for _ in range(count):
            state = state * np.uint32(1664525) + np.uint32(1013904223)
            values.append(int(state >> np.uint32(24)))
    return values


# --------------------------------------------------------------------------------------------------------- README


@pytest.mark.parametrize("kind", ["make", "cmake"])
def test_the_commands_of_the_readme_build(kind, model, tmp_path):
    if kind == "cmake" and shutil.which("cmake") is None:
        pytest.skip("cmake is not installed")
    made(model, "stm32vldiscovery", tmp_path, protocol=Protocol.SERIAL)
    folder = tmp_path / "firmware"
    blocks = [block.partition("```")[0] for block in (folder / "README.md").read_text().split("```sh\n")[1:]]
    command = next(block for block in blocks if block.startswith(kind))
    subprocess.run(command, shell=True, cwd=folder, check=True, capture_output=True)
    assert list(folder.rglob("firmware.elf"))


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "crc32"),
    [("kws_ref_model", 0xFC17DC01), ("hello_world_int8", 0x5D677172)],
)
def test_public_models_give_the_checksums_of_tflm(name, crc32, tmp_path):
    """TFLM 90b983c with CMSIS-NN 4ab83cc on the same board, the same input bytes."""
    path = SHARED / "models" / f"{name}.tflite"
    if not path.is_file():
        pytest.skip(f"{path.name} is not beside the checkout")
    report = reported(Model.load(path), "mps2-an386", tmp_path)
    assert results(report) == [(8, 0, crc32)]
