"""Pages in flash sectors: erase, program, go on after the power went; `tflnest_sectors.c` of the runtime in Python.

A page begins at the start of a sector, and no other page lies in its sectors. What it consists of is written once, in
order, so that after a loss of power all sectors but the last one with content are complete.
"""

from __future__ import annotations

from dataclasses import dataclass

from firmware_sim.memory import ERASED, Flash, MemoryFaultError
from firmware_sim.target import align_up
from tflnest.bridge.device import Status

#: Bytes behind every page, which are programmed where it is given up; `TFLNEST_SECTORS_MARK_BYTES`.
MARK_BYTES = 8


@dataclass(frozen=True)
class PageRoom:
    """The sectors of one page.

    Attributes:
        flash: Where they are.
        start: Of the first sector, in bytes from the start of the flash.
        size: Bytes of the page.
    """

    flash: Flash
    start: int
    size: int

    @property
    def image(self) -> bytes:
        """What lies there."""
        return self.flash.read(self.start, self.size)

    def accepts(self, offset: int) -> bool:
        """Whether bytes can be written from an offset on, when the sectors behind it have been erased."""
        if offset == 0 or self.is_dropped:
            return offset == 0
        sector = self.flash.sector_bytes
        end = min(align_up(offset, sector), self.flash.size - self.start)
        return self._is_erased(offset, end - offset)

    def erase(self, offset: int) -> Status:
        """Erase what is not, from the first sector that begins at or behind an offset."""
        sector = self.flash.sector_bytes
        for position in range(align_up(offset, sector), self.size + MARK_BYTES, sector):
            count = min(sector, self.flash.size - self.start - position)
            if not self._is_erased(position, count):
                self.flash.erase(self.start + position, count)
        return Status.OK

    def program(self, offset: int, content: bytes) -> Status:
        """Program bytes where everything is erased; offset and count are multiples of 8."""
        if not self._is_erased(offset, len(content)):
            return Status.ERROR_FLASH
        try:
            self.flash.program(self.start + offset, content)
        except MemoryFaultError:
            return Status.ERROR_FLASH
        return Status.OK

    def find(self) -> int:
        """Bytes that lie in sectors which were filled before the power went; 0 where there are none."""
        if self.is_dropped:
            return 0
        end = len(self.image.rstrip(bytes([ERASED])))
        return (end - 1) // self.flash.sector_bytes * self.flash.sector_bytes if end else 0

    def drop(self) -> None:
        """Mark the page, so that it does not count any more, whatever lies there."""
        if not self.is_dropped:
            self.flash.program(self.start + self.size, bytes(MARK_BYTES))

    @property
    def is_dropped(self) -> bool:
        """Whether it is marked so."""
        return not self._is_erased(self.size, MARK_BYTES)

    def _is_erased(self, offset: int, count: int) -> bool:
        return self.flash.read(self.start + offset, count) == bytes([ERASED]) * count
