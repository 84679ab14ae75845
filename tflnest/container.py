"""The TFLNEST metadata entry: the page directory of a nested file.

FORMAT.md is the specification; the struct layouts and limits live here and nowhere else. The directory
names, for every page, the buffers of the flatbuffer that the page is made of, so that pages can be cut out
of the file, checked and sent without parsing the flatbuffer.

`seal` fills in what is only known once the flatbuffer is laid out: offsets, sizes, CRCs and the identity.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tflnest.errors import FormatError

METADATA_NAME = "TFLNEST"
MAGIC = b"TFLNEST\0"
VERSION = 1
HEADER = struct.Struct("<8sHHI32sHHIII")
LEVEL = struct.Struct("<BBH")
PAGE = struct.Struct("<HHIIII")
SEGMENT = struct.Struct("<III")
IDENTITY_OFFSET = 16
CRC_OFFSET = HEADER.size - 4

#: Every buffer lies at a multiple of this in the file, as the TFLite schema asks.
BUFFER_ALIGNMENT = 16

#: Every segment of a page image starts at a multiple of this, so that a page can be used where it lies.
SEGMENT_ALIGNMENT = 8
MAX_LEVELS = 8
MAX_SEGMENTS = 1 << 20
MAX_RECIPE_BYTES = 1 << 20


@dataclass(frozen=True)
class Segment:
    """A part of a page: one whole buffer of the flatbuffer.

    Attributes:
        buffer: Index of the buffer.
        offset: Byte offset of its data in the file.
        size: Bytes of its data.
    """

    buffer: int
    offset: int = 0
    size: int = 0

    @property
    def image_size(self) -> int:
        """Bytes in the page image, zero padding included."""
        return -(-self.size // SEGMENT_ALIGNMENT) * SEGMENT_ALIGNMENT


@dataclass(frozen=True)
class Page:
    """A unit of transfer and residency.

    Page 0 is the base page: the higher bits and every other constant of the model. Page i > 0 holds what
    lifts level i - 1 to level i.

    Attributes:
        index: Position in the directory.
        level: Nominal bits of the level that the page completes.
        size: Bytes of the page image.
        crc32: CRC-32 of the page image.
        segments: The buffers it is made of, in image order.
    """

    index: int
    level: int
    size: int
    crc32: int
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class Directory:
    """Levels and pages of a nested file.

    Attributes:
        version: Format version.
        identity: SHA-256 of the file with these 32 bytes set to zero; names the model everywhere.
        levels: Nominal bit-widths, increasing, one per page.
        pages: One per level.
        recipe: The recipe that made the file (TOML).
    """

    version: int
    identity: bytes
    levels: tuple[int, ...]
    pages: tuple[Page, ...]
    recipe: str

    @property
    def name(self) -> str:
        """The identity, short enough for people: the first 12 hexadecimal digits."""
        return self.identity.hex()[:12]


def new_directory(levels: Sequence[int], page_buffers: Sequence[Sequence[int]], recipe: str) -> Directory:
    """A directory for a file that is not laid out yet; `seal` completes it.

    Args:
        levels: Nominal bit-widths, increasing.
        page_buffers: For each level the buffer indices of its page, in image order.
        recipe: TOML text.
    """
    pages = tuple(
        Page(index, level, 0, 0, tuple(Segment(buffer) for buffer in buffers))
        for index, (level, buffers) in enumerate(zip(levels, page_buffers, strict=True))
    )
    return Directory(VERSION, bytes(32), tuple(levels), pages, recipe)


def encode(directory: Directory) -> bytes:
    """The bytes of the metadata entry. Their number depends only on counts and on the recipe's length."""
    recipe = directory.recipe.encode("utf-8")
    segments = [segment for page in directory.pages for segment in page.segments]
    parts = [LEVEL.pack(level, 0, 0) for level in directory.levels]
    first = 0
    for page in directory.pages:
        parts.append(PAGE.pack(page.index, page.level, page.size, page.crc32, first, len(page.segments)))
        first += len(page.segments)
    parts.extend(SEGMENT.pack(segment.buffer, segment.offset, segment.size) for segment in segments)
    body = b"".join(parts) + recipe

    def header(identity: bytes, crc: int) -> bytes:
        counts = (len(directory.levels), len(directory.pages), len(segments), len(recipe))
        return HEADER.pack(MAGIC, directory.version, HEADER.size, 0, identity, *counts, crc)

    crc = zlib.crc32(header(bytes(32), 0) + body)
    return header(directory.identity, crc) + body


