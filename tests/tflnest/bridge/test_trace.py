from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.tflnest.bridge.conftest import MakeBoard, Subject
from tflnest.bridge.remote import RemoteBoard
from tflnest.bridge.trace import FileTrace, read_trace, replay
from tflnest.errors import ExitCode, FormatError, TflnestError, UsageError


def test_a_trace_has_all_bytes_in_order(make_board: MakeBoard, subject: Subject, tmp_path: Path) -> None:
    _, line = make_board(128)
    path = tmp_path / "push.trace"
    with RemoteBoard(line, trace=FileTrace(path)) as board:
        board.push(subject.model)
        sent, received = board.link.sent_bytes, board.link.received_bytes
    rows = read_trace(path)
    assert sum(len(content) for _, outgoing, content in rows if outgoing) == sent
    assert sum(len(content) for _, outgoing, content in rows if not outgoing) == received
    times = [seconds for seconds, _, _ in rows]
    assert times == sorted(times) and times[0] == 0


def test_a_trace_can_be_played_again(make_board: MakeBoard, subject: Subject, tmp_path: Path) -> None:
    _, line = make_board(128)
    with RemoteBoard(line, trace=FileTrace(tmp_path / "a.trace")) as board:
        board.push(subject.model)
        board.run(subject.inputs)
    rows = read_trace(tmp_path / "a.trace")
    virtual, fresh = make_board(128)
    result = replay(rows, fresh)
    assert result.identical and result.received_bytes == result.expected_bytes > 100
    assert virtual.model.resident() == 7
    again = replay(rows, fresh)  # the pages are there now, so that other answers come
    assert not again.identical


def test_a_trace_does_not_overwrite(tmp_path: Path) -> None:
    path = tmp_path / "old.trace"
    path.write_text("precious")
    with pytest.raises(UsageError, match="exists already"):
        FileTrace(path)
    assert path.read_text() == "precious"


def test_a_full_disk_ends_the_trace_and_nothing_else(
    make_board: MakeBoard, subject: Subject, tmp_path: Path
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    virtual, line = make_board()
    trace = FileTrace(tmp_path / "full.trace")
    trace._stream = Path("/dev/full").open("w", buffering=1)  # noqa: SIM115
    board = RemoteBoard(line, trace=trace)
    board.push(subject.model)
    assert np.array_equal(board.run(subject.inputs), subject.outputs[8])
    with pytest.raises(TflnestError, match="trace is not complete: No space left") as caught:
        board.close()
    assert caught.value.exit_code == ExitCode.FAILED
    assert virtual.model.resident() == 7


@pytest.mark.parametrize("text", ["0.1 > zz", "x > 00", "0.1 ! 00", "0.1 >", "nothing"])
def test_what_is_no_trace_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.trace"
    path.write_text(f"0.0 > 00\n{text}\n")
    with pytest.raises(FormatError, match="line 2 is no line of a trace"):
        read_trace(path)
