"""Pages of a nested model on a board: where each one lies, and how it comes and goes.

A page rests in one of three places:

* `flash`: it is programmed into flash once and read where it lies; switching levels moves nothing;
* `sram`: it is sent over the link at the start and kept in a slot of SRAM; switching levels moves nothing;
* `host`: it is sent over the link into a slot of SRAM when it is paged in, and dropped when it is paged out.

The pager holds the real bytes. A page counts as resident only after its CRC-32 matched, and reading a page
that is not resident raises, so that nothing can run on bits that the board does not have.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from firmware_sim.memory import Flash, Sram
from firmware_sim.target import align_up
from tflnest.container import Directory, Page
from tflnest.errors import DoesNotFitError, UsageError, VerificationError
from tflnest.pages import PageNotResidentError, PageSource

#: Pages in flash start at a multiple of this.
PAGE_ALIGNMENT = 16


class Placement(StrEnum):
    """Where a page rests."""

    FLASH = "flash"
    SRAM = "sram"
    HOST = "host"


@dataclass
class Counters:
    """Bytes that the pager moved.

    Attributes:
        page_ins: Pages that became resident.
        page_outs: Pages that stopped being resident.
        loaded_bytes: Bytes written into SRAM.
        dropped_bytes: Bytes given back.
        link_bytes: Bytes that came over the link from the host.
    """

    page_ins: int = 0
    page_outs: int = 0
    loaded_bytes: int = 0
    dropped_bytes: int = 0
    link_bytes: int = 0


@dataclass(frozen=True)
class Transfer:
    """What one page-in or page-out did.

    Attributes:
        page: Index of the page.
        placement: Where the page rests.
        incoming: Whether the page became resident (page-in) or stopped being so (page-out).
        moved_bytes: Bytes written into SRAM, or given back.
        link_bytes: Bytes that came over the link.
    """

    page: int
    placement: Placement
    incoming: bool
    moved_bytes: int = 0
    link_bytes: int = 0


#: Called after every page-in and page-out.
Listener = Callable[[Transfer], None]


def _nobody(_transfer: Transfer) -> None:
    """A `Listener` that does nothing."""


class Pager:
    """Holds the pages of a nested model; a `PageSource` for an engine.

    Args:
        directory: Directory of the model.
        images: Where the bytes of all pages come from: the file.
        sram: SRAM of the board; slots of pages are allocated in it.
        flash: Flash of the board, erased from `flash_offset` on.
        placement: Where each page rests; a page that is not named rests in flash.
        flash_offset: First free byte of the flash.
        listener: Told after every page-in and page-out.
    """

    def __init__(
        self,
        directory: Directory,
        images: PageSource,
        sram: Sram,
        flash: Flash,
        placement: Mapping[int, Placement] | None = None,
        flash_offset: int = 0,
        listener: Listener = _nobody,
    ) -> None:
        self.directory = directory
        self.counters = Counters()
        self._images = images
        self._sram = sram
        self._flash = flash
        self._next_flash = flash_offset
        self._listener = listener
        self._flash_offsets: dict[int, int] = {}
        self._resident: set[int] = set()
        given = dict(placement or {})
        self._placement = {page.index: Placement(given.pop(page.index, "flash")) for page in directory.pages}
        if given:
            raise UsageError(f"page {min(given)} is placed, and the model has {len(directory.pages)} pages")

    # ---------------------------------------------------------------------------------------- state

    @property
    def resident_pages(self) -> tuple[int, ...]:
        """Pages that can be read, in order."""
        return tuple(sorted(self._resident))

    @property
    def level(self) -> int | None:
        """The highest level whose pages are all resident; None where not even the base page is."""
        reached = None
        for page in self.directory.pages:
            if page.index not in self._resident:
                break
            reached = page.level
        return reached

    def placement(self, page: int) -> Placement:
        """Where a page rests."""
        return self._placement[self._page(page).index]

    def read(self, page: int) -> bytes:
        """The image of a resident page; see `PageSource`.

        Raises:
            PageNotResidentError: The page is not resident.
        """
        entry = self._page(page)
        if page not in self._resident:
            raise PageNotResidentError(page, entry.level)
        if page in self._flash_offsets:
            return self._flash.read(self._flash_offsets[page], entry.size)
        return self._sram.read_region(_slot(page))

    # ---------------------------------------------------------------------------------------- moves

    def start(self) -> list[Transfer]:
        """Install what rests on the board: program flash, fill the slots of pages that rest in SRAM.

        Raises:
            DoesNotFitError: A memory is too small.
            VerificationError: The CRC-32 of a page is wrong.
        """
        return [
            self.page_in(page.index)
            for page in self.directory.pages
            if self._placement[page.index] is not Placement.HOST
        ]

    def page_in(self, page: int) -> Transfer:
        """Make a page resident. Where that fails, nothing has changed.

        Raises:
            DoesNotFitError: The memory it goes to is too small.
            VerificationError: Its CRC-32 is wrong.
        """
        entry, placement = self._page(page), self._placement[page]
        if page in self._resident:
            return Transfer(page, placement, incoming=True)
        moved = link = 0
        if placement is Placement.FLASH:
            if page not in self._flash_offsets:
                self._program(entry)
        else:
            self._load(entry)
            moved = link = entry.size
        self._resident.add(page)
        self.counters.page_ins += 1
        self.counters.loaded_bytes += moved
        self.counters.link_bytes += link
        return self._report(Transfer(page, placement, True, moved, link))

    def page_out(self, page: int) -> Transfer:
        """Give a page up. A page in flash stays there, and paging it in again costs nothing.

        Raises:
            PageNotResidentError: The page is not resident.
        """
        entry, placement = self._page(page), self._placement[page]
        if page not in self._resident:
            raise PageNotResidentError(page, entry.level)
        self._resident.remove(page)
        moved = 0
        if placement is not Placement.FLASH:
            self._sram.release(_slot(page))
            moved = entry.size
        self.counters.page_outs += 1
        self.counters.dropped_bytes += moved
        return self._report(Transfer(page, placement, False, moved))

    def switch(self, level: int) -> list[Transfer]:
        """Make a level runnable, and give up the pages from the host that it does not need.

        Pages above the level that rest in flash or SRAM stay resident: they cost nothing more.

        Raises:
            UsageError: The model has no such level.
            DoesNotFitError: The SRAM is too small.
            VerificationError: The CRC-32 of a page is wrong.
        """
        if level not in self.directory.levels:
            names = ", ".join(str(name) for name in self.directory.levels)
            raise UsageError(f"the model has no level {level}", f"levels: {names}")
        top = self.directory.levels.index(level)
        drop = [
            page for page in sorted(self._resident, reverse=True)
            if page > top and self._placement[page] is Placement.HOST
        ]  # fmt: skip
        transfers = [self.page_out(page) for page in drop]
        transfers += [self.page_in(page) for page in range(top + 1) if page not in self._resident]
        return transfers

    # ---------------------------------------------------------------------------------------- details

    def _report(self, transfer: Transfer) -> Transfer:
        self._listener(transfer)
        return transfer

    def _page(self, page: int) -> Page:
        if not 0 <= page < len(self.directory.pages):
            raise UsageError(f"page {page} does not exist, the model has {len(self.directory.pages)}")
        return self.directory.pages[page]

    def _image(self, entry: Page) -> bytes:
        image = self._images.read(entry.index)
        crc = zlib.crc32(image)
        if len(image) != entry.size or crc != entry.crc32:
            raise VerificationError(
                f"page {entry.index} (level {entry.level}) has {len(image):,} bytes with CRC-32 {crc:08x}, "
                f"the directory says {entry.size:,} with {entry.crc32:08x}",
                "the page was not taken over; send it again",
            )
        return image

    def _load(self, entry: Page) -> None:
        image = self._image(entry)
        self._sram.allocate(_slot(entry.index), entry.size)
        self._sram.write(_slot(entry.index), image)

    def _program(self, entry: Page) -> None:
        image = self._image(entry)
        start = align_up(self._next_flash, max(PAGE_ALIGNMENT, self._flash.program_bytes))
        if start + entry.size > self._flash.size:
            raise DoesNotFitError(
                f"flash: page {entry.index} needs {entry.size:,} bytes at {start:,}, and the flash has "
                f"{self._flash.size:,}: short by {start + entry.size - self._flash.size:,} bytes",
                memory="flash",
                needed_bytes=start + entry.size,
                available_bytes=self._flash.size,
            )
        self._flash.program(start, image)
        self._flash_offsets[entry.index] = start
        self._next_flash = start + entry.size


def _slot(page: int) -> str:
    """Name of the SRAM region of a page."""
    return f"page {page}"
