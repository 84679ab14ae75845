"""The page directory: encoding, sealing, and everything that may be wrong with it."""

from __future__ import annotations

import hashlib
import struct
import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.models import nested, network
from tflnest import container, flatbuffer
from tflnest.container import Directory, Page, Segment, decode, encode, new_directory, page_image, verify
from tflnest.errors import FormatError
from tflnest.model import Model, metadata_buffer

HEADER_FIELDS = (
    "magic",
    "version",
    "header_size",
    "flags",
    "identity",
    "levels",
    "pages",
    "segments",
    "recipe_size",
    "crc",
)


def sample() -> Directory:
    """Two pages, three segments."""
    pages = (
        Page(0, 4, 24, 0x11111111, (Segment(1, 64, 16), Segment(3, 96, 5))),
        Page(1, 8, 8, 0x22222222, (Segment(2, 112, 8),)),
    )
    return Directory(1, bytes(range(32)), (4, 8), pages, "levels = [4, 8]\n")


def with_header(content: bytes, **changes: object) -> bytes:
    """Change header fields and put the CRC right again."""
    values = dict(zip(HEADER_FIELDS, container.HEADER.unpack_from(content), strict=True))
    values.update(changes)
    return with_crc(container.HEADER.pack(*values.values()) + content[container.HEADER.size :])


def with_crc(content: bytes) -> bytes:
    """The directory's own CRC over everything but the CRC and the identity."""
    blank = bytearray(content)
    blank[16:48] = bytes(32)
    blank[container.CRC_OFFSET : container.CRC_OFFSET + 4] = bytes(4)
    crc = zlib.crc32(blank).to_bytes(4, "little")
    return content[: container.CRC_OFFSET] + crc + content[container.CRC_OFFSET + 4 :]


def directory_of(content: bytes) -> tuple[Directory, int, list[tuple[int, int]]]:
    """Directory, its offset, and the extents of a sealed file."""
    model = Model.from_bytes(content)
    extents = flatbuffer.buffer_extents(content)
    assert model.directory is not None
    return model.directory, extents[metadata_buffer(model.tree, "TFLNEST")][0], extents


def test_encode_and_decode_are_inverse():
    assert decode(encode(sample())) == sample()


@given(
    levels=st.lists(st.integers(1, 8), min_size=1, max_size=8, unique=True).map(sorted),
    data=st.data(),
    recipe=st.text(max_size=50),
)
def test_any_directory_survives(levels, data, recipe):
    buffers = iter(data.draw(st.permutations(range(1, 40))))
    pages = []
    for index, level in enumerate(levels):
        sizes = data.draw(st.lists(st.integers(1, 1000), max_size=4))
        segments = tuple(Segment(next(buffers), 16 * number, size) for number, size in enumerate(sizes))
        total = sum(segment.image_size for segment in segments)
        pages.append(Page(index, level, total, data.draw(st.integers(0, 2**32 - 1)), segments))
    identity = data.draw(st.binary(min_size=32, max_size=32))
    directory = Directory(1, identity, tuple(levels), tuple(pages), recipe)
    assert decode(encode(directory)) == directory


def test_the_layout_in_bytes():
    """Written out once by hand, so that it cannot change unnoticed."""
    content = encode(sample())
    assert content[:8] == b"TFLNEST\0"
    assert struct.unpack_from("<HHI", content, 8) == (1, 64, 0)
    assert content[16:48] == bytes(range(32))
    assert struct.unpack_from("<HHII", content, 48) == (2, 2, 3, 16)
    assert struct.unpack_from("<BBHBBH", content, 64) == (4, 0, 0, 8, 0, 0)
    assert struct.unpack_from("<HHIIII", content, 72) == (0, 4, 24, 0x11111111, 0, 2)
    assert struct.unpack_from("<HHIIII", content, 92) == (1, 8, 8, 0x22222222, 2, 1)
    assert struct.unpack_from("<9I", content, 112) == (1, 64, 16, 3, 96, 5, 2, 112, 8)
    tables = 64 + 2 * 4 + 2 * 20 + 3 * 12
    assert content[tables:] == b"levels = [4, 8]\n"
    assert len(content) == tables + 16


