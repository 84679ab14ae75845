"""A model as it is sent to boards that take any: the file without the contents of its lower-bit pages.

A board runs the lowest level of the model with that; the pages follow one by one. PROTOCOL.md, section 9.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from tflnest.container import Directory
from tflnest.errors import FormatError
from tflnest.model import Model

#: Bytes of the file, and number of gaps.
_HEAD = struct.Struct("<II")
#: Offset and bytes of a gap.
_GAP = struct.Struct("<II")
#: What is sent is a multiple of this.
_ALIGNMENT = 8
#: Largest file that is put together again.
MAX_FILE_BYTES = 1 << 26


def describe(model: Model, directory: Directory) -> bytes:
    """The bytes that are sent.

    Args:
        model: A nested model.
        directory: Its directory.
    """
    content = model.to_bytes()
    gaps = sorted((segment.offset, segment.size) for page in directory.pages[1:] for segment in page.segments)
    head = _HEAD.pack(len(content), len(gaps)) + b"".join(_GAP.pack(*gap) for gap in gaps)
    sent = head + b"".join(content[start:end] for start, end in _kept(gaps, len(content)))
    return sent + bytes(-len(sent) % _ALIGNMENT)


def restore(sent: bytes) -> Model:
    """The model, its lower-bit pages filled with zeros.

    Raises:
        FormatError: The bytes are no description, or not of a nested model.
    """
    if len(sent) < _HEAD.size:
        raise FormatError(f"a description of a model has {len(sent)} bytes, expected at least {_HEAD.size}")
    size, count = _HEAD.unpack_from(sent)
    start = _HEAD.size + count * _GAP.size
    if size > MAX_FILE_BYTES or start > len(sent):
        raise FormatError(
            f"a description of {len(sent):,} bytes claims a file of {size:,} bytes with {count:,} gaps"
        )
    gaps = list(_GAP.iter_unpack(sent[_HEAD.size : start]))
    content = bytearray(size)
    for begin, end in _kept(gaps, size):
        part = sent[start : start + end - begin]
        if len(part) != end - begin:
            raise FormatError(f"a description of a model lacks {end - begin - len(part):,} bytes")
        content[begin:end] = part
        start += len(part)
    model = Model.from_bytes(bytes(content), "the model that was sent", has_lower_pages=False)
    if model.directory is None:
        raise FormatError("the model that was sent is not nested")
    return model


def _kept(gaps: list[tuple[int, int]], size: int) -> Iterator[tuple[int, int]]:
    """What lies between the gaps of a file: starts and ends."""
    position = 0
    for offset, count in gaps:
        if offset < position or offset + count > size:
            raise FormatError(f"a description of a model has a gap of {count:,} bytes at {offset:,}")
        yield position, offset
        position = offset + count
    yield position, size
