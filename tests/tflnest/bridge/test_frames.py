from __future__ import annotations

import zlib

import pytest
from cobs import cobs
from hypothesis import given
from hypothesis import strategies as st

from tflnest.bridge import frames
from tflnest.bridge.frames import FrameError, FrameReader, Garbage
from tflnest.bridge.messages import FRAME_OVERHEAD_BYTES, Message, MessageType

MESSAGES = st.builds(
    Message,
    type=st.integers(0, 127),
    payload=st.binary(max_size=700),
    reply=st.booleans(),
    page=st.integers(0, 255),
    session=st.integers(0, 65535),
    sequence=st.integers(0, 65535),
    version=st.integers(0, 255),
)


@given(MESSAGES)
def test_messages_survive_the_wire(message: Message) -> None:
    wire = frames.encode(message)
    assert wire.count(0) == 1 and wire.endswith(frames.DELIMITER)
    assert frames.decode(wire[:-1]) == message


@given(st.lists(MESSAGES, max_size=5), st.data())
def test_portions_do_not_matter(messages: list[Message], data: st.DataObject) -> None:
    wire = b"\0".join(frames.encode(message) for message in messages)
    reader, received = FrameReader(1024), []
    while wire:
        count = data.draw(st.integers(1, len(wire)))
        received += list(reader.receive(wire[:count]))
        wire = wire[count:]
    assert received == messages and not reader.inside


@given(st.binary(max_size=400))
def test_any_bytes_give_frames_or_garbage(content: bytes) -> None:
    for item in FrameReader(128).receive(content):
        assert isinstance(item, Message | Garbage)


@given(MESSAGES, st.integers(0, 10_000), st.integers(0, 7))
def test_a_flipped_bit_is_never_taken_for_a_message(message: Message, position: int, bit: int) -> None:
    wire = bytearray(frames.encode(message))
    wire[position % len(wire)] ^= 1 << bit
    assert all(isinstance(item, Garbage) for item in FrameReader(1024).receive(bytes(wire) + b"\0"))


def test_the_stream_goes_on_after_garbage() -> None:
    message = Message(MessageType.HELLO, session=1)
    first, second = FrameReader(128).receive(b"what?\0" + frames.encode(message))
    assert isinstance(first, Garbage) and first.content == b"what?"
    assert second == message


def test_frames_longer_than_the_limit_are_told_from_damaged_ones() -> None:
    longest = Message(MessageType.READ, bytes(100 - FRAME_OVERHEAD_BYTES))
    assert list(FrameReader(100).receive(frames.encode(longest))) == [longest]
    (item,) = FrameReader(99).receive(frames.encode(longest))
    assert isinstance(item, Garbage) and item.error.oversized
    (item,) = FrameReader(99).receive(b"x" * 5000 + b"\0")
    assert isinstance(item, Garbage) and item.error.oversized


def test_no_more_than_a_frame_is_kept() -> None:
    reader = FrameReader(64)
    for _ in range(100):
        list(reader.receive(b"y" * 1000))
    assert len(reader._pending) < 80 and reader.inside
    reader.drop()
    assert not reader.inside


def _wire(frame: bytes) -> bytes:
    return cobs.encode(frame + zlib.crc32(frame).to_bytes(4, "little"))


@pytest.mark.parametrize(
    ("stuffed", "text"),
    [
        (b"\x05ab", "not stuffed rightly"),
        (b"\x03ab", "has 2 bytes, and at least 12"),
        (cobs.encode(bytes(12)), "has CRC-32"),
        (_wire(bytes([1, 7, 1, 0, 0, 0, 0, 0])), "says that its header has 7"),
        (_wire(bytes([1, 9, 1, 0, 0, 0, 0, 0])), "says that its header has 9"),
    ],
)
def test_unsound_frames_say_what_is_wrong(stuffed: bytes, text: str) -> None:
    with pytest.raises(FrameError, match=text):
        frames.decode(stuffed)


def test_a_longer_header_of_a_later_version_is_skipped() -> None:
    message = frames.decode(_wire(bytes([1, 10, 1, 0, 2, 0, 3, 0, 99, 99]) + b"payload"))
    assert (message.payload, message.session, message.sequence) == (b"payload", 2, 3)
