"""A bad line, resets and unplugged cables, at every frame of a conversation.

After each fault the board runs its last good level bit by bit, no damaged page was taken, and the transfer
goes on without what had arrived.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from firmware_sim.board import Board
from firmware_sim.virtual_board import LineFaults, VirtualBoard, parse_faults
from tests.tflnest.bridge.conftest import MakeBoard, Subject
from tflnest.bridge.frames import DELIMITER, FrameReader, Garbage
from tflnest.bridge.link import RestartedError
from tflnest.bridge.messages import Message, MessageType
from tflnest.bridge.remote import RemoteBoard
from tflnest.bridge.transport import FaultyTransport, LoopbackTransport
from tflnest.errors import DeviceError, UsageError

#: Small frames, so that every page takes several.
FRAME_BYTES = 96
#: Small sectors, so that every page takes several.
SECTOR_BYTES = 64
#: More frames than the conversation has in either direction, repeats included.
MOST_FRAMES = 400


@dataclass
class FaultAt:
    """Does something to one frame of a direction.

    Attributes:
        position: Which one, counted from 0.
        change: Its bytes to what arrives instead.
        hold: Whether it arrives only after the next two frames.
        count: Frames that passed.
    """

    position: int
    change: Callable[[bytes], bytes] = bytes
    hold: bool = False
    count: int = 0
    _held: bytes = b""
    _since: int = field(default=0)

    def __call__(self, content: bytes) -> bytes:
        return b"".join(self._pass(frame) for frame in _frames(content))

    @property
    def happened(self) -> bool:
        return self.count > self.position

    def _pass(self, frame: bytes) -> bytes:
        if frame == DELIMITER:
            return frame
        number, self.count = self.count, self.count + 1
        if number != self.position:
            if self._held and number == self.position + 2:
                frame, self._held = frame + self._held, b""
            return frame
        if self.hold:
            self._held = frame
            return b""
        return self.change(frame)


def _frames(content: bytes) -> Iterator[bytes]:
    parts = content.split(DELIMITER)
    for part in parts[:-1]:
        yield part + DELIMITER
    if parts[-1]:
        yield parts[-1]


def converse(board: RemoteBoard, subject: Subject) -> None:
    """Everything that a host does."""
    x = subject.inputs[:1]
    assert np.array_equal(board.run(x), subject.outputs[4][:1])
    board.push(subject.model)
    assert np.array_equal(board.run(x), subject.outputs[8][:1])
    board.switch(6)
    assert np.array_equal(board.run(x), subject.outputs[6][:1])
    assert all(check.sound and check.resident for check in board.verify(subject.model))
    assert board.page_out() == (2, 1)


def assert_sound(virtual: VirtualBoard, subject: Subject) -> None:
    """No page that is not bit by bit that of the file counts as resident."""
    for page, image in enumerate(subject.images):
        if virtual.model.resident() >> page & 1:
            assert virtual.model.page_image(page) == image


def sweep(
    make_board: MakeBoard, subject: Subject, fault: Callable[[int], FaultAt], outgoing: bool, step: int = 1
) -> int:
    """Hold the conversation with the fault at every frame; returns how often."""
    for position in range(0, MOST_FRAMES, step):
        virtual, line = make_board(FRAME_BYTES)
        one = fault(position)
        wire = FaultyTransport(line, one) if outgoing else FaultyTransport(line, incoming=one)
        converse(RemoteBoard(wire), subject)
        assert_sound(virtual, subject)
        if not one.happened:
            return position
    raise AssertionError("the conversation is longer than the sweep")


FAULTS: dict[str, Callable[[int], FaultAt]] = {
    "dropped": lambda position: FaultAt(position, lambda frame: b""),
    "duplicated": lambda position: FaultAt(position, lambda frame: frame * 2),
    "delayed": lambda position: FaultAt(position, hold=True),
    "truncated at its end": lambda position: FaultAt(position, lambda frame: frame[:-2] + DELIMITER),
    "truncated without an end": lambda position: FaultAt(position, lambda frame: frame[: len(frame) // 2]),
    "behind noise": lambda position: FaultAt(position, lambda frame: b"\x55\xaa" + frame),
    "after a noisy frame": lambda position: FaultAt(position, lambda frame: b"\x55\xaa\0" + frame),
}


@pytest.mark.parametrize("outgoing", [True, False], ids=["to the board", "from the board"])
@pytest.mark.parametrize("name", FAULTS)
def test_any_frame_may_be_spoiled(make_board: MakeBoard, subject: Subject, name: str, outgoing: bool) -> None:
    assert sweep(make_board, subject, FAULTS[name], outgoing) > 30


def flip(position: int, byte: int, bit: int) -> FaultAt:
    def change(frame: bytes) -> bytes:
        place = byte % len(frame)
        return frame[:place] + bytes([frame[place] ^ 1 << bit]) + frame[place + 1 :]

    return FaultAt(position, change)


@pytest.mark.parametrize("outgoing", [True, False], ids=["to the board", "from the board"])
@pytest.mark.parametrize("byte", [9])
def test_a_bit_may_flip_in_any_frame(
    make_board: MakeBoard, subject: Subject, byte: int, outgoing: bool
) -> None:
    sweep(make_board, subject, lambda position: flip(position, byte, position % 8), outgoing)


def every_flip(frame: bytes) -> Iterator[bytes]:
    """The frame with each of its bits flipped in turn, and an end where that took the end away."""
    for position in range(len(frame)):
        for bit in range(8):
            flipped = bytearray(frame)
            flipped[position] ^= 1 << bit
            yield bytes(flipped) + DELIMITER


def test_no_bit_of_any_frame_matters(make_board: MakeBoard, subject: Subject) -> None:
    """Before every frame of a conversation comes each of its single-bit neighbours: nothing happens."""
    virtual, line = make_board(FRAME_BYTES)
    tried = [0, 0]

    def state() -> tuple[object, ...]:
        model, transfer = virtual.model, virtual.transfer
        data = [bytes(tensor.data) for tensor in (*model.inputs, *model.outputs)]
        return model.resident(), model.level(), transfer.page, transfer.offset, transfer.crc32, data

    def outgoing(content: bytes) -> bytes:
        for frame in _frames(content):
            for flipped in every_flip(frame):
                before = state()
                line.write(flipped)
                assert state() == before
                tried[0] += 1
        answers = FrameReader(FRAME_BYTES).receive(line.read(0))
        assert {item.type for item in answers if isinstance(item, Message)} <= {MessageType.ERROR}
        return content

    def incoming(content: bytes) -> bytes:
        for frame in _frames(content):
            for flipped in every_flip(frame):
                assert all(isinstance(item, Garbage) for item in FrameReader(FRAME_BYTES).receive(flipped))
                tried[1] += 1
        return content

    line.read(0)
    converse(RemoteBoard(FaultyTransport(line, outgoing, incoming)), subject)
    assert min(tried) > 10_000
    assert_sound(virtual, subject)


class Unplugged:
    """A line that is gone after so many frames; a part of the last one still arrives."""

    def __init__(self, line: LoopbackTransport, frames: int) -> None:
        self.line = line
        self.frames = frames

    def __call__(self, content: bytes) -> bytes:
        self.frames -= 1
        if self.frames < 0:
            if self.frames == -1:
                self.line.write(content[: len(content) // 2])
            raise DeviceError("the line is gone")
        return content


def test_the_cable_may_be_unplugged_at_any_frame(make_board: MakeBoard, subject: Subject) -> None:
    total = sum(len(image) for image in subject.images[1:])
    finished = 0
    for frames in range(1, MOST_FRAMES):
        virtual, line = make_board(FRAME_BYTES)
        steps = []
        try:
            with RemoteBoard(FaultyTransport(line, Unplugged(line, frames))) as board:
                for step in board.push_steps(subject.model):
                    steps.append(step)
                finished += 1
        except DeviceError:
            pass
        arrived = sum(len(subject.images[page]) for page in (1, 2) if virtual.model.resident() >> page & 1)
        arrived += virtual.transfer.offset
        with RemoteBoard(line) as board:
            level = board.info().level
            assert level is not None
            assert np.array_equal(board.run(subject.inputs), subject.outputs[level])
            report = board.push(subject.model)
            assert report.payload_bytes == total - arrived
            assert np.array_equal(board.run(subject.inputs), subject.outputs[8])
        assert_sound(virtual, subject)
        if finished:
            assert frames > 10
            return
    raise AssertionError("the push is longer than the sweep")


class Interrupt:
    """A line that lets something happen at a frame."""

    def __init__(self, action: Callable[[], None], frames: int) -> None:
        self.action = action
        self.frames = frames

    def __call__(self, content: bytes) -> bytes:
        self.frames -= 1
        if self.frames == -1:
            self.action()
        return content


@pytest.mark.parametrize("kind", ["reset", "power"])
def test_the_board_may_start_anew_at_any_frame(make_board: MakeBoard, subject: Subject, kind: str) -> None:
    total = sum(len(image) for image in subject.images[1:])
    for frames in range(MOST_FRAMES):
        virtual, line = make_board(FRAME_BYTES)
        # Not the hello: without it there is no push.
        interrupt = Interrupt(virtual.reset if kind == "reset" else virtual.lose_power, frames + 1)
        with RemoteBoard(FaultyTransport(line, interrupt)) as board:
            try:
                report = board.push(subject.model)
                given = board.run(subject.inputs)
            except RestartedError:  # before the push looked at the board, or after it
                board.link.hello()
                report = board.push(subject.model)
                given = board.run(subject.inputs)
            assert np.array_equal(given, subject.outputs[8])
        if kind == "reset":
            assert report.payload_bytes <= total + FRAME_BYTES
        assert_sound(virtual, subject)
        if interrupt.frames >= 0:
            assert frames > 20
            return
    raise AssertionError("the push is longer than the sweep")


@pytest.mark.parametrize(("placement", "empty"), [("flash", False), ("host", True)])
def test_power_may_go_at_any_frame_of_a_page_for_flash(
    make_board: MakeBoard, subject: Subject, placement: str, empty: bool
) -> None:
    """What lies in complete sectors is not sent again, no page counts that was cut off."""
    board = replace(Board.load("nrf52840"), flash_sector_bytes=SECTOR_BYTES)
    sizes = [len(image) for image in subject.images]
    for frames in range(MOST_FRAMES):
        virtual, line = make_board(FRAME_BYTES, board, placement=placement, empty=empty, sectors=True)
        resumed = []

        def cut(virtual: VirtualBoard = virtual, resumed: list[int] = resumed) -> None:
            page, arrived = virtual.transfer.page, virtual.transfer.offset
            virtual.lose_power()
            assert_sound(virtual, subject)
            is_there = page < len(sizes) and virtual.model.resident() >> page & 1  # its end alone was missing
            if page == (0 if empty else 1) and arrived and not is_there:
                resumed.append(arrived - virtual.transfer.offset)

        interrupt = Interrupt(cut, frames + 1)
        with RemoteBoard(FaultyTransport(line, interrupt)) as remote:
            try:
                report = remote.push(subject.model)
                given = remote.run(subject.inputs)
            except RestartedError:  # before the push looked at the board, or after it
                remote.link.hello()
                report = remote.push(subject.model)
                given = remote.run(subject.inputs)
            assert np.array_equal(given, subject.outputs[8])
        assert all(0 <= lost <= SECTOR_BYTES for lost in resumed)
        if not empty:
            assert report.payload_bytes <= sum(sizes[1:]) + SECTOR_BYTES + FRAME_BYTES
        assert_sound(virtual, subject)
        if interrupt.frames >= 0:
            assert frames > 20
            return
    raise AssertionError("the push is longer than the sweep")


def test_two_hosts_at_once_give_no_wrong_outputs(make_board: MakeBoard, subject: Subject) -> None:
    virtual, line = make_board(FRAME_BYTES)
    first, second = RemoteBoard(line), RemoteBoard(line)
    wins = 0
    for turn in range(12):
        host, other = (first, second) if turn % 2 else (second, first)
        try:
            host.link.hello()
            steps = host.push_steps(subject.model, 6)
            next(steps)
            if turn % 3 == 0:
                other.link.hello()
            list(steps)
            assert np.array_equal(host.run(subject.inputs, level=6), subject.outputs[6])
            host.page_out()
            wins += 1
        except DeviceError as error:
            assert "session" in error.message
    assert wins == 8
    assert_sound(virtual, subject)


@pytest.mark.parametrize(
    "faults", ["drop=0.03", "flip=0.03", "duplicate=0.1", "drop=0.02,flip=0.02,duplicate=0.02"]
)
def test_a_line_that_is_bad_all_the_time(make_board: MakeBoard, subject: Subject, faults: str) -> None:
    for seed in range(10):
        virtual, line = make_board(FRAME_BYTES)
        kind = parse_faults(f"{faults},seed={seed}")
        with RemoteBoard(FaultyTransport(line, kind.apply(), kind.apply())) as board:
            converse(board, subject)
        assert_sound(virtual, subject)


def test_faults_are_read_and_checked() -> None:
    assert parse_faults("drop=0.25,seed=3") == LineFaults(drop=0.25, seed=3)
    assert parse_faults("") == LineFaults()
    for text in ("drop", "lose=1", "drop=x"):
        with pytest.raises(UsageError, match="is no fault of a line"):
            parse_faults(text)
    with pytest.raises(UsageError, match="expected 0 to 1"):
        parse_faults("flip=2")
