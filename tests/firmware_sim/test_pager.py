from __future__ import annotations

import zlib

import pytest

from firmware_sim.memory import Flash, Sram
from firmware_sim.pager import Pager, Placement
from tflnest.container import Directory, Page
from tflnest.errors import DoesNotFitError, UsageError, VerificationError
from tflnest.pages import PageNotResidentError

IMAGES = [bytes([number]) * size for number, size in ((1, 96), (2, 40), (3, 64))]


class Images:
    """A `PageSource` over the three images; `broken` damages one of them on the way."""

    def __init__(self) -> None:
        self.broken: int | None = None

    def read(self, page: int) -> bytes:
        image = IMAGES[page]
        return image[:-1] + b"?" if page == self.broken else image


def directory() -> Directory:
    pages = tuple(
        Page(i, level, len(IMAGES[i]), zlib.crc32(IMAGES[i]), ()) for i, level in enumerate((4, 6, 8))
    )
    return Directory(1, bytes(32), (4, 6, 8), pages, "")


def make(placement, sram_bytes=256, flash_bytes=512, **options):
    sram, flash = Sram(sram_bytes), Flash(flash_bytes, sector_bytes=64)
    images = Images()
    rest = {1: placement, 2: placement}
    return Pager(directory(), images, sram, flash, rest, flash_offset=100, **options), sram, flash, images


def test_pages_in_flash_are_always_there_and_move_nothing():
    pager, sram, flash, _ = make(Placement.FLASH)
    pager.start()
    assert (pager.resident_pages, pager.level) == ((0, 1, 2), 8)
    assert [pager.read(page) for page in range(3)] == IMAGES
    assert flash.read(112, 96) == IMAGES[0]
    for level in (4, 8, 6):
        assert pager.switch(level) == []
    assert sram.used_bytes == pager.counters.link_bytes == 0


def test_pages_in_sram_come_once():
    pager, sram, _, _ = make(Placement.SRAM)
    transfers = pager.start()
    assert [(item.page, item.moved_bytes, item.link_bytes) for item in transfers] == [
        (0, 0, 0),
        (1, 40, 40),
        (2, 64, 64),
    ]
    assert sram.used_bytes == 104
    assert pager.switch(4) == pager.switch(8) == []
    assert pager.counters.link_bytes == 104
    assert pager.read(2) == IMAGES[2]


def test_pages_on_the_host_come_and_go():
    heard = []
    pager, sram, _, _ = make(Placement.HOST, listener=heard.append)
    pager.start()
    assert (pager.resident_pages, pager.level, sram.used_bytes) == ((0,), 4, 0)
    assert [item.page for item in pager.switch(8)] == [1, 2]
    assert (pager.level, sram.used_bytes, pager.read(1)) == (8, 104, IMAGES[1])
    assert [(item.page, item.incoming, item.moved_bytes) for item in pager.switch(6)] == [(2, False, 64)]
    assert (pager.level, sram.used_bytes) == (6, 40)
    pager.switch(4)
    counters = pager.counters
    assert (counters.page_ins, counters.page_outs) == (3, 2)
    assert (counters.loaded_bytes, counters.dropped_bytes, counters.link_bytes) == (104, 104, 104)
    assert [(item.page, item.incoming) for item in heard] == [
        (0, True),
        (1, True),
        (2, True),
        (2, False),
        (1, False),
    ]


def test_what_is_not_resident_cannot_be_read():
    pager, *_ = make(Placement.HOST)
    with pytest.raises(PageNotResidentError, match="page 0, which level 4 needs"):
        pager.read(0)
    pager.start()
    with pytest.raises(PageNotResidentError, match="page 2, which level 8 needs"):
        pager.read(2)
    with pytest.raises(PageNotResidentError):
        pager.page_out(2)
    pager.page_in(2)
    # Page 2 alone lifts nothing: level 8 needs page 1 as well.
    assert pager.level == 4


def test_a_page_out_of_flash_hides_the_page_and_keeps_the_bytes():
    pager, _, flash, _ = make(Placement.FLASH)
    pager.start()
    programmed = flash.programmed_bytes
    pager.page_out(2)
    assert pager.level == 6
    with pytest.raises(PageNotResidentError):
        pager.read(2)
    pager.page_in(2)
    assert (pager.level, flash.programmed_bytes) == (8, programmed)


@pytest.mark.parametrize("placement", list(Placement))
def test_a_wrong_page_is_refused_and_changes_nothing(placement):
    pager, sram, _, images = make(placement)
    images.broken = 1
    with pytest.raises(VerificationError, match=r"page 1 \(level 6\) has 40 bytes with CRC-32"):
        pager.start()
        pager.switch(8)
    assert pager.resident_pages == (0,)
    assert sram.used_bytes == 0
    images.broken = None
    pager.page_in(1)
    assert pager.read(1) == IMAGES[1]


def test_a_full_sram_changes_nothing():
    pager, sram, _, _ = make(Placement.HOST, sram_bytes=90)
    pager.start()
    with pytest.raises(DoesNotFitError, match="page 2 needs 64 bytes") as caught:
        pager.switch(8)
    assert caught.value.memory == "sram"
    assert (pager.resident_pages, sram.used_bytes) == ((0, 1), 40)


def test_a_full_flash():
    pager, *_ = make(Placement.FLASH, flash_bytes=256)
    with pytest.raises(
        DoesNotFitError, match="page 2 needs 64 bytes at 256, and the flash has 256"
    ) as caught:
        pager.start()
    assert caught.value.memory == "flash"


def test_paging_in_twice_is_harmless():
    pager, sram, _, _ = make(Placement.HOST)
    pager.start()
    pager.page_in(1)
    assert pager.page_in(1).moved_bytes == 0
    assert (sram.used_bytes, pager.counters.page_ins) == (40, 2)


def test_unknown_levels_and_pages():
    pager, *_ = make(Placement.HOST)
    with pytest.raises(UsageError, match="no level 5"):
        pager.switch(5)
    for action in (pager.read, pager.page_in, pager.page_out, pager.placement):
        with pytest.raises(UsageError, match="page 3 does not exist"):
            action(3)
    with pytest.raises(UsageError, match="page 9 is placed"):
        Pager(directory(), Images(), Sram(8), Flash(8), {9: Placement.HOST})
