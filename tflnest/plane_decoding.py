"""Planes as an encoding of TensorFlow Lite Micro's operator TFLM_DECODE: all levels of a filter in one file.

TFLM leaves the types from 128 on to applications. Ours stands for the planes of a nested filter, or for the biases of its
levels: the encoded tensor holds those of all levels, lowest level first, and the ancillary tensor says how they are cut.
The component for TFLM (`tflnest_tflm_decode.h`) decodes the level that was chosen, everything else the highest one.
FORMAT.md, section 16, is the specification; the layouts live here, and the C header is written from them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tflnest.container import MAX_LEVELS, Directory
from tflnest.errors import FormatError, UnsupportedError, UsageError
from tflnest.lookup_table import DECODE
from tflnest.nesting import Nesting, Scheme
from tflnest.packing import packed_bytes, unpack

#: Type of the encoding, the first byte of the ancillary tensor; TFLM gives 128 to 255 to applications.
TYPE = 0xCE

#: Version of what TFLM itself reads of the ancillary tensor, and of what follows that.
COMMON_VERSION = 1
LAYOUT_VERSION = 1

#: Type, version, reserved, layout version, scheme, own levels, levels of the model, reserved, bits of the own levels,
#: position of the own level for each level of the model.
HEADER = struct.Struct(f"<BBHBBBB8s{MAX_LEVELS}s{MAX_LEVELS}s")

#: Of each own level: where plane and bias lie in the page images, the pages of plane and bias, reserved.
ROW = struct.Struct("<IIBBH")

#: Metadata entry with the levels and pages of the nested file that the model was made from.
METADATA_NAME = "TFLNEST_DECODE"
MAGIC = b"TFLNDEC\0"
PAGES_VERSION = 1

#: Magic, version, header size, number of levels, reserved, identity of the nested file.
PAGES_HEADER = struct.Struct("<8sHHHH32s")

#: Of each level: bits, reserved, reserved, size and CRC-32 of its page image.
PAGES_ROW = struct.Struct("<BBHII")


@dataclass(frozen=True)
class Places:
    """Where plane and bias of an own level lie in the nested file's page images.

    Attributes:
        plane_page: Page of the plane.
        plane: Offset in its image.
        bias_page: Page of the bias; 0 where the biases are not decoded.
        bias: Offset in its image; 0 where the biases are not decoded.
    """

    plane_page: int
    plane: int
    bias_page: int = 0
    bias: int = 0


@dataclass(frozen=True)
class PlaneEncoding:
    """What the ancillary tensor says.

    Attributes:
        nesting: Own levels and scheme.
        model_levels: For each level of the model the position of the own level that it runs.
        places: One per own level.
    """

    nesting: Nesting
    model_levels: tuple[int, ...]
    places: tuple[Places, ...]

    def to_bytes(self) -> bytes:
        """The ancillary tensor."""
        levels, scheme = self.nesting.levels, list(Scheme).index(self.nesting.scheme)
        counts = (len(levels), len(self.model_levels))
        fixed = (TYPE, COMMON_VERSION, 0, LAYOUT_VERSION, scheme, *counts, bytes(8))
        rows = (ROW.pack(item.plane, item.bias, item.plane_page, item.bias_page, 0) for item in self.places)
        return HEADER.pack(*fixed, bytes(levels), bytes(self.model_levels)) + b"".join(rows)

    @classmethod
    def from_bytes(cls, content: bytes) -> PlaneEncoding:
        """Read an ancillary tensor.

        Raises:
            FormatError: It contradicts itself.
            UnsupportedError: It is of another type or version.
        """
        if len(content) < HEADER.size:
            raise FormatError(
                f"the ancillary data of {DECODE} has {len(content)} bytes, {HEADER.size} begin it"
            )
        kind, version, zero, layout, scheme, count, model_count, zeros, levels, model_levels = (
            HEADER.unpack_from(content)
        )
        if (kind, version, layout) != (TYPE, COMMON_VERSION, LAYOUT_VERSION):
            raise UnsupportedError(
                f"{DECODE} has an encoding of kind {kind}, version {layout}: only {TYPE}, {LAYOUT_VERSION} is nested"
            )
        positions = tuple(model_levels[:model_count])
        if (
            zero
            or any(zeros)
            or scheme >= len(Scheme)
            or not 1 <= model_count <= MAX_LEVELS
            or not 1 <= count <= MAX_LEVELS
            or len(content) != HEADER.size + count * ROW.size
            or any(levels[count:])
            or any(model_levels[model_count:])
            or list(positions) != sorted(positions)
            or positions[-1] != count - 1
        ):
            raise FormatError(f"the ancillary data of {DECODE} contradicts itself")
        try:
            nesting = Nesting(tuple(levels[:count]), list(Scheme)[scheme])
        except UsageError as error:
            raise FormatError(f"the ancillary data of {DECODE}: {error.message}") from error
        rows = [ROW.unpack_from(content, HEADER.size + i * ROW.size) for i in range(count)]
        if any(row[-1] for row in rows):
            raise FormatError(f"the ancillary data of {DECODE} contradicts itself")
        places = tuple(
            Places(plane_page, plane, bias_page, bias) for plane, bias, plane_page, bias_page, _ in rows
        )
        return cls(nesting, positions, places)

    def decode_weights(self, encoded: NDArray[np.uint8], count: int) -> NDArray[np.int8]:
        """The weights of the highest level whose planes are there.

        Args:
            encoded: The planes, one behind the other; the last ones may be absent.
            count: Number of weights.

        Returns:
            int8 (count,).

        Raises:
            FormatError: The planes have other sizes, or join to values outside int8.
        """
        codes: list[NDArray[np.uint8]] = []
        start = 0
        for plane in self.nesting.planes:
            size = packed_bytes(count, plane.bits)
            if start == encoded.size and codes:
                break
            if start + size > encoded.size:
                raise FormatError(f"{encoded.size:,} bytes end inside a plane of {count:,} weights")
            codes.append(unpack(encoded[start : start + size], plane.bits, count))
            start += size
        if start != encoded.size:
            raise FormatError(f"{encoded.size:,} bytes are more than the planes of {count:,} weights")
        return self.nesting.join(codes, self.nesting.levels[len(codes) - 1])

    def decode_bias(self, encoded: NDArray[np.uint8], channels: int) -> NDArray[np.int32]:
        """The bias of the highest level whose bias is there.

        Args:
            encoded: The biases, little-endian, one behind the other; the last ones may be absent.
            channels: Elements of each.

        Returns:
            int32 (channels,).

        Raises:
            FormatError: They have other sizes.
        """
        size = 4 * channels
        if size == 0 or encoded.size % size or not size <= encoded.size <= len(self.places) * size:
            raise FormatError(f"{encoded.size:,} bytes are no biases of {channels:,} channels")
        return encoded[-size:].view("<i4").astype(np.int32)


def encode_pages(directory: Directory, count: int) -> bytes:
    """The metadata entry of a model that has the first levels of a nested file.

    Args:
        directory: Of the nested file.
        count: How many levels.
    """
    header = PAGES_HEADER.pack(MAGIC, PAGES_VERSION, PAGES_HEADER.size, count, 0, directory.identity)
    rows: Sequence[bytes] = [
        PAGES_ROW.pack(page.level, 0, 0, page.size, page.crc32) for page in directory.pages[:count]
    ]
    return header + b"".join(rows)
