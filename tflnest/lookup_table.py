"""Weights as indices into tables of values: the LUT encoding of TensorFlow Lite Micro's operator TFLM_DECODE.

Indices of 1 to 7 bits are packed most significant bit first. The ancillary tensor has a header of 16 bytes and the
tables, `tensorflow/lite/micro/kernels/decode_state.h` and `decode_state_lut.cc` in TensorFlow Lite Micro:

* byte 0: the kind of encoding, 0 for LUT; byte 1: version 1;
* byte 4: version 1 of LUT; byte 5: bits of an index below, in the upper half the axis with a table for each channel, or
  15 for one table; byte 6: entries from one channel's table to the next.

The kernel does not read the axis: it takes the number of channels and their axis from the scales of the decoded tensor. A
distance of 0 makes all channels read one table, whatever a version of the kernel goes by.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tflnest.errors import FormatError, UnsupportedError

#: Name of the custom operator that `MicroMutableOpResolver::AddDecode` registers.
DECODE = "TFLM_DECODE"

#: Bytes of the header that every kind of encoding begins with, DECODE Common Metadata.
HEADER_BYTES = 16

#: Widest index.
MAX_INDEX_BITS = 7

#: The value of the axis field that means one table for the whole tensor.
ONE_TABLE = 15

#: Positions in the header, and what stands there in every file.
_KIND, _VERSION, _LUT_VERSION, _PARAMETERS, _STRIDE = 0, 1, 4, 5, 6
_LUT, _ONE = 0, 1


def index_bits(values: int) -> int:
    """Bits of an index into a table of so many values, at least 1."""
    return max(1, math.ceil(math.log2(values)))


def encode(weights: NDArray[np.int8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Indices and ancillary data of a filter, with one table.

    Args:
        weights: int8, any shape, with 1 to 128 different values.

    Returns:
        The packed indices, and header and table; both uint8, 1-D.
    """
    table, indices = np.unique(weights, return_inverse=True)
    bits = index_bits(table.size)
    assert bits <= MAX_INDEX_BITS
    header = np.zeros(HEADER_BYTES, np.uint8)
    header[_VERSION] = header[_LUT_VERSION] = _ONE
    header[_PARAMETERS] = ONE_TABLE << 4 | bits
    places = np.arange(bits - 1, -1, -1)
    packed = np.packbits((indices.reshape(-1, 1) >> places & 1).astype(np.uint8))
    full_table = np.zeros(1 << bits, np.int8)
    full_table[: table.size] = table
    return packed, np.concatenate([header, full_table.view(np.uint8)])


def decode(
    packed: NDArray[np.uint8], ancillary: NDArray[np.uint8], count: int, channels: int = 1, last: bool = False
) -> NDArray[np.int8]:
    """The values that the operator computes.

    Args:
        packed: The indices.
        ancillary: Header and tables.
        count: How many values, a multiple of `channels`.
        channels: Channels that have a table each.
        last: Whether channels are the last axis and not the first.

    Returns:
        int8 (count,).

    Raises:
        FormatError: Header, indices and tables contradict each other.
        UnsupportedError: They are of another kind or version.
    """
    if ancillary.size < HEADER_BYTES:
        raise FormatError(
            f"the ancillary data of {DECODE} has {ancillary.size} bytes, {HEADER_BYTES} begin it"
        )
    kind, version = int(ancillary[_KIND]), int(ancillary[_VERSION])
    if (kind, version, int(ancillary[_LUT_VERSION])) != (_LUT, _ONE, _ONE):
        raise UnsupportedError(
            f"{DECODE} has an encoding of kind {kind}, version {version}: only LUT, 1 is known"
        )
    bits = int(ancillary[_PARAMETERS]) & MAX_INDEX_BITS
    if bits == 0 or packed.size < -(-count * bits // 8):
        raise FormatError(f"{count:,} indices of {bits} bits are not in {packed.size:,} bytes")
    digits = np.unpackbits(packed, count=count * bits).reshape(count, bits)
    indices = digits @ (1 << np.arange(bits - 1, -1, -1))
    number = np.arange(count)
    channel = number % channels if last else number // max(count // channels, 1)
    places = channel * int(ancillary[_STRIDE]) + indices
    table = ancillary[HEADER_BYTES:].view(np.int8)
    if count and places.max() >= table.size:
        raise FormatError(f"an index leads to entry {places.max()} of {table.size} in the tables of {DECODE}")
    values: NDArray[np.int8] = table[places]
    return values
