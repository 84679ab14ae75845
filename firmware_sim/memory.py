"""The memories of a board as hard limits: what does not fit raises, what is out of bounds faults."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tflnest.errors import DoesNotFitError, TflnestError

#: SRAM allocations start at a multiple of this.
ALIGNMENT = 8
ERASED = 0xFF


class MemoryFaultError(TflnestError):
    """An access that the hardware would answer with a fault.

    Args:
        message: What was accessed, and where the memory ends.
    """


@dataclass(frozen=True)
class Region:
    """A named part of a memory.

    Attributes:
        name: What it is for.
        offset: Bytes from the start of the memory.
        size: Bytes.
    """

    name: str
    offset: int
    size: int

    @property
    def end(self) -> int:
        """First byte behind the region."""
        return self.offset + self.size


class _Bytes:
    """Bounds-checked bytes at an address."""

    def __init__(self, kind: str, size: int, base: int, fill: int) -> None:
        self.kind = kind
        self.size = size
        self.base = base
        self._content = bytearray([fill]) * size

    def read(self, offset: int, size: int) -> bytes:
        """Read bytes.

        Raises:
            MemoryFaultError: They do not lie within the memory.
        """
        self._check("read", offset, size)
        return bytes(self._content[offset : offset + size])

    def _check(self, what: str, offset: int, size: int) -> None:
        if size < 0 or offset < 0 or offset + size > self.size:
            raise MemoryFaultError(
                f"{self.kind} fault: {what} of {size:,} bytes at {self.base + offset:#010x}, "
                f"the {self.kind} is {self.base:#010x} to {self.base + self.size:#010x}"
            )


class Sram(_Bytes):
    """SRAM with named allocations.

    Args:
        size: Bytes.
        base: Address of the first byte.
    """

    def __init__(self, size: int, base: int = 0) -> None:
        super().__init__("SRAM", size, base, 0)
        self._regions: dict[str, Region] = {}
        self.watermark = 0

    @property
    def used_bytes(self) -> int:
        """Bytes of all regions."""
        return sum(region.size for region in self._regions.values())

    @property
    def free_bytes(self) -> int:
        """Bytes that no region takes, in one piece or in several."""
        return self.size - self.used_bytes

    @property
    def largest_gap_bytes(self) -> int:
        """The largest region that could be allocated now."""
        return max((size for _, size in self._gaps()), default=0)

    def regions(self) -> list[Region]:
        """All regions, by address."""
        return sorted(self._regions.values(), key=lambda region: region.offset)

    def __contains__(self, name: str) -> bool:
        return name in self._regions

    def allocate(self, name: str, size: int) -> Region:
        """Take the first gap that is large enough.

        Raises:
            DoesNotFitError: There is none.
            ValueError: The name is taken, or the size is negative.
        """
        if name in self._regions or size < 0:
            raise ValueError(f"cannot allocate {size} bytes for {name!r}")
        for offset, room in (*self._gaps(), (self.size, 0)):
            if room >= size:
                region = Region(name, offset, size)
                self._regions[name] = region
                self.watermark = max(self.watermark, self.used_bytes)
                return region
        raise DoesNotFitError(
            f"SRAM: {name} needs {size:,} bytes, and {self.free_bytes:,} of {self.size:,} are free "
            f"({self.largest_gap_bytes:,} in one piece): short by {size - self.largest_gap_bytes:,} bytes",
            memory="sram",
            needed_bytes=self.used_bytes + size,
            available_bytes=self.size,
        )

    def release(self, name: str) -> Region:
        """Give a region back.

        Raises:
            KeyError: There is no such region.
        """
        return self._regions.pop(name)

    def write(self, name: str, content: bytes, offset: int = 0) -> None:
        """Write into a region.

        Raises:
            MemoryFaultError: The bytes do not lie within the region.
        """
        region = self._regions[name]
        if offset < 0 or offset + len(content) > region.size:
            raise MemoryFaultError(
                f"SRAM fault: write of {len(content):,} bytes at {offset:,} of {name}, which has {region.size:,} bytes"
            )
        start = region.offset + offset
        self._content[start : start + len(content)] = content

    def read_region(self, name: str) -> bytes:
        """All bytes of a region."""
        region = self._regions[name]
        return self.read(region.offset, region.size)

    def _gaps(self) -> Iterator[tuple[int, int]]:
        position = 0
        for region in self.regions():
            if region.offset > position:
                yield position, region.offset - position
            position = max(position, -(-region.end // ALIGNMENT) * ALIGNMENT)
        if position < self.size:
            yield position, self.size - position


class Flash(_Bytes):
    """Flash: erased by the sector, programmed by the word, and programming only clears bits.

    Args:
        size: Bytes.
        base: Address of the first byte.
        sector_bytes: Bytes that are erased at once.
        program_bytes: Bytes that are programmed at once.
    """

    def __init__(self, size: int, base: int = 0, sector_bytes: int = 4096, program_bytes: int = 4) -> None:
        super().__init__("flash", size, base, ERASED)
        self.sector_bytes = sector_bytes
        self.program_bytes = program_bytes
        self.erased_bytes = 0
        self.programmed_bytes = 0

    def erase(self, offset: int, size: int) -> None:
        """Set whole sectors to 0xFF.

        Raises:
            MemoryFaultError: The range is not made of whole sectors, or not within the flash.
        """
        self._check("erase", offset, size)
        at_end = offset + size == self.size
        if offset % self.sector_bytes or (size % self.sector_bytes and not at_end):
            raise MemoryFaultError(
                f"flash fault: erase of {size:,} bytes at {offset:,}, sectors have {self.sector_bytes:,} bytes"
            )
        self._content[offset : offset + size] = bytes([ERASED]) * size
        self.erased_bytes += size

    def program(self, offset: int, content: bytes) -> None:
        """Program erased bytes.

        Raises:
            MemoryFaultError: The offset is not that of a word, the range is not within the flash, or a bit would
                have to go from 0 to 1.
        """
        self._check("program", offset, len(content))
        if offset % self.program_bytes:
            raise MemoryFaultError(
                f"flash fault: program at {offset:,}, words have {self.program_bytes} bytes"
            )
        present = int.from_bytes(self._content[offset : offset + len(content)], "little")
        wanted = int.from_bytes(content, "little")
        if present & wanted != wanted:
            raise MemoryFaultError(f"flash fault: program at {offset:,} over bytes that are not erased")
        self._content[offset : offset + len(content)] = content
        self.programmed_bytes += len(content)
