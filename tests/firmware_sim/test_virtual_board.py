"""A virtual board where other programs reach it: pseudo-terminals, TCP ports, slow and bad lines."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from firmware_sim.board import Board
from firmware_sim.pager import Placement
from firmware_sim.virtual_board import LineFaults, VirtualBoard, VirtualPort
from firmware_sim.virtual_model import VirtualModel
from tests.models import nested, network, random_inputs
from tflnest.bridge.device import Status
from tflnest.bridge.messages import Place
from tflnest.bridge.remote import RemoteBoard, connect
from tflnest.errors import DeviceError, DoesNotFitError, UsageError
from tflnest.interpreter import Interpreter
from tflnest.model import Model

BOARD = "nrf52840"


@pytest.fixture(scope="module")
def model() -> Model:
    return nested(network())


@pytest.fixture(params=["pty", "tcp"])
def port(request: pytest.FixtureRequest, model: Model) -> Iterator[VirtualPort]:
    if request.param == "pty" and os.name != "posix":
        pytest.skip("no pseudo-terminals")
    virtual = VirtualBoard(model, Board.load(BOARD))
    with VirtualPort(virtual, tcp_port=0 if request.param == "tcp" else None) as served:
        yield served


def test_a_board_can_be_used_through_a_port(port: VirtualPort, model: Model) -> None:
    x = random_inputs(model, 2)
    with connect(port.url) as board:
        assert isinstance(board, RemoteBoard) and board.name == port.url
        board.push(model)
        assert np.array_equal(board.run(x), Interpreter(model=model, level=8).run(x))


def test_a_host_can_come_again(port: VirtualPort, model: Model) -> None:
    with connect(port.url) as board:
        steps = board.push_steps(model)
        next(steps)
        next(steps)
    with connect(port.url) as board:
        board.push(model)
        assert board.info().level == 8


def test_nobody_listening_does_not_stop_the_board(port: VirtualPort) -> None:
    port.virtual.reset()
    with connect(port.url) as board:
        assert board.info().board == BOARD


def test_a_line_is_as_slow_as_it_says(model: Model) -> None:
    virtual = VirtualBoard(model, Board.load(BOARD), frame_bytes=256)
    with VirtualPort(virtual, tcp_port=0, baud=115_200) as port, connect(port.url) as board:
        start = time.monotonic()
        report = board.push(model)
        elapsed = time.monotonic() - start
    # No faster than the line; how much slower is the machine's affair.
    assert elapsed >= 0.9 * report.wire_bytes * 10 / 115_200


def test_a_bad_line_loses_nothing(model: Model) -> None:
    faults = LineFaults(drop=0.02, flip=0.02, duplicate=0.05, seed=5)
    virtual = VirtualBoard(model, Board.load(BOARD), frame_bytes=128)
    x = random_inputs(model, 2)
    port = VirtualPort(virtual, tcp_port=0, incoming=faults, outgoing=faults)
    with port, connect(port.url, timeout=30) as board:
        board.push(model)
        assert np.array_equal(board.run(x), Interpreter(model=model, level=8).run(x))


def test_a_tcp_port_that_is_taken_is_reported(port: VirtualPort, model: Model) -> None:
    if not port.url.startswith("socket"):
        return
    taken = int(port.url.rsplit(":", 1)[1])
    with pytest.raises(DeviceError, match=f"TCP port {taken} cannot be opened"):
        VirtualPort(VirtualBoard(model, Board.load(BOARD)), tcp_port=taken)


def test_serving_can_end_by_itself(model: Model) -> None:
    port = VirtualPort(VirtualBoard(model, Board.load(BOARD)), tcp_port=0)
    serving = threading.Thread(target=port.serve, args=(0.05,), daemon=True)
    serving.start()
    serving.join(30.0)
    assert not serving.is_alive()
    port.close()


# -------------------------------------------------------------------------------------------- the memories


def test_every_byte_of_sram_is_accounted_for(model: Model) -> None:
    board = Board.load(BOARD)
    virtual = VirtualModel(model, board, port_bytes=3000)
    assert virtual.sram.used_bytes >= board.stack_bytes + 3000 + virtual._arena_bytes
    assert virtual.free_sram() == board.sram_bytes - virtual.sram.used_bytes
    assert virtual.page_begin(1, 0) == Status.OK
    assert virtual.free_sram() == board.sram_bytes - virtual.sram.used_bytes


def test_a_board_that_is_too_small_is_refused(model: Model) -> None:
    with pytest.raises(DoesNotFitError, match="SRAM: tensor arena needs"):
        VirtualBoard(model, Board.load(BOARD).with_limits(sram_bytes=8000))
    with pytest.raises(DoesNotFitError, match="bytes of flash"):
        VirtualBoard(model, Board.load(BOARD).with_limits(flash_bytes=18_000))


def test_a_model_without_pages_is_refused() -> None:
    with pytest.raises(UsageError, match="not nested"):
        VirtualBoard(network(), Board.load(BOARD))


@pytest.mark.parametrize("placement", [Placement.FLASH, Placement.SRAM, Placement.HOST])
def test_pages_are_written_in_order_and_checked(model: Model, placement: Placement) -> None:
    virtual = VirtualModel(model, Board.load(BOARD), placement, empty=True)
    assert (virtual.resident(), virtual.level()) == (0, 0)
    assert virtual.invoke() == Status.ERROR_RESIDENT
    assert virtual.set_level(4) == Status.ERROR_RESIDENT
    size = virtual.pages[1].size
    assert virtual.page_write(1, 0, bytes(8)) == Status.ERROR_ARGUMENT
    assert virtual.page_begin(1, 0) == Status.OK
    assert virtual.page_write(1, 8, bytes(8)) == Status.ERROR_ARGUMENT
    assert virtual.page_write(1, 0, bytes(size)) == Status.OK
    assert virtual.page_end(1, 5) == Status.ERROR_CRC
    assert virtual.page_end(1, virtual.pages[1].crc32) == Status.ERROR_SIZE
    assert virtual.resident() == 0


def test_flash_is_erased_before_it_is_programmed_again(model: Model) -> None:
    board = Board.load(BOARD)
    virtual = VirtualModel(model, board, Placement.FLASH, empty=True)
    for times in range(3):
        assert virtual.page_begin(1, 0) == Status.OK
        assert (
            virtual.flash.erased_bytes == times * board.flash_sector_bytes
        )  # not where it is erased already
        assert virtual.page_write(1, 0, bytes(virtual.pages[1].size)) == Status.OK


@pytest.mark.parametrize(
    ("placement", "options", "resident", "places"),
    [
        ("flash", {}, 7, [Place.FLASH, Place.FLASH, Place.FLASH]),
        ("flash", {"empty": True}, 0, [Place.FLASH, Place.FLASH, Place.FLASH]),
        ("flash", {"sectors": True}, 1, [Place.FLASH, Place.FLASH, Place.FLASH]),
        ("sram", {"empty": True}, 0, [Place.SRAM, Place.SRAM, Place.SRAM]),
        ("sram", {}, 1, [Place.FLASH, Place.SRAM, Place.SRAM]),
        ("host", {"empty": True}, 0, [Place.FLASH, Place.HOST, Place.HOST]),
    ],
)
def test_pages_rest_where_they_should(
    model: Model, placement: str, options: dict[str, bool], resident: int, places: list[Place]
) -> None:
    virtual = VirtualModel(model, Board.load(BOARD), placement, **options)
    assert [page.place for page in virtual.pages] == places
    assert virtual.resident() == resident
