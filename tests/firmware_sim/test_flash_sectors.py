"""Firmware that takes its pages into flash sectors: planned, refused, and on emulated boards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from firmware_sim.board import Board
from firmware_sim.emulator import Emulator
from firmware_sim.firmware.generation import Firmware, generate_firmware
from firmware_sim.firmware.plan import Options, Protocol
from firmware_sim.firmware.size import build, measure_size
from firmware_sim.image import Image
from firmware_sim.pager import Placement
from firmware_sim.sectors import MARK_BYTES
from firmware_sim.target import align_up
from tests.firmware_sim.monitor import folder, require_emulator
from tests.models import NetworkBuilder, nested, network, random_inputs
from tflnest.bridge.messages import MessageType
from tflnest.bridge.push import PushKind
from tflnest.bridge.remote import connect
from tflnest.bridge.session import RefusedError
from tflnest.container import page_image
from tflnest.errors import DoesNotFitError, UsageError
from tflnest.interpreter import Interpreter
from tflnest.model import Model

#: The first has a flash controller in QEMU, the others memory that is treated as flash.
BOARDS = ("microbit", "mps2-an386", "mps3-an547")
TIMEOUT_S = 30.0


@pytest.fixture(scope="module")
def model() -> Model:
    """Pages of several sectors of the microbit."""
    net = NetworkBuilder(3)
    y = net.convolution(net.start((1, 4, 4, 8)), 16, kernel=1, name="a")
    return nested(net.finish(net.dense(net.flatten(y), 40, name="b")))


@pytest.fixture(scope="module")
def images(model: Model) -> list[bytes]:
    assert model.directory is not None
    return [page_image(model.to_bytes(), page) for page in model.directory.pages]


# --------------------------------------------------------------------------------------------------------- plans


@pytest.mark.parametrize(
    ("options", "constants", "stored", "slots"),
    [
        (Options(), (0, 1, 2), (), ()),
        (Options(sectors=True), (0,), (1, 2), ()),
        (Options(empty=True), (), (0, 1, 2), ()),
        (Options(pages=Placement.HOST, empty=True), (), (0,), (1, 2)),
        (Options(pages=Placement.SRAM, empty=True), (), (), (0, 1, 2)),
        (Options(sectors=True, level=6), (0,), (1,), ()),
    ],
)
def test_pages_rest_where_they_should(
    options: Options, constants: tuple[int, ...], stored: tuple[int, ...], slots: tuple[int, ...]
) -> None:
    plan = generate_firmware(nested(network()), "microbit", options).plan
    assert (plan.flash_pages, plan.stored_pages, plan.slots) == (constants, stored, slots)


def test_sectors_count_in_the_flash(model: Model, images: list[bytes]) -> None:
    made = generate_firmware(model, "microbit", Options(sectors=True, empty=True))
    assert made.flash is not None
    assert made.flash.sector_bytes == sum(align_up(len(image) + MARK_BYTES, 1024) for image in images)
    assert made.flash.page_bytes == 0
    assert made.to_dict()["stored_pages"] == [0, 1, 2]
    with pytest.raises(DoesNotFitError, match=r"sectors for pages \d+,\d+\), and there are") as caught:
        generate_firmware(
            model, Board.load("microbit").with_limits(flash_bytes=20_480), Options(sectors=True)
        )
    assert caught.value.memory == "flash"
    large = Board.load("netduinoplus2").with_limits(flash_bytes=3 * 131_072)
    with pytest.raises(DoesNotFitError) as caught:
        generate_firmware(model, large, Options(sectors=True, empty=True))
    assert caught.value.hint == "this would fit: --pages host --empty"


def test_a_base_page_that_comes_is_in_no_file(model: Model) -> None:
    files = generate_firmware(model, "microbit", Options(empty=True)).project.files
    assert "model_page_0 = {" not in files["model_data.c"] and "model_room_0.page." in files["model.c"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda model: generate_firmware(model, "microbit", Options(empty=True), component=True), "pages cannot come"),
        (
            lambda model: generate_firmware(model, "microbit", Options(sectors=True, protocol=Protocol.NONE)),
            "pages cannot come",
        ),
        (lambda _: generate_firmware(network(), "microbit", Options(empty=True)), "not nested"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(make, message: str, model: Model) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UsageError, match=message):
        make(model)


# -------------------------------------------------------------------------------------------------------- boards


def made(model: Model, name: str, place: Path, **options: object) -> tuple[Firmware, Image]:
    require_emulator()
    firmware = generate_firmware(model, name, Options(**options))  # type: ignore[arg-type]
    firmware.write(place, force=True)
    return firmware, build(place, firmware.board)


@pytest.fixture(scope="module", params=BOARDS)
def firmware(request: pytest.FixtureRequest, model: Model) -> tuple[Path, Firmware, Image]:
    place = folder() / f"sectors-{request.param}"
    return place, *made(model, request.param, place, sectors=True, empty=True)


@pytest.fixture
def machine(firmware: tuple[Path, Firmware, Image]) -> Iterator[Emulator]:
    with Emulator(firmware[1].board, firmware[2]) as emulator:
        yield emulator


def sectors_of(machine: Emulator, page: int) -> bytes:
    """What lies in the flash of the emulated board."""
    symbol = machine.image.symbols[f"model_room_{page}"]
    return machine.memory(symbol.address, align_up(symbol.size, machine.board.flash_sector_bytes))


def outputs(model: Model, level: int) -> np.ndarray:
    return Interpreter(model=model, level=level).run(random_inputs(model, 2))  # type: ignore[no-any-return]


def test_linked_sectors_are_the_planned_ones(firmware: tuple[Path, Firmware, Image]) -> None:
    report = measure_size(firmware[0])
    assert report.sram_equal
    assert report.linked.sector_bytes == report.manifest["flash"]["sector_bytes"] > 0


def test_firmware_without_any_page_takes_them_and_keeps_them(
    machine: Emulator, model: Model, images: list[bytes]
) -> None:
    x = random_inputs(model, 2)
    with connect(machine.url, timeout=TIMEOUT_S) as board:
        info = board.info()
        assert (info.level, info.resident_pages) == (None, ())
        with pytest.raises(RefusedError, match="not resident"):
            board.switch(4)
        board.push(model, 4)
        assert np.array_equal(board.run(x), outputs(model, 4))
        assert board.push(model).pages == (1, 2)
        assert np.array_equal(board.run(x), outputs(model, 8))
    machine.reset()
    with connect(machine.url, timeout=TIMEOUT_S) as board:
        info = board.info()
        assert (info.level, info.resident_pages) == (8, (0, 1, 2))
        assert all(check.sound for check in board.verify(model))
        assert np.array_equal(board.run(x), outputs(model, 8))
        assert board.push(model).pages == ()
    for page, image in enumerate(images):
        lies = sectors_of(machine, page)
        assert lies[: len(image)] == image
        assert set(lies[len(image) :]) == {0xFF}


def test_power_that_goes_during_a_push_costs_one_sector(
    machine: Emulator, model: Model, tmp_path: Path
) -> None:
    """What the flash holds at any moment of a push is carried to a board that is switched on anew."""
    sector = machine.board.flash_sector_bytes
    rooms = [symbol for name, symbol in machine.image.symbols.items() if name.startswith("model_room_")]
    address = min(symbol.address for symbol in rooms)
    size = max(align_up(symbol.address + symbol.size, sector) for symbol in rooms) - address
    kept = []
    with connect(machine.url, timeout=TIMEOUT_S) as board:
        for step in board.push_steps(model):
            if step.kind is PushKind.DATA:
                kept.append((step, machine.memory(address, size)))
    x = random_inputs(model, 2)
    for step, content in (kept[len(kept) // 4], kept[-2]):
        path = tmp_path / "flash.bin"
        path.write_bytes(content)
        with (
            Emulator(machine.board, machine.image, blobs={address: path}) as again,
            connect(again.url, timeout=TIMEOUT_S) as board,
        ):
            there = sum(model.directory.pages[page].size for page in board.info().resident_pages)  # type: ignore[union-attr]
            state = board.state()
            assert state.transfer_offset % sector == 0
            assert there + state.transfer_offset >= step.done_bytes - sector
            report = board.push(model)
            assert (report.repeats, report.resumed_bytes) == (0, state.transfer_offset)
            assert np.array_equal(board.run(x), outputs(model, 8))


def test_a_board_whose_flash_cannot_be_written_says_so(model: Model, tmp_path: Path) -> None:
    """QEMU's Netduino Plus 2 has no flash controller."""
    firmware, image = made(model, "netduinoplus2", tmp_path / "firmware", sectors=True)
    with Emulator(firmware.board, image) as machine, connect(machine.url, timeout=TIMEOUT_S) as board:
        with pytest.raises(RefusedError, match="could not erase or program its flash"):
            board.push(model)
        x = random_inputs(model, 2)
        assert np.array_equal(board.run(x), outputs(model, 4))


def test_a_page_that_was_given_up_does_not_come_back(machine: Emulator, model: Model) -> None:
    with connect(machine.url, timeout=TIMEOUT_S) as board:
        board.push(model)
        board.switch(4)
        board.link.call(MessageType.PAGE_OUT, page=2)
        assert board.info().resident_pages == (0, 1)
    machine.reset()
    with connect(machine.url, timeout=TIMEOUT_S) as board:
        assert board.info().resident_pages == (0, 1)
        assert board.push(model).pages == (2,)
