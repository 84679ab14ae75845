"""Firmware on emulated boards, over the serial protocol: what holds for the virtual board holds for them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from firmware_sim.board import Board
from firmware_sim.emulator import Emulator, find_firmware
from firmware_sim.firmware.generation import generate_firmware
from firmware_sim.firmware.plan import Options
from firmware_sim.pager import Placement
from firmware_sim.virtual_board import LineFaults
from tests.firmware_sim.monitor import folder, require_emulator
from tests.models import nested, network, random_inputs
from tflnest.bridge.link import RestartedError
from tflnest.bridge.push import PushKind
from tflnest.bridge.remote import RemoteBoard, connect
from tflnest.bridge.session import RefusedError
from tflnest.bridge.transport import FaultyTransport, SerialTransport
from tflnest.errors import DeviceError
from tflnest.interpreter import Interpreter
from tflnest.model import Model

BOARDS = ("stm32vldiscovery", "microbit", "netduinoplus2", "mps2-an386", "mps3-an547")
#: A loaded machine may keep an emulated board waiting.
TIMEOUT_S = 30.0


@cache
def subject() -> tuple[Model, NDArray[np.int8], dict[int, NDArray[np.int8]]]:
    """A model in levels 4, 6 and 8, samples, and the outputs at every level."""
    model = nested(network())
    x = random_inputs(model, 2)
    return model, x, {level: Interpreter(model=model, level=level).run(x) for level in (4, 6, 8)}  # type: ignore[misc]


@cache
def firmware(name: str) -> Path:
    """Firmware for a board, built once."""
    place = folder() / f"serial-{name}"
    generate_firmware(subject()[0], Board.load(name), Options(pages=Placement.HOST)).write(place)
    subprocess.run(["make", "-C", str(place)], check=True, capture_output=True)
    return find_firmware(place)


@pytest.fixture(params=BOARDS)
def machine(request: pytest.FixtureRequest) -> Iterator[Emulator]:
    require_emulator()
    with Emulator(Board.load(request.param), firmware(request.param)) as emulator:
        yield emulator


def test_levels_arrive_run_and_go(machine: Emulator) -> None:
    model, x, outputs = subject()
    with connect(machine.url, timeout=TIMEOUT_S) as board:
        info = board.info()
        assert (info.board, info.levels, info.level, info.resident_pages) == (
            machine.board.name,
            (4, 6, 8),
            4,
            (0,),
        )
        assert np.array_equal(board.run(x), outputs[4])
        free = info.state.free_sram
        for level in (6, 8):
            board.push(model, level)
            assert np.array_equal(board.run(x), outputs[level])
        assert np.array_equal(board.run(x, level=4), outputs[4])
        assert all(check.sound and check.resident for check in board.verify(model))
        assert board.state().free_sram == free - sum(page.size for page in info.pages[1:])
        assert board.page_out() == (2, 1)
        assert board.state().free_sram == free
        with pytest.raises(RefusedError, match="level 8 needs is not resident"):
            board.switch(8)
        assert np.array_equal(board.run(x), outputs[4])
        counts = board.statistics()
        assert counts.damaged_frames == counts.overruns == 0
        assert counts.stack_peak > 0


def test_operators_have_levels_of_their_own(machine: Emulator) -> None:
    model, x, _ = subject()
    reference = Interpreter(model=model, level=4)
    reference.set_level({next(iter(reference.get_levels())): 8})
    with connect(machine.url, timeout=TIMEOUT_S) as board:
        board.push(model)
        board.switch(4)
        board.switch(8, board.info().operators[0].operator)
        assert board.info().level is None
        assert np.array_equal(board.run(x), reference.run(x))


def test_the_reset_button_may_be_pressed_during_a_push(machine: Emulator) -> None:
    model, x, outputs = subject()
    with connect(machine.url, timeout=TIMEOUT_S) as board:
        pressed = False
        kinds = []
        for step in board.push_steps(model):
            kinds.append(step.kind)
            if step.kind is PushKind.DATA and not pressed:
                pressed = True
                machine.reset()
        assert PushKind.RESTARTED in kinds
        assert np.array_equal(board.run(x), outputs[8])


def test_a_bad_line_loses_nothing(machine: Emulator) -> None:
    model, x, outputs = subject()
    faults = LineFaults(drop=0.02, flip=0.02, duplicate=0.05, seed=8)
    line = FaultyTransport(SerialTransport(machine.url), faults.apply(), faults.apply())
    with RemoteBoard(line, timeout=TIMEOUT_S) as board:
        board.push(model)
        assert np.array_equal(board.run(x), outputs[8])
        assert all(check.sound for check in board.verify(model))


class Unplugged:
    """A line that is gone after so many frames."""

    def __init__(self, frames: int) -> None:
        self.frames = frames

    def __call__(self, content: bytes) -> bytes:
        self.frames -= 1
        if self.frames < 0:
            raise DeviceError("the line is gone")
        return content


def test_a_push_goes_on_after_the_cable_was_unplugged(machine: Emulator) -> None:
    model, x, outputs = subject()
    arrived = 0
    for frames in range(5, 40, 3):
        line = FaultyTransport(SerialTransport(machine.url), Unplugged(frames))
        try:
            with RemoteBoard(line, timeout=TIMEOUT_S) as board:
                board.push(model, 6)
                break
        except DeviceError:
            pass
        with connect(machine.url, timeout=TIMEOUT_S) as board:
            state = board.state()
            reached = max(state.transfer_offset, 840 if state.resident & 2 else 0)
            assert reached >= arrived
            arrived = reached
            assert np.array_equal(board.run(x), outputs[board.info().level or 0])
    assert arrived > 0
    with connect(machine.url, timeout=TIMEOUT_S) as board:
        board.push(model)
        assert np.array_equal(board.run(x), outputs[8])


def test_another_model_is_refused(machine: Emulator) -> None:
    with (
        connect(machine.url, timeout=TIMEOUT_S) as board,
        pytest.raises(DeviceError, match="the board runs model"),
    ):
        board.push(nested(network(5)))


def test_a_host_that_was_cut_off_by_a_reset_is_told(machine: Emulator) -> None:
    with connect(machine.url, timeout=TIMEOUT_S) as board:
        machine.reset()
        with pytest.raises(RestartedError):
            for _ in range(20):
                board.state()
        board.link.hello()
        assert board.info().level == 4


class Interrupt:
    """A line that lets something happen before a frame."""

    def __init__(self, action: Callable[[], None], frames: int) -> None:
        self.action = action
        self.frames = frames

    def __call__(self, content: bytes) -> bytes:
        self.frames -= 1
        if self.frames == -1:
            self.action()
        return content


@pytest.mark.slow
def test_the_reset_button_may_be_pressed_at_any_frame(machine: Emulator) -> None:
    model, x, outputs = subject()

    def push_and_run(board: RemoteBoard) -> bool:
        board.push(model)
        right = np.array_equal(board.run(x), outputs[8])
        return right and all(check.sound and check.resident for check in board.verify(model))

    for frames in range(1, 60):
        interrupt = Interrupt(machine.reset, frames)
        with RemoteBoard(
            FaultyTransport(SerialTransport(machine.url), interrupt), timeout=TIMEOUT_S
        ) as board:
            try:
                board.page_out()
                assert push_and_run(board)
            except RestartedError:  # before the push looked at the board, or after it
                board.link.hello()
                assert push_and_run(board)
        if interrupt.frames >= 0:
            assert frames > 15
            return
    raise AssertionError("the conversation is longer than the sweep")
