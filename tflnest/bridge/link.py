"""Moves the bytes of a session over a transport: waits, repeats what got lost, gives up in time."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import TypeVar

from tflnest.bridge.frames import DELIMITER
from tflnest.bridge.messages import (
    CRC_BYTES,
    FRAME_OVERHEAD_BYTES,
    HEADER_BYTES,
    MAX_FRAME_BYTES,
    MIN_FRAME_BYTES,
    PROTOCOL_VERSION,
    ROWS,
    ErrorCode,
    HelloReply,
    InputData,
    Layout,
    Message,
    MessageType,
    OffsetReply,
    PageData,
    Read,
    ReadReply,
    Table,
    version_text,
)
from tflnest.bridge.session import DATA_ALIGNMENT, Arrival, Kind, RefusedError, Session, Upload
from tflnest.bridge.trace import NoTrace, Trace
from tflnest.bridge.transport import Transport
from tflnest.errors import DeviceError, FormatError

#: Seconds without an answer after which a board is given up.
TIMEOUT_S = 5.0
#: Seconds without an answer after which a request is said again; doubles every time, up to `LONGEST_PAUSE_S`.
PAUSE_S = 0.5
LONGEST_PAUSE_S = 8.0
#: Seconds without an answer during an upload after which it goes back.
UPLOAD_PAUSE_S = 1.0
#: Times that an upload goes back, or a request is said again, without any progress.
MAX_REPEATS = 100
#: Largest table that is read from a board.
MAX_TABLE_BYTES = 1 << 20

Row = TypeVar("Row", bound=Layout)


class RestartedError(DeviceError):
    """The board was started anew while it was talked to."""


class Link:
    """Talks to a board.

    Args:
        transport: Carries the bytes.
        timeout: Seconds without an answer after which the board is given up.
        trace: Is told of all bytes.
        number: Of the session; None for a random one.
    """

    def __init__(
        self,
        transport: Transport,
        timeout: float = TIMEOUT_S,
        trace: Trace | None = None,
        number: int | None = None,
    ) -> None:
        self.transport = transport
        self.timeout = timeout
        self.sent_bytes = 0
        self.received_bytes = 0
        self.repeats = 0
        self._trace = trace if trace is not None else NoTrace()
        self._random = random.Random(number)
        self._session = self._new_session()
        self._hello = HelloReply(frame_bytes=MIN_FRAME_BYTES, window_bytes=MIN_FRAME_BYTES)

    def _new_session(self) -> Session:
        return Session(self._random.randrange(1, 0x10000), self._random.randrange(0x10000))

    @property
    def hello_reply(self) -> HelloReply:
        """What the board said first."""
        return self._hello

    @property
    def portion_bytes(self) -> int:
        """Most bytes of data in one frame."""
        room = self._hello.frame_bytes - FRAME_OVERHEAD_BYTES - PageData.structure().size
        return room // DATA_ALIGNMENT * DATA_ALIGNMENT

    def close(self) -> None:
        """Free the line and end the trace."""
        self.transport.close()
        self._trace.close()

    # ------------------------------------------------------------------------------------------ hello

    def hello(self) -> HelloReply:
        """Begin a session; takes the board away from any other host.

        Raises:
            DeviceError: Nothing answers, something else does, or the board speaks another version.
        """
        self._session = self._new_session()
        request = self._session.request(MessageType.HELLO)
        start = self.transport.now()
        pause, heard = PAUSE_S, _Heard()
        while self.transport.now() - start < self.timeout:
            self._write(DELIMITER + self._session.encode(request))
            deadline = min(self.transport.now() + pause, start + self.timeout)
            pause = min(2 * pause, LONGEST_PAUSE_S)
            while self.transport.now() < deadline:
                for arrival in self._read(deadline - self.transport.now()):
                    heard.add(arrival)
                    if arrival.kind is Kind.REPLY and arrival.message is not None:
                        self._hello = self._check_hello(arrival.message)
                        return self._hello
        raise heard.explain(self.transport.name, self.timeout)

    def _check_hello(self, message: Message) -> HelloReply:
        error = Arrival(Kind.REPLY, message).error()
        if error is not None:
            raise RefusedError(error)
        reply = HelloReply.unpack(message.payload)
        if message.version != PROTOCOL_VERSION or reply.version != PROTOCOL_VERSION:
            raise DeviceError(
                f"{self.transport.name}: the board speaks protocol version {reply.version} "
                f"(runtime {version_text(reply.runtime_version)}), this tflnest speaks {PROTOCOL_VERSION}",
                "flash firmware of the same release as this tflnest, or update tflnest",
            )
        if not MIN_FRAME_BYTES <= reply.frame_bytes <= MAX_FRAME_BYTES:
            raise DeviceError(
                f"{self.transport.name}: the board says that its frames have {reply.frame_bytes:,} bytes, "
                f"allowed are {MIN_FRAME_BYTES} to {MAX_FRAME_BYTES:,}"
            )
        return reply

    # --------------------------------------------------------------------------------------- requests

    def call(self, kind: int, payload: bytes = b"", page: int = 0, timeout: float | None = None) -> bytes:
        """Make a request, and again where it got lost.

        Args:
            kind: A `MessageType`.
            payload: Its payload.
            page: For the header.
            timeout: Seconds to wait in all; None for that of the link.

        Returns:
            Payload of the reply.

        Raises:
            RefusedError: The board answered with an error.
            RestartedError: The board was started anew meanwhile.
            DeviceError: It does not answer.
        """
        request = self._session.request(kind, payload, page)
        start, limit = self.transport.now(), self.timeout if timeout is None else timeout
        pause, repeats = PAUSE_S, 0
        while repeats <= MAX_REPEATS and self.transport.now() - start < limit:
            # A frame that got stuck half-way ends where the next begins.
            self._write((DELIMITER if repeats else b"") + self._session.encode(request))
            deadline = min(self.transport.now() + pause, start + limit)
            answer = self._await(request, deadline)
            if answer is not None:
                return answer.payload
            pause = min(2 * pause, LONGEST_PAUSE_S)
            repeats += 1
            self.repeats += 1
        raise self._silence(f"to a message of type {kind:#04x}", self.transport.now() - start)

    def _await(self, request: Message, deadline: float) -> Message | None:
        """The reply to a request; None where none came in time, or the request arrived damaged."""
        while True:
            for arrival in self._read(max(deadline - self.transport.now(), 0)):
                if arrival.kind is Kind.DAMAGED:
                    return None
                answer = self._reply(arrival)
                if answer is not None and answer.sequence == request.sequence:
                    return self._checked(answer)
            if self.transport.now() >= deadline:
                return None

    def _reply(self, arrival: Arrival) -> Message | None:
        if arrival.kind is Kind.STARTED:
            raise RestartedError("the board was started anew", "connect again; a push goes on where it was")
        return arrival.message if arrival.kind is Kind.REPLY else None

    def _checked(self, answer: Message) -> Message:
        error = Arrival(Kind.REPLY, answer).error()
        if error is None:
            return answer
        if error.code == ErrorCode.SESSION and error.first == 0:
            raise RestartedError("the board was started anew", "connect again; a push goes on where it was")
        raise RefusedError(error)

    def _silence(self, what: str, seconds: float) -> DeviceError:
        return DeviceError(
            f"{self.transport.name}: the board gave no answer {what} for {seconds:.1f} seconds",
            "is it still powered and plugged in?",
        )

    def read_table(self, table: Table, layout: type[Row]) -> list[Row]:
        """Rows of a table of the board.

        Raises:
            FormatError: They make no sense.
        """
        known = ROWS[table].structure().size
        content, total, row_bytes = b"", 1, known
        while len(content) < total:
            reply = self.call(
                MessageType.READ, Read(table, offset=len(content), count=MAX_FRAME_BYTES).pack()
            )
            head = ReadReply.unpack(reply)
            part = reply[ReadReply.structure().size :]
            total, row_bytes = head.total, head.row_bytes
            if total > MAX_TABLE_BYTES or row_bytes < known or total % row_bytes or (total and not part):
                raise FormatError(
                    f"the board says that table {table.name} has {total:,} bytes in rows of {row_bytes}"
                )
            content += part
        return [layout.unpack(content[start : start + row_bytes]) for start in range(0, total, row_bytes)]

    def read_row(self, table: Table, layout: type[Row]) -> Row:
        """The only row of a table of the board.

        Raises:
            FormatError: It has none, or it makes no sense.
        """
        rows = self.read_table(table, layout)
        if not rows:
            raise FormatError(f"the board says that table {table.name} is empty")
        return rows[0]

    # ---------------------------------------------------------------------------------------- uploads

    def upload(self, kind: int, content: bytes, offset: int = 0, page: int = 0) -> Iterator[int]:
        """Send data in a window; gives the bytes that the board has, each time that there are more.

        Args:
            kind: PAGE_DATA or INPUT.
            content: All bytes.
            offset: Where the board goes on.
            page: For the header.

        Raises:
            RefusedError: The board answered with an error.
            RestartedError: The board was started anew meanwhile.
            DeviceError: It does not answer, or makes no progress.
        """
        upload = Upload(len(content), offset, self.portion_bytes, self._hello.window_bytes)
        head = PageData if kind == MessageType.PAGE_DATA else InputData
        progress, repeats = self.transport.now(), 0
        while not upload.done:
            self._send_portions(upload, kind, content, page, head)
            before = upload.acknowledged
            heard = self._hear(upload)
            if not heard:
                upload.silent()
                self._write(DELIMITER)
            if upload.acknowledged > before:
                progress, repeats = self.transport.now(), upload.repeats
                yield upload.acknowledged
            elif upload.repeats - repeats > MAX_REPEATS or self.transport.now() - progress > self.timeout:
                raise self._silence(
                    f"after byte {upload.acknowledged:,} of {upload.size:,}", self.transport.now() - progress
                )
        self.repeats += upload.repeats

    def _send_portions(
        self, upload: Upload, kind: int, content: bytes, page: int, head: type[PageData | InputData]
    ) -> None:
        frame_bytes = HEADER_BYTES + head.structure().size + self.portion_bytes + CRC_BYTES
        most = frame_bytes + frame_bytes // 254 + 2
        while (portion := upload.next_portion(most)) is not None:
            offset, count = portion
            request = self._session.request(
                kind, head(offset).pack() + content[offset : offset + count], page
            )
            wire = self._session.encode(request)
            self._write(wire)
            upload.sent(request.sequence, offset, count, len(wire))

    def _hear(self, upload: Upload) -> bool:
        """Wait for answers to an upload; false where none came for too long."""
        deadline = self.transport.now() + UPLOAD_PAUSE_S
        while self.transport.now() < deadline:
            heard = False
            for arrival in self._read(deadline - self.transport.now()):
                if arrival.kind is Kind.DAMAGED:
                    upload.damaged()
                    heard = True
                    continue
                answer = self._reply(arrival)
                if answer is None or not upload.awaits(answer.sequence):
                    continue
                expected = OffsetReply.unpack(self._checked(answer).payload).expected
                upload.answered(answer.sequence, expected)
                heard = True
            if heard:
                return True
        return False

    # ------------------------------------------------------------------------------------------ bytes

    def _write(self, content: bytes) -> None:
        self.sent_bytes += len(content)
        self._trace.record(self.transport.now(), True, content)
        self.transport.write(content)

    def _read(self, timeout: float) -> list[Arrival]:
        content = self.transport.read(timeout)
        if not content:
            return []
        self.received_bytes += len(content)
        self._trace.record(self.transport.now(), False, content)
        return list(self._session.receive(content))


class _Heard:
    """What came instead of a hello."""

    def __init__(self) -> None:
        self.kinds: set[Kind] = set()
        self.garbage = b""

    def add(self, arrival: Arrival) -> None:
        self.kinds.add(arrival.kind)
        self.garbage = (self.garbage + arrival.content)[:16]

    def explain(self, name: str, seconds: float) -> DeviceError:
        if Kind.ECHO in self.kinds:
            return DeviceError(
                f"{name}: everything that is sent comes back",
                "the line is looped, or the port is not the board's; choose another port",
            )
        if Kind.GARBAGE in self.kinds:
            return DeviceError(
                f"{name}: something answers that is not tflnest's firmware; it begins with {self.garbage.hex(' ')}",
                "is the baud rate right? otherwise flash firmware made by tflnest",
            )
        if self.kinds & {Kind.FOREIGN, Kind.DAMAGED}:
            return DeviceError(
                f"{name}: the board answers somebody else", "close other programs that talk to it"
            )
        return DeviceError(
            f"{name}: no answer within {seconds:g} seconds",
            "is the board powered, is it the right port, and does it run firmware made by tflnest?",
        )
