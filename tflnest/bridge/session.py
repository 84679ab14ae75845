"""The host's side of the protocol: what to say next, and what an answer means.

Nothing here reads or writes a port or looks at a clock: `Session` numbers requests and recognises their
replies, `Upload` keeps a window of data on its way. `tflnest.bridge.link` moves the bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from tflnest.bridge import frames
from tflnest.bridge.frames import FrameReader, Garbage
from tflnest.bridge.messages import (
    MAX_FRAME_BYTES,
    SENTENCES,
    ErrorCode,
    ErrorReply,
    Message,
    MessageType,
)
from tflnest.errors import DeviceError, ExitCode

#: Data travels in portions of a multiple of this.
DATA_ALIGNMENT = 8

_HINTS = {
    ErrorCode.CRC: "nothing has changed; send the page again",
    ErrorCode.IDENTITY: "push the file that the firmware was made from, or flash firmware made from this file",
    ErrorCode.IN_USE: "switch to a lower level first",
    ErrorCode.RESIDENT: "push it first, or switch to a lower level",
    ErrorCode.SIZE: "use a lower level, or page something out first",
    ErrorCode.VERSION: "flash firmware of the same release as this tflnest, or update tflnest",
    ErrorCode.TYPE: "flash firmware of the same release as this tflnest",
    ErrorCode.SESSION: "another program talks to the board, or it was started anew: connect again",
    ErrorCode.OUTPUT: "another program talks to the board; run again",
    ErrorCode.LEVEL_CHANGED: "another program talks to the board; switch again",
}


class RefusedError(DeviceError):
    """The board answered with an error.

    Args:
        reply: Its answer.
    """

    def __init__(self, reply: ErrorReply) -> None:
        known = reply.code in tuple(ErrorCode)
        sentence = SENTENCES[ErrorCode(reply.code)] if known else "the board refused for a reason of its own"
        text = sentence.format(first=reply.first, second=reply.second)
        hint = _HINTS.get(ErrorCode(reply.code)) if known else None
        super().__init__(f"{text} (error {reply.code})", hint)
        self.code = reply.code
        self.first = reply.first
        self.second = reply.second
        if reply.code == ErrorCode.SIZE:
            self.exit_code = ExitCode.DOES_NOT_FIT
        elif reply.code == ErrorCode.CRC:
            self.exit_code = ExitCode.VERIFICATION


class Kind(Enum):
    """What came from a board."""

    REPLY = "reply"  #: an answer to a request of this session
    DAMAGED = "damaged"  #: the board received a frame that was not sound
    STARTED = "started"  #: the board has just started
    ECHO = "echo"  #: something that a host said: the line carries it back
    FOREIGN = "foreign"  #: a message for somebody else, or one that nobody asked for
    GARBAGE = "garbage"  #: bytes that are no frame


@dataclass(frozen=True)
class Arrival:
    """Something that came from a board.

    Attributes:
        kind: What it is.
        message: The message; None for garbage.
        content: The bytes of garbage.
    """

    kind: Kind
    message: Message | None = None
    content: bytes = b""

    def error(self) -> ErrorReply | None:
        """The error that it carries, if it is one."""
        if self.message is None or self.message.type != MessageType.ERROR:
            return None
        return ErrorReply.unpack(self.message.payload)


class Session:
    """Numbers requests and recognises their replies.

    Args:
        number: Of the session, 1 to 65535, chosen at random so that two hosts do not mistake each other.
        sequence: Of the first request.
    """

    def __init__(self, number: int, sequence: int = 0) -> None:
        self.number = number
        self._next = sequence & 0xFFFF
        self._reader = FrameReader(MAX_FRAME_BYTES)

    def request(self, kind: int, payload: bytes = b"", page: int = 0) -> Message:
        """A new request."""
        message = Message(kind, payload, page=page, session=self.number, sequence=self._next)
        self._next = (self._next + 1) & 0xFFFF
        return message

    def encode(self, message: Message) -> bytes:
        """Its bytes on the wire."""
        return frames.encode(message)

    def receive(self, content: bytes) -> Iterator[Arrival]:
        """Take bytes from the board; gives what they complete, in order."""
        for item in self._reader.receive(content):
            yield self._classify(item)

    def _classify(self, item: Message | Garbage) -> Arrival:
        if isinstance(item, Garbage):
            return Arrival(Kind.GARBAGE, content=item.content)
        if not item.reply:
            return Arrival(Kind.ECHO, item)
        if item.session == 0 and item.type == MessageType.HELLO:
            return Arrival(Kind.STARTED, item)
        if item.session != self.number:
            return Arrival(Kind.FOREIGN, item)
        if item.type == MessageType.ERROR and len(item.payload) >= ErrorReply.structure().size:
            error = ErrorReply.unpack(item.payload)
            if error.code == ErrorCode.FRAME and error.request == 0:
                return Arrival(Kind.DAMAGED, item)
        return Arrival(Kind.REPLY, item)


@dataclass
class _Portion:
    """Data on its way."""

    sequence: int
    offset: int
    count: int
    wire_bytes: int
    live: bool = True


class Upload:
    """Sends data in portions, as many at once as the board's window takes. The board says where it goes on.

    Args:
        size: Bytes of the data.
        offset: Where the board goes on.
        portion_bytes: Most bytes of a portion, a multiple of `DATA_ALIGNMENT`.
        window_bytes: Bytes on the wire that may be unanswered; one portion always may.
    """

    def __init__(self, size: int, offset: int, portion_bytes: int, window_bytes: int) -> None:
        self.size = size
        self.acknowledged = offset
        self.repeats = 0
        self._next = offset
        self._portion_bytes = portion_bytes
        self._window_bytes = window_bytes
        self._flying: deque[_Portion] = deque()

    @property
    def done(self) -> bool:
        """Whether the board has everything."""
        return self.acknowledged >= self.size

    @property
    def waiting(self) -> bool:
        """Whether an answer is due."""
        return bool(self._flying)

    def next_portion(self, frame_bytes: int) -> tuple[int, int] | None:
        """Offset and bytes of what is to be sent now, if anything.

        Args:
            frame_bytes: Most bytes on the wire that a frame of a full portion takes.
        """
        on_wire = sum(portion.wire_bytes for portion in self._flying)
        if self._next >= self.size or (self._flying and on_wire + frame_bytes > self._window_bytes):
            return None
        return self._next, min(self._portion_bytes, self.size - self._next)

    def sent(self, sequence: int, offset: int, count: int, wire_bytes: int) -> None:
        """A portion went out."""
        self._flying.append(_Portion(sequence, offset, count, wire_bytes))
        self._next = offset + count

    def awaits(self, sequence: int) -> bool:
        """Whether a portion with this number is on its way."""
        return any(portion.sequence == sequence for portion in self._flying)

    def answered(self, sequence: int, expected: int) -> None:
        """The board answered a portion that is on its way.

        Args:
            sequence: Of the request.
            expected: The offset that the board takes next.

        Raises:
            DeviceError: The offset makes no sense.
        """
        portion = self._flying.popleft()
        while portion.sequence != sequence:  # its answer got lost, and this one says more
            portion = self._flying.popleft()
        if expected > self.size:
            raise DeviceError(f"the board expects offset {expected:,} of {self.size:,} bytes")
        self.acknowledged = expected
        if expected < portion.offset + portion.count:
            if portion.live:
                self._go_back()
        else:
            self._next = max(self._next, expected)

    def damaged(self) -> None:
        """The board received a frame that was not sound: as answers come in order, the one that is due next."""
        if self._flying and self._flying.popleft().live:
            self._go_back()

    def silent(self) -> None:
        """No answer came for a while: nothing is on its way any more."""
        self._flying.clear()
        self._go_back()

    def _go_back(self) -> None:
        """Send again from where the board is; what is still on its way will be refused, but takes its room."""
        self.repeats += 1
        self._next = self.acknowledged
        for portion in self._flying:
            portion.live = False