@pytest.mark.parametrize("level", [0, 1])
def test_only_the_identity_is_outside_the_directory_crc(level):
    """The identity is checked against the whole file instead."""
    content = encode(sample())
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1 << (level * 7)
        if 16 <= position < 48:
            assert decode(bytes(damaged)).identity != sample().identity
        else:
            with pytest.raises(FormatError, match=r"TFLNEST|format version"):
                decode(bytes(damaged))


def test_every_truncation_of_a_directory_is_refused():
    content = encode(sample())
    for size in range(len(content)):
        with pytest.raises(FormatError, match="TFLNEST directory has"):
            decode(content[:size])
    with pytest.raises(FormatError, match="its counts ask for"):
        decode(content + b"\0")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"magic": b"TFLNEST1"}, "starts with b'TFLNEST1'"),
        ({"version": 2}, "format version 2, this tflnest reads version 1"),
        ({"version": 0}, "format version 0"),
        ({"flags": 1}, "flags 0x1"),
        ({"header_size": 72}, "header claims 72 bytes"),
        ({"header_size": 60}, "header claims 60 bytes"),
        ({"levels": 0, "pages": 0}, "claims 0 levels"),
        ({"levels": 9, "pages": 9}, "claims 9 levels"),
        ({"pages": 1}, "claims 2 levels, 1 pages"),
        ({"segments": 1 << 30}, "claims 2 levels, 2 pages, 1073741824 segments"),
        ({"segments": 4}, "its counts ask for"),
        ({"recipe_size": (1 << 32) - 1}, "a recipe of 4294967295 bytes"),
        ({"recipe_size": 17}, "its counts ask for"),
    ],
)
def test_headers_that_make_no_sense(changes, message):
    with pytest.raises(FormatError, match=message):
        decode(with_header(encode(sample()), **changes))


def test_a_newer_version_says_what_to_do():
    with pytest.raises(FormatError) as caught:
        decode(with_header(encode(sample()), version=7))
    assert caught.value.hint == "update tflnest"


def page(base: Directory, number: int, **changes: object) -> Directory:
    pages = list(base.pages)
    pages[number] = replace(pages[number], **changes)
    return replace(base, pages=tuple(pages))


@pytest.mark.parametrize(
    ("directory", "message"),
    [
        (replace(sample(), levels=(8, 4)), "do not increase"),
        (replace(sample(), levels=(4, 4)), "do not increase"),
        (replace(sample(), levels=(0, 8)), r"within 1\.\.8"),
        (replace(sample(), levels=(4, 9)), r"within 1\.\.8"),
        (page(sample(), 1, index=0), "page 1 of the TFLNEST directory is inconsistent"),
        (page(sample(), 1, level=7), "page 1 of the TFLNEST directory is inconsistent"),
        (page(sample(), 0, size=16), "page 0 claims 16 bytes, its segments take 24"),
        (
            page(sample(), 1, segments=(Segment(1, 64, 8),)),
            "segments that belong to no page, or to two",
        ),
    ],
)
def test_tables_that_make_no_sense(directory, message):
    with pytest.raises(FormatError, match=message):
        decode(encode(directory))


def test_page_rows_must_cover_the_segments_in_order():
    content = bytearray(encode(sample()))
    rows = container.HEADER.size + 2 * container.LEVEL.size
    for row, first, count in ((0, 1, 2), (1, 0, 1), (1, 2, 2), (1, 2, 0)):
        changed = bytearray(content)
        start = rows + row * container.PAGE.size
        fields = list(container.PAGE.unpack_from(changed, start))
        fields[4], fields[5] = first, count
        if count == 0:
            fields[2] = 0
        container.PAGE.pack_into(changed, start, *fields)
        with pytest.raises(FormatError, match=r"inconsistent|belong to no page"):
            decode(with_crc(bytes(changed)))


