"""Frames: a header, a payload and a CRC-32, stuffed so that a zero byte ends them and nothing else.

Consistent overhead byte stuffing (Cheshire and Baker, SIGCOMM 1997) costs one byte in 254 at most. Nothing
here reads or writes a port.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from tflnest.bridge.messages import (
    CRC_BYTES,
    FRAME_OVERHEAD_BYTES,
    HEADER_BYTES,
    REPLY_BIT,
    Header,
    Message,
)
from tflnest.errors import FormatError, MissingExtraError

#: Ends every frame; occurs nowhere else on the wire.
DELIMITER = b"\0"


class FrameError(FormatError):
    """A frame that is not sound.

    Args:
        message: What is wrong with it.
        oversized: Whether it is only too long.
    """

    def __init__(self, message: str, oversized: bool = False) -> None:
        super().__init__(message)
        self.oversized = oversized


@cache
def _cobs() -> Any:
    try:
        from cobs import cobs
    except ImportError:
        raise MissingExtraError("cobs", "serial", "to talk to a board") from None
    return cobs


def encode(message: Message) -> bytes:
    """The bytes of a message on the wire, delimiter included."""
    kind = message.type | (REPLY_BIT if message.reply else 0)
    header = Header.structure().pack(
        message.version, HEADER_BYTES, kind, message.page, message.session, message.sequence
    )
    body = header + message.payload
    stuffed: bytes = _cobs().encode(body + zlib.crc32(body).to_bytes(CRC_BYTES, "little"))
    return stuffed + DELIMITER


def decode(stuffed: bytes, frame_bytes: int | None = None) -> Message:
    """Read a frame.

    Args:
        stuffed: Its bytes on the wire, without the delimiter.
        frame_bytes: Most bytes that it may have after unstuffing; None for any number.

    Raises:
        FrameError: It is too short or too long, its stuffing or CRC-32 is wrong, or its header makes no sense.
    """
    cobs = _cobs()
    # Stuffing adds a byte at least: what is shorter than that need not be counted.
    if frame_bytes is not None and len(stuffed) > frame_bytes + 1 and _unstuffed_bytes(stuffed) > frame_bytes:
        raise FrameError(f"a frame has more than {frame_bytes:,} bytes", oversized=True)
    try:
        frame: bytes = cobs.decode(stuffed)
    except cobs.DecodeError as error:
        raise FrameError(f"a frame is not stuffed rightly: {error}") from None
    if len(frame) < FRAME_OVERHEAD_BYTES:
        raise FrameError(f"a frame has {len(frame)} bytes, and at least {FRAME_OVERHEAD_BYTES} are needed")
    body, stored = frame[:-CRC_BYTES], int.from_bytes(frame[-CRC_BYTES:], "little")
    if zlib.crc32(body) != stored:
        raise FrameError(f"a frame has CRC-32 {zlib.crc32(body):08x}, and says {stored:08x}")
    header = Header.unpack(body)
    if not HEADER_BYTES <= header.header_size <= len(body):
        raise FrameError(f"a frame of {len(frame)} bytes says that its header has {header.header_size}")
    return Message(
        type=header.type & ~REPLY_BIT,
        payload=body[header.header_size :],
        reply=bool(header.type & REPLY_BIT),
        page=header.page,
        session=header.session,
        sequence=header.sequence,
        version=header.version,
    )


def _unstuffed_bytes(stuffed: bytes) -> int:
    """Bytes that unstuffing keeps, counted block by block as far as the blocks go."""
    position = count = 0
    while position < len(stuffed):
        code = stuffed[position]
        block = min(code - 1, len(stuffed) - position - 1)
        position += code
        count += block + (1 if code < 255 and position < len(stuffed) else 0)
    return count


@dataclass(frozen=True)
class Garbage:
    """Bytes up to a delimiter that are no frame.

    Attributes:
        error: Why not.
        content: The bytes.
    """

    error: FrameError
    content: bytes


class FrameReader:
    """Cuts a stream of bytes into messages. Needs room for one frame, whatever comes.

    Args:
        frame_bytes: Largest frame: header, payload and CRC-32.
    """

    def __init__(self, frame_bytes: int) -> None:
        self.frame_bytes = frame_bytes
        self._pending = bytearray()
        self._overflowed = False

    @property
    def inside(self) -> bool:
        """Whether a frame has begun and not ended."""
        return bool(self._pending) or self._overflowed

    def drop(self) -> None:
        """Forget the frame that has begun."""
        self._pending.clear()
        self._overflowed = False

    def receive(self, content: bytes) -> Iterator[Message | Garbage]:
        """Take bytes, in any portions; gives what they complete, in order."""
        *ended, rest = content.split(DELIMITER)
        for part in ended:
            self._keep(part)
            if self.inside:
                yield self._finish()
        self._keep(rest)

    def _keep(self, part: bytes) -> None:
        # Stuffing adds one byte in 254, and one. What is longer than that cannot be a frame.
        room = self.frame_bytes + self.frame_bytes // 254 + 2
        self._pending += part[: room + 1 - len(self._pending)]
        self._overflowed = self._overflowed or len(self._pending) > room

    def _finish(self) -> Message | Garbage:
        stuffed, overflowed = bytes(self._pending), self._overflowed
        self.drop()
        try:
            if overflowed:
                raise FrameError(f"a frame has more than {self.frame_bytes:,} bytes", oversized=True)
            return decode(stuffed, self.frame_bytes)
        except FrameError as error:
            return Garbage(error, stuffed)
