from __future__ import annotations

import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from firmware_sim.board import Board
from firmware_sim.virtual_board import VirtualBoard, VirtualPort
from tests.tflnest.bridge.conftest import Subject
from tflnest.bridge import ports
from tflnest.bridge.ports import Port, find_board, list_ports
from tflnest.bridge.remote import open_transport
from tflnest.errors import DeviceError, MissingExtraError

BAUD = 115_200


@pytest.fixture
def served(subject: Subject) -> Iterator[list[Port]]:
    """Two virtual boards, and a port that is not a board's."""
    virtual = [VirtualBoard(subject.model, Board.load("nrf52840")) for _ in range(2)]
    with VirtualPort(virtual[0], tcp_port=0) as first, VirtualPort(virtual[1], tcp_port=0) as second:
        yield [
            Port(first.url, "first", 0x0D28),
            Port(second.url, "second", 0x0483),
            Port("socket://127.0.0.1:1", "nothing", 0x0403),
        ]


def test_auto_takes_the_only_board_that_answers(served: list[Port]) -> None:
    assert find_board(BAUD, [served[0], served[2]]) == served[0].url


def test_auto_does_not_choose_between_two(served: list[Port]) -> None:
    with pytest.raises(DeviceError, match="2 boards answer") as caught:
        find_board(BAUD, served)
    assert "--port" in (caught.value.hint or "")


def test_auto_says_what_it_tried(served: list[Port]) -> None:
    with pytest.raises(DeviceError, match=r"no board answers; tried were socket://127\.0\.0\.1:1"):
        find_board(BAUD, served[2:])


def test_auto_leaves_unknown_devices_alone(served: list[Port], monkeypatch: pytest.MonkeyPatch) -> None:
    modem = Port(served[0].url, "a modem", 0x1234)
    monkeypatch.setattr(ports, "list_ports", lambda: [modem])
    with pytest.raises(DeviceError, match="no port is of a known board"):
        open_transport("auto")


def test_ports_are_listed_with_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    from serial.tools import list_ports as tools

    found = [
        SimpleNamespace(device="/dev/ttyS1", description=None, vid=None, pid=None, serial_number=None),
        SimpleNamespace(
            device="/dev/ttyACM0", description="ST-Link", vid=0x0483, pid=0x374B, serial_number="7"
        ),
    ]
    monkeypatch.setattr(tools, "comports", lambda: found)
    board, line = list_ports()
    assert (board.url, board.vendor, board.serial_number) == ("/dev/ttyACM0", "STMicroelectronics", "7")
    assert (line.url, line.vendor, line.description) == ("/dev/ttyS1", "", "")


@pytest.mark.parametrize("action", [lambda: list_ports(), lambda: open_transport("/dev/ttyS0")])
def test_the_missing_extra_is_named(action: object, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "serial"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "serial", None)
    with pytest.raises(MissingExtraError, match="is not installed") as caught:
        action()  # type: ignore[operator]
    assert caught.value.hint == 'install it with: pip install "tflnest[serial]"'