@pytest.mark.parametrize("offset", [1, 2])
def test_reserved_fields_must_be_zero(offset):
    content = bytearray(encode(sample()))
    content[container.HEADER.size + offset] = 1
    with pytest.raises(FormatError, match="reserved"):
        decode(with_crc(bytes(content)))


def test_recipes_are_text():
    content = bytearray(encode(sample()))
    content[-1] = 0xFF
    with pytest.raises(FormatError, match="recipe in the TFLNEST directory is not UTF-8"):
        decode(with_crc(bytes(content)))


def test_a_page_image_is_its_segments_each_padded_to_8():
    content = bytes(range(120))
    image = page_image(content, sample().pages[0])
    assert image == content[64:80] + content[96:101] + b"\0\0\0"


def test_sealed_files_hold_their_own_sizes_crcs_and_identity():
    content = nested(network()).to_bytes()
    directory, offset, _ = directory_of(content)
    for item in directory.pages:
        assert all(segment.offset % 16 == 0 and segment.size > 0 for segment in item.segments)
        assert item.size == len(page_image(content, item))
        assert item.crc32 == zlib.crc32(page_image(content, item))
    blank = content[: offset + 16] + bytes(32) + content[offset + 48 :]
    assert directory.identity == hashlib.sha256(blank).digest()
    assert directory.name == directory.identity.hex()[:12]


def test_sealing_twice_changes_nothing():
    content = nested(network()).to_bytes()
    buffer = metadata_buffer(Model.from_bytes(content).tree, "TFLNEST")
    assert container.seal(content, buffer, flatbuffer.buffer_extents(content)) == content


def test_new_directories_keep_levels_buffers_and_recipe():
    directory = new_directory((4, 8), [[1, 2], [3]], "x = 1")
    assert [item.level for item in directory.pages] == [4, 8]
    assert [[segment.buffer for segment in item.segments] for item in directory.pages] == [[1, 2], [3]]
    assert len(encode(directory)) == len(encode(replace(directory, identity=b"\xff" * 32)))


def test_damaged_pages_are_named():
    content = nested(network()).to_bytes()
    directory, offset, extents = directory_of(content)
    segment = directory.pages[1].segments[0]
    damaged = bytearray(content)
    damaged[segment.offset] ^= 1
    with pytest.raises(FormatError, match=r"page 1 \(level 6\) is damaged: CRC-32 [0-9a-f]{8}, stored is"):
        verify(bytes(damaged), directory, offset, extents)


def test_foreign_and_overlapping_segments_are_refused():
    content = nested(network()).to_bytes()
    directory, offset, extents = directory_of(content)
    segments = directory.pages[0].segments
    for changed in (
        replace(segments[0], offset=segments[0].offset + 16),
        replace(segments[0], size=segments[0].size - 1),
        replace(segments[0], buffer=len(extents)),
        replace(segments[0], buffer=segments[1].buffer),
    ):
        wrong = page(directory, 0, segments=(changed, *segments[1:]))
        with pytest.raises(FormatError, match=r"page 0: buffer \d+ does not lie at"):
            verify(content, wrong, offset, extents)
    huge = page(directory, 0, size=len(content) * 2)
    with pytest.raises(FormatError, match="they overlap"):
        verify(content, huge, offset, extents)


def test_changes_outside_the_pages_are_noticed():
    content = nested(network()).to_bytes()
    directory, offset, extents = directory_of(content)
    damaged = bytearray(content)
    damaged[content.index(b"kept as it is")] ^= 1
    with pytest.raises(FormatError, match="the file was changed after it was made"):
        verify(bytes(damaged), directory, offset, extents)
