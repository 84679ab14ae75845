"""Traces: every byte on the line with its time, in a text file that can be played again.

A line of a trace is `SECONDS DIRECTION HEX`, with `>` for what the host sent and `<` for what it received.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from tflnest.bridge.transport import Transport
from tflnest.errors import FormatError, TflnestError
from tflnest.files import check_writable, read_file

_MARKS = {True: ">", False: "<"}


class Trace(Protocol):
    """Is told of all bytes on a line."""

    def record(self, seconds: float, outgoing: bool, content: bytes) -> None:
        """Bytes passed."""
        ...

    def close(self) -> None:
        """Nothing more passes."""
        ...


class NoTrace:
    """Records nothing."""

    def record(self, seconds: float, outgoing: bool, content: bytes) -> None:
        """See `Trace`."""

    def close(self) -> None:
        """See `Trace`."""


class FileTrace:
    """Writes a trace to a file, line by line, so that it is there also where the program ends early.

    A disk that runs full does not stop the conversation with the board: the trace ends there, and `close`
    says so.

    Args:
        path: The file; must not exist.

    Raises:
        UsageError: It exists, or cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        check_writable(path)
        self.path = Path(path)
        self._error: OSError | None = None
        self._start: float | None = None
        self._stream: IO[str] | None = None

    def record(self, seconds: float, outgoing: bool, content: bytes) -> None:
        """See `Trace`."""
        if self._error is not None:
            return
        if self._start is None:
            self._start = seconds
        try:
            if self._stream is None:
                self._stream = self.path.open("x", encoding="ascii", buffering=1)
            self._stream.write(f"{seconds - self._start:.6f} {_MARKS[outgoing]} {content.hex()}\n")
        except OSError as error:
            self._error = error

    def close(self) -> None:
        """End the file.

        Raises:
            TflnestError: It could not be written in full.
        """
        try:
            if self._stream is not None:
                self._stream.close()
        except OSError as error:
            self._error = self._error or error
        if self._error is not None:
            raise TflnestError(
                f"{self.path}: the trace is not complete: {self._error.strerror or self._error}",
                "everything else was done; free some space where a trace is wanted",
            )


def read_trace(path: str | Path) -> list[tuple[float, bool, bytes]]:
    """Read a trace.

    Returns:
        Seconds, whether the host sent it, and the bytes, in order.

    Raises:
        FormatError: It is no trace; the message has the line.
    """
    rows = []
    for number, line in enumerate(read_file(path).decode("ascii", "replace").splitlines(), 1):
        try:
            seconds, mark, content = line.split(" ")
            rows.append((float(seconds), {">": True, "<": False}[mark], bytes.fromhex(content)))
        except (ValueError, KeyError):
            raise FormatError(f"{path}: line {number} is no line of a trace: {line[:60]!r}") from None
    return rows


@dataclass(frozen=True)
class Replay:
    """What became of a trace that was played again.

    Attributes:
        sent_bytes: Bytes that the host sends in it.
        expected_bytes: Bytes that the board sends in it.
        received_bytes: Bytes that the board sent this time.
        identical: Whether they are the same.
    """

    sent_bytes: int
    expected_bytes: int
    received_bytes: int
    identical: bool


def replay(rows: Sequence[tuple[float, bool, bytes]], transport: Transport, timeout: float = 5.0) -> Replay:
    """Send again what the host sends in a trace, up to the first answer that is another one.

    Args:
        rows: Of `read_trace`.
        transport: Leads to a board in the state in which the one of the trace was.
        timeout: Seconds to wait for bytes that are due.
    """
    sent = expected = received = b""
    for _, outgoing, content in rows:
        if outgoing:
            transport.write(content)
            sent += content
            continue
        expected += content
        deadline = transport.now() + timeout
        while len(received) < len(expected) and transport.now() < deadline:
            received += transport.read(deadline - transport.now())
        if not expected.startswith(received) or len(received) < len(expected):
            break
    return Replay(len(sent), len(expected), len(received), expected == received)
