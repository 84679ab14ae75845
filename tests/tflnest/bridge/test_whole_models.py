"""Boards that take any model over the line."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_sim.board import Board
from firmware_sim.virtual_board import VirtualBoard, loopback
from tests.models import nested, network
from tests.tflnest.bridge.conftest import Pair, Subject
from tflnest.bridge.description import describe, restore
from tflnest.bridge.messages import (
    WHOLE_MODEL,
    ErrorCode,
    MessageType,
    ModelBegin,
    PageData,
    PageEnd,
)
from tflnest.bridge.push import PushKind
from tflnest.bridge.remote import RemoteBoard
from tflnest.bridge.session import RefusedError
from tflnest.bridge.transport import FaultyTransport
from tflnest.container import page_image
from tflnest.errors import DeviceError, DoesNotFitError, FormatError
from tflnest.interpreter import Interpreter

BOARD = "mps2-an386"
FRAME_BYTES = 128


def any_board(**options: object) -> Pair:
    return loopback(None, Board.load(BOARD), frame_bytes=FRAME_BYTES, **options)  # type: ignore[arg-type]


def description(subject: Subject) -> bytes:
    assert subject.model.directory is not None
    return describe(subject.model, subject.model.directory)


# --------------------------------------------------------------------------------------------------- descriptions


def test_a_description_has_all_but_the_lower_bit_pages(subject: Subject) -> None:
    sent = description(subject)
    directory = subject.model.directory
    assert directory is not None
    lower = sum(segment.size for page in directory.pages[1:] for segment in page.segments)
    gaps = sum(len(page.segments) for page in directory.pages[1:])
    assert len(sent) % 8 == 0
    assert (
        len(subject.model.to_bytes()) - lower + 8 + 8 * gaps
        <= len(sent)
        <= 7 + len(subject.model.to_bytes()) - lower + 8 + 8 * gaps
    )
    made = restore(sent)
    assert made.directory == directory
    assert page_image(made.to_bytes(), directory.pages[0]) == subject.images[0]
    assert not any(page_image(made.to_bytes(), directory.pages[1]))


@given(st.data())
def test_whatever_is_sent_as_a_description_is_refused_or_sound(subject: Subject, data: st.DataObject) -> None:
    sent = bytearray(description(subject))
    if data.draw(st.booleans()):
        sent = sent[: data.draw(st.integers(0, len(sent) - 8))]
    else:
        position = data.draw(st.one_of(st.integers(0, 200), st.integers(0, len(sent) - 1)))
        sent[position] ^= data.draw(st.integers(1, 255))
    try:
        made = restore(bytes(sent))
    except FormatError:
        return
    assert made.directory is not None


def test_a_plain_model_is_no_description() -> None:
    content = network().to_bytes()
    sent = len(content).to_bytes(4, "little") + bytes(4) + content
    with pytest.raises(FormatError, match="not nested"):
        restore(sent + bytes(-len(sent) % 8))


# ---------------------------------------------------------------------------------------------------------- pushes


def test_a_board_without_a_model_takes_one(subject: Subject) -> None:
    virtual, line = any_board()
    with RemoteBoard(line) as board:
        info = board.info()
        assert (info.levels, info.level, info.pages) == ((), None, ())
        assert info.description_room == info.to_dict()["description_room_bytes"] > 100_000
        for action in (lambda: board.run(subject.inputs), board.page_out):
            with pytest.raises(DeviceError, match="the board has no model"):
                action()
        report = board.push(subject.model, 4)
        assert (report.model_bytes, report.pages, report.skipped_pages) == (
            len(description(subject)),
            (),
            (0,),
        )
        assert report.payload_bytes == report.model_bytes
        assert np.array_equal(board.run(subject.inputs), subject.outputs[4])
        assert board.push(subject.model).pages == (1, 2)
        assert np.array_equal(board.run(subject.inputs), subject.outputs[8])
        assert all(check.sound for check in board.verify(subject.model))
        assert board.push(subject.model).payload_bytes == 0
        assert board.page_out() == (2, 1)
        virtual.lose_power()
        board.link.hello()
        assert np.array_equal(board.run(subject.inputs), subject.outputs[4])


def test_another_model_takes_its_place(subject: Subject) -> None:
    other = nested(network())
    _, line = any_board()
    with RemoteBoard(line) as board:
        board.push(subject.model)
        kinds = {step.kind for step in board.push_steps(other)}
        assert PushKind.MODEL in kinds
        x = np.zeros((1, *other.graph.main.input_tensors()[0].shape[1:]), np.int8)
        assert np.array_equal(board.run(x), Interpreter(model=other, level=8).run(x))
        board.push(subject.model)
        assert np.array_equal(board.run(subject.inputs), subject.outputs[8])


def test_a_model_that_does_not_fit_changes_nothing(subject: Subject) -> None:
    small = Board.load("stm32vldiscovery").with_limits(sram_bytes=4_000)
    _, line = loopback(None, small, frame_bytes=128, window_bytes=128)
    with RemoteBoard(line) as board:
        board.push(subject.model, 4)
        with pytest.raises(DoesNotFitError, match=r"of memory are needed, and 4,000 are there"):
            board.push(nested(network()))
        assert np.array_equal(board.run(subject.inputs), subject.outputs[4])


def test_a_description_that_does_not_fit_is_refused_with_the_numbers(subject: Subject) -> None:
    tight = Board.load(BOARD).with_limits(flash_bytes=16_384 + 3 * 4096)
    _, line = loopback(None, tight, frame_bytes=128)
    with RemoteBoard(line) as board, pytest.raises(DoesNotFitError, match="4,088 are there"):
        board.push(nested(network()))


def test_a_board_made_for_one_model_refuses_others(subject: Subject) -> None:
    _, line = loopback(nested(network()), Board.load(BOARD))
    with RemoteBoard(line) as board:
        assert board.description_room() is None
        with pytest.raises(DeviceError, match="the board runs model"):
            board.push(subject.model)
        with pytest.raises(RefusedError, match="no page 254"):
            board.link.call(MessageType.PAGE_BEGIN, ModelBegin(bytes(32), 8).pack(), WHOLE_MODEL)


# ---------------------------------------------------------------------------------------------------------- faults


def cut(subject: Subject, action: Callable[[VirtualBoard], None], frames: int) -> bool:
    """Push whole models with something happening at a frame; whether it happened."""
    other = nested(network(5))
    virtual, line = any_board()
    with RemoteBoard(line) as board:
        board.push(subject.model, 4)
    left = [frames + 1]

    def pass_on(content: bytes) -> bytes:
        left[0] -= 1
        if left[0] == 0:
            action(virtual)
        return content

    with RemoteBoard(FaultyTransport(line, pass_on)) as board:
        try:
            board.push(other)
        except DeviceError as error:
            assert "anew" in error.message or "gone" in error.message
            left[0] = min(left[0], 0)
    with RemoteBoard(line) as board:
        if board.info().identity != other.directory.identity.hex():  # type: ignore[union-attr]
            assert np.array_equal(board.run(subject.inputs), subject.outputs[4])
        board.push(other)
        x = np.zeros((1, *other.graph.main.input_tensors()[0].shape[1:]), np.int8)
        assert np.array_equal(board.run(x), Interpreter(model=other, level=8).run(x))
    return left[0] <= 0


def unplug(_virtual: VirtualBoard) -> None:
    raise DeviceError("the line is gone")


@pytest.mark.parametrize("action", [VirtualBoard.reset, VirtualBoard.lose_power, unplug])
def test_a_model_may_be_cut_off_at_any_frame(
    subject: Subject, action: Callable[[VirtualBoard], None]
) -> None:
    for frames in range(1, 400, 9):
        if not cut(subject, action, frames):
            assert frames > 50
            return
    raise AssertionError("the push is longer than the sweep")


def test_a_model_goes_on_after_the_cable_was_unplugged(subject: Subject) -> None:
    _, line = any_board()
    sent = description(subject)
    with RemoteBoard(line) as board:
        steps = board.push_steps(subject.model)
        arrived = next(step for step in steps if step.kind is PushKind.DATA).done_bytes
    with RemoteBoard(line) as board:
        assert board.info().to_dict()["transfer"] == {"page": None, "offset": board.state().transfer_offset}
        report = board.push(subject.model, 4)
        assert report.payload_bytes <= len(sent) - arrived


def test_a_damaged_or_foreign_model_is_refused(subject: Subject) -> None:
    _, line = any_board()
    sent = description(subject)
    identity = subject.model.directory.identity  # type: ignore[union-attr]

    def send(content: bytes, wanted: bytes, crc32: int) -> int:
        board.link.call(MessageType.PAGE_BEGIN, ModelBegin(wanted, len(content)).pack(), WHOLE_MODEL)
        for _ in board.link.upload(MessageType.PAGE_DATA, content, 0, WHOLE_MODEL):
            pass
        with pytest.raises(RefusedError) as caught:
            board.link.call(MessageType.PAGE_END, PageEnd(len(content), crc32).pack(), WHOLE_MODEL)
        return caught.value.code

    with RemoteBoard(line) as board:
        assert send(sent, identity, 1) == ErrorCode.CRC
        damaged = sent[:-16] + bytes(8) + sent[-8:]
        assert send(damaged, identity, zlib.crc32(damaged)) in (ErrorCode.CRC, ErrorCode.ARGUMENT)
        assert send(sent, bytes(32), zlib.crc32(sent)) == ErrorCode.IDENTITY
        for kind, payload, code in (
            (MessageType.PAGE_DATA, PageData(0).pack() + bytes(8), ErrorCode.TRANSFER),
            (MessageType.PAGE_END, PageEnd(8, 0).pack(), ErrorCode.TRANSFER),
            (MessageType.VERIFY, b"", ErrorCode.PAGE),
            (MessageType.PAGE_BEGIN, bytes(32), ErrorCode.LENGTH),
            (MessageType.PAGE_BEGIN, ModelBegin(identity, 12).pack(), ErrorCode.SIZE),
            (MessageType.PAGE_BEGIN, ModelBegin(identity, 1 << 30).pack(), ErrorCode.SIZE),
        ):
            with pytest.raises(RefusedError) as caught:
                board.link.call(kind, payload, WHOLE_MODEL)
            assert caught.value.code == code
        assert board.info().levels == ()
