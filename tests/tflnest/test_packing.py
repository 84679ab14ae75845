"""Bit packing against a literal reading of the byte layout, one weight at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tflnest.errors import FormatError
from tflnest.packing import field_bytes, fields, pack, packed_bytes, unpack

FIELDS = {1: (1,), 2: (2,), 3: (2, 1), 4: (4,), 5: (4, 1), 6: (4, 2), 7: (4, 2, 1), 8: (4, 4)}


def literal_pack(codes: list[int], bits: int) -> bytes:
    """The layout of the specification, written out without any vector arithmetic."""
    groups = (len(codes) + 15) // 16
    padded = codes + [0] * (16 * groups - len(codes))
    out = bytearray()
    left = bits
    for width in FIELDS[bits]:
        left -= width
        field = bytearray()
        for group in range(groups):
            w = [(code >> left) & ((1 << width) - 1) for code in padded[16 * group : 16 * group + 16]]
            if width == 4:
                field += bytes(w[j] << 4 | w[j + 4] for j in range(4))
                field += bytes(w[8 + j] << 4 | w[12 + j] for j in range(4))
            elif width == 2:
                field += bytes(w[j] << 6 | w[j + 8] << 4 | w[j + 4] << 2 | w[j + 12] for j in range(4))
            else:
                half = 0
                for j in range(4):
                    half |= (w[j] << 3 | w[j + 8] << 2 | w[j + 4] << 1 | w[j + 12]) << (4 * j)
                field += half.to_bytes(2, "little")
        while len(field) % 4:
            field.append(0)
        out += field
    return bytes(out)


def codes_of(bits: int) -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, (1 << bits) - 1), max_size=100)


@pytest.mark.parametrize("bits", range(1, 9))
def test_field_widths(bits):
    assert fields(bits) == FIELDS[bits]
    assert sum(fields(bits)) == bits


@pytest.mark.parametrize("bits", range(1, 9))
@given(data=st.data())
def test_pack_is_the_literal_layout_and_unpack_inverts_it(bits, data):
    codes = data.draw(codes_of(bits))
    packed = pack(np.array(codes, np.uint8), bits)
    assert packed == literal_pack(codes, bits)
    assert len(packed) == packed_bytes(len(codes), bits)
    assert unpack(packed, bits, len(codes)).tolist() == codes


@pytest.mark.parametrize("bits", range(1, 9))
def test_every_code_at_every_place_of_a_group(bits):
    for place in range(16):
        codes = np.zeros(16, np.uint8)
        for code in range(1 << bits):
            codes[place] = code
            packed = pack(codes, bits)
            assert packed == literal_pack(codes.tolist(), bits)
            np.testing.assert_array_equal(unpack(packed, bits, 16), codes)


@pytest.mark.parametrize("bits", range(1, 9))
@pytest.mark.parametrize("groups", [2, 6, 100])
def test_whole_groups_take_exactly_the_bits_of_their_codes(bits, groups):
    """Only the 1-bit field is padded, where the number of groups is odd; here it is even."""
    assert packed_bytes(16 * groups, bits) * 8 == 16 * groups * bits


@pytest.mark.parametrize("bits", range(1, 9))
@given(count=st.integers(0, 5000))
def test_padding_is_bounded(bits, count):
    """At most 15 codes and 2 bytes of alignment per field."""
    assert 0 <= packed_bytes(count, bits) * 8 - count * bits <= 15 * bits + 16 * len(fields(bits))


def test_fields_end_on_words():
    assert [field_bytes(count, 1) for count in (0, 1, 16, 17, 32, 33)] == [0, 4, 4, 4, 4, 8]
    assert [field_bytes(count, 2) for count in (0, 1, 16, 17)] == [0, 4, 4, 8]
    assert [field_bytes(count, 4) for count in (0, 1, 16, 17)] == [0, 8, 8, 16]


def test_shape_does_not_matter_and_views_are_taken():
    codes = np.arange(48, dtype=np.uint8).reshape(4, 12) & 15
    assert pack(codes, 4) == pack(codes.reshape(-1), 4)
    assert pack(codes.T, 4) == pack(np.ascontiguousarray(codes.T), 4)
    packed = np.frombuffer(pack(codes, 4), np.uint8)
    np.testing.assert_array_equal(unpack(packed, 4, 48), codes.reshape(-1))


@pytest.mark.parametrize("change", [-1, 1])
def test_wrong_sizes_are_refused(change):
    data = bytes(packed_bytes(40, 3) + change)
    with pytest.raises(
        FormatError, match=f"a plane of 40 codes of 3 bits takes 20 bytes, here are {20 + change}"
    ):
        unpack(data, 3, 40)
