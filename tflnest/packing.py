"""Codes of 1 to 8 bits in bytes, in the order that a microcontroller unpacks fastest.

A code is cut from the top into fields of 4, 2 or 1 bits (6 bits are 4 + 2, 5 bits 4 + 1, 8 bits 4 + 4), and
the fields of all weights are stored one after the other, most significant field first. Inside a field the
codes of 16 consecutive weights w[0..15] form a group, so that a few word-wise shifts and masks give words of
four bytes in tensor order:

* 4 bits, 8 bytes a group: byte j is `w[j] << 4 | w[j+4]`, byte 4+j is `w[8+j] << 4 | w[12+j]`, j = 0..3;
* 2 bits, 4 bytes a group: byte j is `w[j] << 6 | w[j+8] << 4 | w[j+4] << 2 | w[j+12]`;
* 1 bit, 2 bytes a group: nibble j (bits 4j of the little-endian half-word) is
  `w[j] << 3 | w[j+8] << 2 | w[j+4] << 1 | w[j+12]`.

The last group is filled up with zero codes, and every field with zero bytes to a multiple of four.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tflnest.errors import FormatError

GROUP = 16
FIELD_ALIGNMENT = 4


def fields(bits: int) -> tuple[int, ...]:
    """Widths of the fields of a code, most significant first: `fields(7) == (4, 2, 1)`."""
    widths = []
    for width in (4, 4, 2, 1):
        if bits >= width:
            widths.append(width)
            bits -= width
    return tuple(widths)


def field_bytes(count: int, width: int) -> int:
    """Bytes of one field of `count` weights, padding included."""
    size = -(-count // GROUP) * (GROUP * width // 8)
    return -(-size // FIELD_ALIGNMENT) * FIELD_ALIGNMENT


def packed_bytes(count: int, bits: int) -> int:
    """Bytes of `count` codes of `bits` bits, padding included."""
    return sum(field_bytes(count, width) for width in fields(bits))


def pack(codes: NDArray[np.uint8], bits: int) -> bytes:
    """Pack codes in tensor order.

    Args:
        codes: uint8, any shape, each below `2**bits`.
        bits: 1..8.

    Returns:
        `packed_bytes(codes.size, bits)` bytes.
    """
    flat = np.ascontiguousarray(codes, dtype=np.uint8).reshape(-1)
    groups = -(-flat.size // GROUP)
    padded = np.zeros(groups * GROUP, dtype=np.uint8)
    padded[: flat.size] = flat
    parts = []
    remaining = bits
    for width in fields(bits):
        remaining -= width
        field = (padded >> remaining) & ((1 << width) - 1)
        packed = _pack_field(field.reshape(groups, 4, 4).astype(np.uint8), width)
        parts.append(packed.ljust(field_bytes(flat.size, width), b"\0"))
    return b"".join(parts)


def unpack(data: bytes | NDArray[np.uint8], bits: int, count: int) -> NDArray[np.uint8]:
    """Invert `pack`.

    Args:
        data: Exactly `packed_bytes(count, bits)` bytes.
        bits: 1..8.
        count: Number of codes.

    Returns:
        uint8 codes, shape (count,).

    Raises:
        FormatError: The data has another size.
    """
    raw = np.frombuffer(data, np.uint8) if isinstance(data, bytes) else data
    expected = packed_bytes(count, bits)
    if raw.size != expected:
        raise FormatError(
            f"a plane of {count:,} codes of {bits} bits takes {expected:,} bytes, here are {raw.size:,}"
        )
    groups = -(-count // GROUP)
    codes = np.zeros(groups * GROUP, dtype=np.uint8)
    start = 0
    for width in fields(bits):
        used = groups * GROUP * width // 8
        field = _unpack_field(raw[start : start + used], width, groups)
        codes = ((codes << width) | field).astype(np.uint8)
        start += field_bytes(count, width)
    return codes[:count]


def _pack_field(words: NDArray[np.uint8], width: int) -> bytes:
    """Pack one field; `words[g, t, j]` is weight 4t + j of group g."""
    if width == 4:
        return np.ascontiguousarray((words[:, 0::2] << 4) | words[:, 1::2]).tobytes()
    if width == 2:
        return ((words[:, 0] << 6) | (words[:, 2] << 4) | (words[:, 1] << 2) | words[:, 3]).tobytes()
    nibbles = (words[:, 0] << 3) | (words[:, 2] << 2) | (words[:, 1] << 1) | words[:, 3]
    return (nibbles[:, 0::2] | (nibbles[:, 1::2] << 4)).tobytes()


def _unpack_field(raw: NDArray[np.uint8], width: int, groups: int) -> NDArray[np.uint8]:
    words = np.empty((groups, 4, 4), dtype=np.uint8)
    if width == 4:
        halves = raw.reshape(groups, 2, 4)
        words[:, 0::2] = halves >> 4
        words[:, 1::2] = halves & 15
        return words.reshape(-1)
    if width == 2:
        packed, step = raw.reshape(groups, 4), 2
    else:
        packed, step = np.empty((groups, 4), dtype=np.uint8), 1
        packed[:, 0::2] = raw.reshape(groups, 2) & 15
        packed[:, 1::2] = raw.reshape(groups, 2) >> 4
    mask = (1 << width) - 1
    for position, word in enumerate((3, 1, 2, 0)):
        words[:, word] = (packed >> (step * position)) & mask
    return words.reshape(-1)
