"""Pages in flash sectors, through ctypes: the rules of flash, and power that goes at any moment."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firmware_sim.memory import Flash
from firmware_sim.sectors import PageRoom
from tests.runtime.test_pager import ARGUMENT, IN_USE, OK, RESIDENT, RUNTIME, Bytes, Device, PageRow, State

FLASH = -9
SECTOR = 32
UNIT = 8
#: The base page leaves no room for its mark in its last sector but one.
SIZES = (96, 56, 104)
SEED = 7

STORE_FUNCTIONS = ("accepts", "erase", "program", "find", "drop", "is_dropped")
ERASE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
PROGRAM = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_uint8 * UNIT))


class Sectors(ctypes.Structure):
    _fields_ = [("sector_bytes", ctypes.c_uint32), ("erase", ERASE), ("program", PROGRAM)]


class Store(ctypes.Structure):
    _fields_ = [("context", ctypes.c_void_p), *((name, ctypes.c_void_p) for name in STORE_FUNCTIONS)]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    target = tmp_path_factory.mktemp("sectors") / "sectors.so"
    sources = [str(RUNTIME / "src" / f"tflnest_{name}.c") for name in ("pager", "sectors", "crc32")]
    flags = [
        "-std=c99",
        "-shared",
        "-fPIC",
        "-Wall",
        "-Wextra",
        "-Wconversion",
        "-Wdouble-promotion",
        "-Werror",
    ]
    sanitizers = ["-fsanitize=undefined", "-fno-sanitize-recover=all"]
    command = ["gcc", *flags, *sanitizers, f"-I{RUNTIME / 'include'}", *sources, "-o", str(target)]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(target))


class FlashDevice(Device):
    """All pages lie in flash sectors, whose rules are enforced; power may go at any erase or program."""

    def __init__(self, library: ctypes.CDLL) -> None:
        super().__init__(library, SIZES)
        self.images[2][:UNIT] = 0
        self.images[1][16:40] = 0xFF  # bytes that are not programmed at all
        self.starts = [0, 4 * SECTOR, 6 * SECTOR]
        self.flash = np.zeros(10 * SECTOR, np.uint8)  # whatever was there before
        self.operations = 0
        self.power_goes_at = -1
        self.powered = True
        self.refuses = False
        self.erased: list[int] = []
        self.generator = np.random.default_rng(SEED)
        self.sectors = Sectors(SECTOR, ERASE(self._erase), PROGRAM(self._program))
        names = STORE_FUNCTIONS
        functions = (
            ctypes.cast(getattr(library, f"tflnest_sectors_{name}"), ctypes.c_void_p) for name in names
        )
        self.store = Store(ctypes.addressof(self.sectors), *functions)
        self.description.stored_pages = 7
        self.description.store = ctypes.addressof(self.store)
        for page, (start, image) in enumerate(zip(self.starts, self.images, strict=True)):
            place = ctypes.cast(self.flash.ctypes.data + start, Bytes)
            self.pages[page] = PageRow(place, None, image.size, zlib.crc32(image.tobytes()))

    def _happens(self) -> bool:
        """Whether an operation is done as a whole; where power goes, it is cut off."""
        self.operations += 1
        return self.operations != self.power_goes_at

    def _erase(self, address: int) -> int:
        start = address - self.flash.ctypes.data
        assert start % SECTOR == 0 and 0 <= start < self.flash.size
        if not self.powered or self.refuses:
            return 1
        sector = self.flash[start : start + SECTOR]
        assert (sector != 0xFF).any(), "a sector that is erased is worn for nothing"
        self.erased.append(start // SECTOR)
        whole = self._happens()
        sector[:] = 0xFF if whole else sector | self.generator.integers(0, 256, SECTOR, np.uint8)
        self.powered = whole
        return 0

    def _program(self, address: int, content: Any) -> int:
        start = address - self.flash.ctypes.data
        assert start % UNIT == 0 and 0 <= start < self.flash.size
        if not self.powered or self.refuses:
            return 1
        wanted = np.frombuffer(content.contents, np.uint8)
        place = self.flash[start : start + UNIT]
        assert (place == 0xFF).all(), "programmed over what is not erased"
        whole = self._happens()
        place &= wanted if whole else wanted | self.generator.integers(0, 256, UNIT, np.uint8)
        self.powered = whole
        return 0

    def boot(self) -> None:
        """Power comes, and the processor begins anew."""
        self.powered, self.power_goes_at = True, -1
        self.state = State()
        assert self.start() == OK
        resident = self.call("resident")
        for page, (start, image) in enumerate(zip(self.starts, self.images, strict=True)):
            if resident >> page & 1:
                assert self.flash[start : start + image.size].tobytes() == image.tobytes()

    def transfer(self, page: int, have: int = 0) -> Iterator[int]:
        """Send a page from an offset on in small pieces; gives the offset after each."""
        image = self.images[page].tobytes()
        if self.begin(page, have) != OK:
            return
        while have < len(image):
            piece = image[have : have + 3 * UNIT]
            if self.write(page, have, piece) != OK:
                return
            have += len(piece)
            yield have
        self.call("complete", page)

    def push(self) -> int:
        """What a host does: send what is not resident, go on where that is right. Returns the bytes that it sent."""
        sent = 0
        for page, image in enumerate(self.images):
            if not self.powered or self.call("resident") >> page & 1:
                continue
            have = self.call("found", page)
            start = self.starts[page]
            prefix = self.flash[start : start + have].tobytes()
            if zlib.crc32(prefix) != zlib.crc32(image.tobytes()[:have]):
                have = 0
            sent -= have
            for have in self.transfer(page, have):  # noqa: B007, B020
                pass
            sent += have
        return sent


@pytest.fixture
def device(library: ctypes.CDLL) -> FlashDevice:
    made = FlashDevice(library)
    made.boot()
    return made


def test_pages_come_run_and_survive(device: FlashDevice) -> None:
    assert device.call("resident") == device.call("level") == 0
    assert device.push() == sum(SIZES)
    assert device.erased == list(range(10))
    assert (device.call("resident"), device.call("level")) == (7, 4)
    device.boot()
    assert (device.call("resident"), device.call("level")) == (7, 8)
    assert device.call("unused_bytes") == 0


def test_what_was_given_up_does_not_come_back(device: FlashDevice) -> None:
    device.push()
    device.boot()
    assert device.call("evict", 2) == IN_USE
    assert device.call("set_level", 4) == OK
    for page in (2, 1):
        worn = len(device.erased)
        assert device.call("evict", page) == OK
        assert len(device.erased) == worn
    device.boot()
    assert (device.call("resident"), device.call("level")) == (1, 4)
    assert device.call("found", 1) == 0
    device.push()
    device.boot()
    assert device.call("level") == 8


def test_a_transfer_that_was_given_up_is_not_found(device: FlashDevice) -> None:
    transfer = device.transfer(1)
    assert [next(transfer), next(transfer)] == [24, 48]
    assert device.call("evict", 1) == OK
    device.boot()
    assert device.call("found", 1) == 0


def test_a_boot_alone_wears_nothing(device: FlashDevice) -> None:
    transfer = device.transfer(0)
    assert [next(transfer), next(transfer), next(transfer)] == [24, 48, 72]
    worn = len(device.erased)
    for _ in range(3):
        device.boot()
        assert device.call("found", 0) == 2 * SECTOR
        assert device.begin(0, 2 * SECTOR) == OK
    assert len(device.erased) == worn
    assert device.push() == sum(SIZES) - 2 * SECTOR
    assert len(device.erased) == worn + 7


def test_bytes_cannot_follow_what_is_not_erased(device: FlashDevice) -> None:
    transfer = device.transfer(1)
    next(transfer)
    assert device.begin(1, 8) == ARGUMENT
    assert device.begin(1, 24) == OK


def test_flash_that_refuses_is_reported(device: FlashDevice) -> None:
    device.refuses = True
    assert device.begin(1) == FLASH
    device.refuses = False
    assert device.begin(1) == OK
    device.refuses = True
    assert device.write(1, 0, device.images[1].tobytes()) == FLASH
    assert device.write(1, 0, device.images[1].tobytes()) == -3  # the transfer is over
    device.refuses = False
    device.push()
    assert device.call("resident") == 7


def test_power_may_go_at_any_moment(library: ctypes.CDLL) -> None:
    whole = FlashDevice(library)
    whole.boot()
    whole.push()
    kept = 0
    for moment in range(1, whole.operations + 1):
        device = FlashDevice(library)
        device.boot()
        device.power_goes_at = moment
        sent = device.push()
        assert not device.powered
        device.boot()
        again = device.push()
        assert device.call("resident") == 7
        # Nothing that lies in complete sectors is sent twice; the bytes of a write that was cut off were not counted.
        assert sent + again <= sum(SIZES) + SECTOR
        kept += again < sum(SIZES)
    assert kept > whole.operations // 2


def test_power_may_go_again_and_again(device: FlashDevice) -> None:
    for attempt in range(1, 200):
        device.power_goes_at = device.operations + 3 + attempt % 5
        device.push()
        if device.powered:
            break
        device.boot()
    assert device.call("resident") == 7


steps = st.one_of(
    st.tuples(st.just("begin"), st.integers(0, 2), st.sampled_from([0, 8, 24, 32, 64, 96])),
    st.tuples(st.just("write"), st.integers(0, 2), st.integers(0, 6)),
    st.tuples(st.just("complete"), st.integers(0, 2)),
    st.tuples(st.just("evict"), st.integers(0, 2)),
    st.tuples(st.just("set_level"), st.sampled_from([4, 6, 8])),
    st.tuples(st.just("push")),
    st.tuples(st.just("boot")),
    st.tuples(st.just("power"), st.integers(1, 12)),
    st.tuples(st.just("refuse"), st.booleans()),
)


@settings(max_examples=200)
@given(st.lists(steps, max_size=40))
def test_whatever_happens_only_whole_pages_are_resident(
    library: ctypes.CDLL, script: list[tuple[Any, ...]]
) -> None:
    device = FlashDevice(library)
    device.boot()
    for step in script:
        _perform(device, step)
        if not device.powered:
            device.boot()
        resident = device.call("resident")
        for page, (start, image) in enumerate(zip(device.starts, device.images, strict=True)):
            if resident >> page & 1:
                assert device.flash[start : start + image.size].tobytes() == image.tobytes()
        if resident & 1:
            first, second = device.run()
            assert all(resident >> page & 1 for page in range(max(first, (0, 2)[second]) + 1))
        else:
            assert device.call("invoke") == RESIDENT
    device.refuses = False
    device.boot()
    device.push()
    assert device.call("resident") == 7


def _perform(device: FlashDevice, step: tuple[Any, ...]) -> None:
    name, *values = step
    if name in ("push", "boot"):
        getattr(device, name)()
    elif name == "power":
        device.power_goes_at = device.operations + values[0]
    elif name == "refuse":
        device.refuses = values[0]
    elif name == "begin":
        device.begin(values[0], values[1])
    elif name == "write":
        page, pieces = values
        have = device.call("offset")
        device.write(page, have, device.images[page].tobytes()[have : have + UNIT * pieces])
    else:
        device.call(name, *values)


def test_python_and_c_find_the_same(device: FlashDevice) -> None:
    generator = np.random.default_rng(SEED)
    flash = Flash(device.flash.size, sector_bytes=SECTOR)
    start = device.starts[1]
    for _ in range(60):
        content = np.full(device.flash.size, 0xFF, np.uint8)
        length = int(generator.integers(0, SIZES[1] + 1))
        content[start : start + length] = generator.integers(0, 256, length) & 0x0F
        if generator.integers(0, 4) == 0:
            content[start + SIZES[1] : start + SIZES[1] + UNIT] = 0
        device.flash[:] = content
        flash.erase(0, flash.size)
        flash.program(0, content.tobytes())
        room = PageRoom(flash, start, SIZES[1])
        assert room.find() == device.call("found", 1)
        for offset in range(0, SIZES[1] + 1, UNIT):
            assert room.accepts(offset) == (device.begin(1, offset) == OK or offset == 0)
            device.flash[:] = content
