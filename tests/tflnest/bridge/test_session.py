from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.shared import ROOT
from tflnest.bridge import frames
from tflnest.bridge.messages import SENTENCES, ErrorCode, ErrorReply, Message, MessageType
from tflnest.bridge.session import Kind, RefusedError, Session, Upload
from tflnest.errors import DeviceError, ExitCode

FRAME = 100


def _send_all(upload: Upload, sequence: int) -> list[tuple[int, int, int]]:
    sent = []
    while (portion := upload.next_portion(FRAME)) is not None:
        upload.sent(sequence, *portion, FRAME)
        sent.append((sequence, *portion))
        sequence += 1
    return sent


def test_requests_are_numbered_and_wrap() -> None:
    session = Session(5, 0xFFFF)
    assert [session.request(MessageType.HELLO).sequence for _ in range(3)] == [0xFFFF, 0, 1]


def test_what_comes_is_told_apart() -> None:
    session = Session(5)
    error = ErrorReply(ErrorCode.FRAME, 0).pack()
    messages = [
        Message(MessageType.READ, b"x", reply=True, session=5),
        Message(MessageType.READ, b"x", session=5),
        Message(MessageType.READ, b"x", reply=True, session=6),
        Message(MessageType.HELLO, b"x", reply=True, session=0),
        Message(MessageType.ERROR, error, reply=True, session=5),
    ]
    wire = b"".join(frames.encode(message) for message in messages) + b"noise\0"
    kinds = [arrival.kind for arrival in session.receive(wire)]
    assert kinds == [Kind.REPLY, Kind.ECHO, Kind.FOREIGN, Kind.STARTED, Kind.DAMAGED, Kind.GARBAGE]


@pytest.mark.parametrize("code", ErrorCode)
def test_errors_speak_in_sentences(code: ErrorCode) -> None:
    error = RefusedError(ErrorReply(code, 1, 0, 4096, 16))
    assert str(code.value) in error.message and "{" not in error.message
    assert error.message.startswith(SENTENCES[code][:10].split("{")[0])


def test_unknown_errors_keep_their_number() -> None:
    assert "(error 200)" in RefusedError(ErrorReply(200)).message


def test_errors_have_exit_codes() -> None:
    codes = {code: RefusedError(ErrorReply(code)).exit_code for code in ErrorCode}
    assert codes[ErrorCode.SIZE] == ExitCode.DOES_NOT_FIT
    assert codes[ErrorCode.CRC] == ExitCode.VERIFICATION
    assert codes[ErrorCode.SESSION] == ExitCode.DEVICE


def test_the_window_is_filled_and_not_more() -> None:
    upload = Upload(1000, 0, 96, 3 * FRAME + 50)
    assert _send_all(upload, 0) == [(0, 0, 96), (1, 96, 96), (2, 192, 96)]
    upload.answered(0, 96)
    assert _send_all(upload, 3) == [(3, 288, 96)]


def test_one_portion_always_may_fly() -> None:
    upload = Upload(1000, 0, 96, 10)
    assert len(_send_all(upload, 0)) == 1


def test_an_answer_speaks_for_those_before() -> None:
    upload = Upload(192, 0, 96, 1000)
    _send_all(upload, 0)
    upload.answered(1, 192)
    assert upload.done and not upload.waiting and not upload.awaits(0)


def test_a_gap_makes_it_go_back_once() -> None:
    upload = Upload(960, 0, 96, 4 * FRAME)
    _send_all(upload, 0)
    upload.answered(0, 96)  # portion 1 gets lost
    upload.answered(2, 96)
    assert upload.repeats == 1
    # portion 3 is still on its way and takes its room
    assert _send_all(upload, 4) == [(4, 96, 96), (5, 192, 96), (6, 288, 96)]
    upload.answered(3, 96)
    assert upload.repeats == 1
    assert _send_all(upload, 7) == [(7, 384, 96)]


def test_a_damaged_frame_is_the_one_that_is_due() -> None:
    upload = Upload(960, 0, 96, 2 * FRAME)
    _send_all(upload, 0)
    upload.damaged()
    assert _send_all(upload, 2) == [(2, 0, 96)]


def test_silence_forgets_what_flew() -> None:
    upload = Upload(960, 96, 96, 2 * FRAME)
    _send_all(upload, 0)
    upload.silent()
    assert _send_all(upload, 2)[0] == (2, 96, 96)


def test_the_board_may_be_further_than_expected() -> None:
    upload = Upload(960, 0, 96, FRAME)
    _send_all(upload, 0)
    upload.answered(0, 480)
    assert _send_all(upload, 1) == [(1, 480, 96)]


def test_an_offset_behind_the_end_is_refused() -> None:
    upload = Upload(96, 0, 96, FRAME)
    _send_all(upload, 0)
    with pytest.raises(DeviceError, match="offset 97 of 96"):
        upload.answered(0, 97)


@given(st.lists(st.sampled_from(["take", "lose", "damage", "mute"]), max_size=60), st.integers(1, 5))
def test_every_upload_ends_whatever_gets_lost(faults: list[str], window: int) -> None:
    upload = Upload(1001, 0, 96, window * FRAME)
    have, sequence, flying, steps = 0, 0, [], 0
    while not upload.done:
        steps += 1
        assert steps < 500
        sent = _send_all(upload, sequence)
        sequence += len(sent)
        flying += sent
        if not flying:
            upload.silent()
            continue
        number, offset, count = flying.pop(0)
        fault = faults.pop() if faults else "take"
        if fault in ("take", "mute") and offset == have:
            have += count
        if fault == "take" and upload.awaits(number):
            upload.answered(number, have)
        elif fault == "damage":
            upload.damaged()
    assert have == 1001


@pytest.mark.parametrize("name", ["messages", "frames", "session", "device"])
def test_the_core_reads_no_port_and_no_clock(name: str) -> None:
    path = ROOT / "tflnest" / "bridge" / f"{name}.py"
    used = {
        module.split(".")[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        for module in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert not used & {"serial", "socket", "select", "os", "time", "threading", "random"}
    assert "tflnest.bridge.transport" not in path.read_text(encoding="utf-8")