def decode(content: bytes) -> Directory:
    """Read the metadata entry; sizes, versions and the directory's own CRC are checked.

    Raises:
        FormatError: It is truncated, corrupt or of an unknown version.
    """
    if len(content) < HEADER.size:
        raise FormatError(
            f"the TFLNEST directory has {len(content)} bytes, its header alone takes {HEADER.size}"
        )
    magic, version, header_size, flags, identity, levels, pages, segments, recipe_size, crc = (
        HEADER.unpack_from(content)
    )
    if magic != MAGIC:
        raise FormatError(f"the TFLNEST directory starts with {magic!r}, expected {MAGIC!r}")
    if version != VERSION:
        raise FormatError(
            f"the nested file has format version {version}, this tflnest reads version {VERSION}",
            "update tflnest",
        )
    if header_size != HEADER.size or flags != 0:
        raise FormatError(
            f"the TFLNEST header claims {header_size} bytes and flags {flags:#x}, which version 1 does not have"
        )
    if (
        not 1 <= levels <= MAX_LEVELS
        or pages != levels
        or segments > MAX_SEGMENTS
        or recipe_size > MAX_RECIPE_BYTES
    ):
        raise FormatError(
            f"the TFLNEST directory claims {levels} levels, {pages} pages, {segments} segments and a recipe of {recipe_size} bytes"
        )
    expected = header_size + levels * LEVEL.size + pages * PAGE.size + segments * SEGMENT.size + recipe_size
    if len(content) != expected:
        raise FormatError(
            f"the TFLNEST directory has {len(content):,} bytes, its counts ask for {expected:,}"
        )
    blank = bytearray(content)
    blank[IDENTITY_OFFSET : IDENTITY_OFFSET + 32] = bytes(32)
    blank[CRC_OFFSET : CRC_OFFSET + 4] = bytes(4)
    if zlib.crc32(blank) != crc:
        raise FormatError(
            f"the TFLNEST directory is damaged: CRC-32 {zlib.crc32(blank):08x}, stored is {crc:08x}"
        )
    return _decode_tables(content, header_size, identity, (levels, pages, segments))


def _decode_tables(content: bytes, start: int, identity: bytes, counts: tuple[int, int, int]) -> Directory:
    level_count, page_count, segment_count = counts
    level_rows = [LEVEL.unpack_from(content, start + i * LEVEL.size) for i in range(level_count)]
    levels = tuple(row[0] for row in level_rows)
    if any(reserved for row in level_rows for reserved in row[1:]):
        raise FormatError("the TFLNEST levels use reserved fields", "the file may be newer than this tflnest")
    if any(not 1 <= level <= 8 for level in levels) or list(levels) != sorted(set(levels)):
        raise FormatError(f"the TFLNEST levels {list(levels)} do not increase within 1..8")
    start += level_count * LEVEL.size
    page_rows = [PAGE.unpack_from(content, start + i * PAGE.size) for i in range(page_count)]
    start += page_count * PAGE.size
    segments = [
        Segment(*SEGMENT.unpack_from(content, start + i * SEGMENT.size)) for i in range(segment_count)
    ]
    start += segment_count * SEGMENT.size
    pages = []
    next_segment = 0
    for number, (index, level, size, crc, first, count) in enumerate(page_rows):
        if (
            index != number
            or level != levels[number]
            or first != next_segment
            or first + count > segment_count
        ):
            raise FormatError(f"page {number} of the TFLNEST directory is inconsistent: {page_rows[number]}")
        own = tuple(segments[first : first + count])
        if sum(segment.image_size for segment in own) != size:
            raise FormatError(
                f"page {number} claims {size:,} bytes, its segments take {sum(s.image_size for s in own):,}"
            )
        next_segment = first + count
        pages.append(Page(index, level, size, crc, own))
    if next_segment != segment_count or len({segment.buffer for segment in segments}) != segment_count:
        raise FormatError("the TFLNEST directory has segments that belong to no page, or to two")
    try:
        recipe = content[start:].decode("utf-8")
    except UnicodeDecodeError as error:
        raise FormatError(f"the recipe in the TFLNEST directory is not UTF-8: {error}") from None
    return Directory(VERSION, identity, levels, tuple(pages), recipe)


def page_image(content: bytes, page: Page) -> bytes:
    """The bytes of a page as they are stored on a board and sent: segments, each padded with zeros to 8.

    Args:
        content: The whole file.
        page: A page of its directory.
    """
    parts = [
        content[segment.offset : segment.offset + segment.size].ljust(segment.image_size, b"\0")
        for segment in page.segments
    ]
    return b"".join(parts)


def file_identity(content: bytes, directory_offset: int) -> bytes:
    """SHA-256 of a file with the identity field of its directory set to zero."""
    start = directory_offset + IDENTITY_OFFSET
    digest = hashlib.sha256(memoryview(content)[:start])
    digest.update(bytes(32))
    digest.update(memoryview(content)[start + 32 :])
    return digest.digest()


def seal(content: bytes, directory_buffer: int, extents: Sequence[tuple[int, int]]) -> bytes:
    """Fill in offsets, sizes, CRCs and the identity of a laid-out file.

    Args:
        content: A flatbuffer whose metadata entry holds an encoded directory, complete or not.
        directory_buffer: Index of the buffer with the directory.
        extents: Offset and size of the data of every buffer in the file.

    Returns:
        The same file with the directory completed; its length does not change.
    """
    start, size = extents[directory_buffer]
    draft = _decode_draft(content[start : start + size])
    pages = []
    for page in draft.pages:
        segments = tuple(Segment(segment.buffer, *extents[segment.buffer]) for segment in page.segments)
        complete = replace(page, segments=segments, size=sum(segment.image_size for segment in segments))
        pages.append(replace(complete, crc32=zlib.crc32(page_image(content, complete))))
    sealed = replace(draft, identity=bytes(32), pages=tuple(pages))
    unsigned = content[:start] + encode(sealed) + content[start + size :]
    identity = file_identity(unsigned, start)
    return content[:start] + encode(replace(sealed, identity=identity)) + content[start + size :]


def _decode_draft(content: bytes) -> Directory:
    """Read a directory whose sizes may be stale: only its structure counts."""
    header = HEADER.unpack_from(content)
    levels, pages, segments = header[5:8]
    start = header[2]
    level_values = tuple(LEVEL.unpack_from(content, start + i * LEVEL.size)[0] for i in range(levels))
    start += levels * LEVEL.size
    rows = [PAGE.unpack_from(content, start + i * PAGE.size) for i in range(pages)]
    start += pages * PAGE.size
    buffers = [SEGMENT.unpack_from(content, start + i * SEGMENT.size)[0] for i in range(segments)]
    start += segments * SEGMENT.size
    page_buffers = [buffers[first : first + count] for *_, first, count in rows]
    return new_directory(level_values, page_buffers, content[start:].decode("utf-8"))


def verify(
    content: bytes,
    directory: Directory,
    directory_offset: int,
    extents: Sequence[tuple[int, int]],
    has_lower_pages: bool = True,
) -> None:
    """Check a directory against the file that it lies in.

    Args:
        content: The file.
        directory: Its directory.
        directory_offset: Where it lies.
        extents: Offset and size of every buffer.
        has_lower_pages: False where the contents of all pages but the base page are yet to come.

    Raises:
        FormatError: A segment is not the buffer it names, a page's CRC is wrong, or the file was changed.
    """
    total = sum(page.size for page in directory.pages)
    if total > len(content) + SEGMENT_ALIGNMENT * sum(len(page.segments) for page in directory.pages):
        raise FormatError(f"the pages claim {total:,} bytes of a file of {len(content):,}: they overlap")
    for page in directory.pages:
        for segment in page.segments:
            if segment.buffer >= len(extents) or extents[segment.buffer] != (segment.offset, segment.size):
                raise FormatError(
                    f"page {page.index}: buffer {segment.buffer} does not lie at {segment.offset:,} with {segment.size:,} bytes"
                )
            if segment.size == 0 or segment.offset % BUFFER_ALIGNMENT:
                raise FormatError(
                    f"page {page.index}: buffer {segment.buffer} has {segment.size:,} bytes at {segment.offset:,}; "
                    f"a segment has data, at a multiple of {BUFFER_ALIGNMENT}"
                )
        crc = zlib.crc32(page_image(content, page))
        if crc != page.crc32 and (page.index == 0 or has_lower_pages):
            raise FormatError(
                f"page {page.index} (level {page.level}) is damaged: CRC-32 {crc:08x}, stored is {page.crc32:08x}",
                "get the file again from where it was made",
            )
    identity = file_identity(content, directory_offset)
    if identity != directory.identity and has_lower_pages:
        raise FormatError(
            f"the file was changed after it was made: SHA-256 {identity.hex()[:12]}…, stored is {directory.name}…",
            "get the file again from where it was made",
        )
