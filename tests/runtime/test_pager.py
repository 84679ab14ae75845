"""The pager in C, through ctypes: what it refuses, and that what fails changes nothing that runs."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

RUNTIME = Path(__file__).resolve().parents[2] / "tflnest" / "runtime"
OK, ARGUMENT, LEVEL, PAGE, RESIDENT, IN_USE, CRC, IDENTITY, SIZE = (0, -1, -2, -3, -4, -5, -6, -7, -8)
LEVELS = (4, 6, 8)
INVOKE = ctypes.CFUNCTYPE(None, ctypes.POINTER(ctypes.c_uint8))
NOTHING = 255

Bytes = ctypes.POINTER(ctypes.c_uint8)


class PageRow(ctypes.Structure):
    _fields_ = [("image", Bytes), ("slot", Bytes), ("size", ctypes.c_uint32), ("crc32", ctypes.c_uint32)]


class OperatorRow(ctypes.Structure):
    _fields_ = [
        ("levels", Bytes),
        ("pages", Bytes),
        ("model_levels", Bytes),
        ("index", ctypes.c_uint16),
        ("level_count", ctypes.c_uint8),
    ]


class Description(ctypes.Structure):
    _fields_ = [
        ("magic", ctypes.c_uint32),
        ("version", ctypes.c_uint16),
        ("level_count", ctypes.c_uint8),
        ("stored_pages", ctypes.c_uint8),
        ("operator_count", ctypes.c_uint16),
        ("input_count", ctypes.c_uint16),
        ("output_count", ctypes.c_uint16),
        ("identity", ctypes.c_uint8 * 32),
        ("levels", Bytes),
        ("pages", ctypes.POINTER(PageRow)),
        ("store", ctypes.c_void_p),
        ("operators", ctypes.POINTER(OperatorRow)),
        ("inputs", ctypes.c_void_p),
        ("outputs", ctypes.c_void_p),
        ("positions", Bytes),
        ("invoke", INVOKE),
    ]


class State(ctypes.Structure):
    _fields_ = [
        ("model", ctypes.c_void_p),
        ("offset", ctypes.c_uint32),
        ("resident", ctypes.c_uint8),
        ("needed", ctypes.c_uint8),
        ("level", ctypes.c_uint8),
        ("is_mixed", ctypes.c_uint8),
        ("page", ctypes.c_uint8),
        ("is_erased", ctypes.c_uint8),
    ]


def build(folder: Path, *flags: str) -> ctypes.CDLL:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    target = folder / "pager.so"
    sources = [str(RUNTIME / "src" / f"tflnest_{name}.c") for name in ("pager", "crc32")]
    warnings = ("-Wall", "-Wextra", "-Wconversion", "-Wdouble-promotion", "-Werror")
    command = ["gcc", "-std=c99", "-shared", "-fPIC", *warnings, *flags, f"-I{RUNTIME / 'include'}", *sources]
    subprocess.run([*command, "-o", str(target)], check=True)
    return ctypes.CDLL(str(target))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    return build(tmp_path_factory.mktemp("pager"), "-fsanitize=undefined", "-fno-sanitize-recover=all")


class Device:
    """A model of three pages, the base page in flash, with two operators, and a pager of its own."""

    def __init__(self, library: ctypes.CDLL, sizes: tuple[int, ...] = (48, 24, 40)) -> None:
        self.library = library
        generator = np.random.default_rng(1)
        self.identity = bytes(range(32))
        self.images = [generator.integers(0, 256, size, np.uint8) for size in sizes]
        self.slots = [np.full(size, 0xA5, np.uint8) for size in sizes]
        self.runs: list[tuple[int, ...]] = []
        self.positions = np.zeros(2, np.uint8)
        self.state = State()
        self._kept: list[Any] = []
        self.pages = (PageRow * 3)(*(self._page(number) for number in range(3)))
        self.operators = (OperatorRow * 2)(
            self._operator((4, 6, 8), (0, 1, 2), (0, 1, 2)), self._operator((6, 8), (0, 2), (0, 0, 1))
        )
        invoke = INVOKE(lambda positions: self.runs.append((positions[0], positions[1])))
        self._kept.append(invoke)
        self.description = Description(
            0x4E4C4654, 2, 3, 0, 2, 0, 0, (ctypes.c_uint8 * 32)(*self.identity), self._bytes(LEVELS),
            self.pages, None, self.operators, None, None, _pointer(self.positions), invoke,
        )  # fmt: skip

    def _bytes(self, values: tuple[int, ...]) -> Any:
        array = (ctypes.c_uint8 * len(values))(*values)
        self._kept.append(array)
        return ctypes.cast(array, Bytes)

    def _page(self, number: int) -> PageRow:
        image, slot = self.images[number], self.slots[number]
        crc = zlib.crc32(image.tobytes())
        if number == 0:
            return PageRow(_pointer(image), None, image.size, crc)
        return PageRow(None, _pointer(slot), image.size, crc)

    def _operator(
        self, levels: tuple[int, ...], pages: tuple[int, ...], model_levels: tuple[int, ...]
    ) -> OperatorRow:
        return OperatorRow(self._bytes(levels), self._bytes(pages), self._bytes(model_levels), 0, len(levels))

    def call(self, name: str, *arguments: Any) -> int:
        return int(getattr(self.library, f"tflnest_pager_{name}")(ctypes.byref(self.state), *arguments))

    def start(self) -> int:
        return self.call("start", ctypes.byref(self.description))

    def begin(
        self, page: int, offset: int = 0, size: int | None = None, identity: bytes | None = None
    ) -> int:
        size = len(self.images[page]) if size is None else size
        return self.call("begin", identity or self.identity, page, size, offset)

    def write(self, page: int, offset: int, data: bytes) -> int:
        return self.call("write", page, offset, data, len(data))

    def send(self, page: int) -> None:
        assert self.begin(page) == OK
        assert self.write(page, 0, self.images[page].tobytes()) == OK
        assert self.call("complete", page) == OK

    def run(self) -> tuple[int, ...]:
        assert self.call("invoke") == OK
        return self.runs[-1]


def _pointer(array: Any) -> Any:
    return array.ctypes.data_as(Bytes)


@pytest.fixture
def device(library: ctypes.CDLL) -> Device:
    made = Device(library)
    assert made.start() == OK
    return made


def test_the_base_page_alone_runs_the_lowest_level(device: Device) -> None:
    assert device.call("resident") == 1
    assert device.call("level") == 4
    assert device.run() == (0, 0)


def test_pages_come_and_go(device: Device) -> None:
    assert device.call("set_level", 6) == RESIDENT
    device.send(1)
    assert device.call("level") == 4  # only the caller changes levels
    assert device.call("set_level", 6) == OK
    assert device.run() == (1, 0)
    assert device.call("evict", 1) == IN_USE
    device.send(2)
    assert device.call("set_level", 8) == OK
    assert device.run() == (2, 1)
    assert device.call("set_level", 4) == OK
    assert device.call("evict", 2) == OK
    assert device.call("evict", 2) == RESIDENT
    assert device.call("set_level", 8) == RESIDENT
    assert device.run() == (0, 0)


def test_operators_have_levels_of_their_own(device: Device) -> None:
    assert device.call("set_operator_level", 1, 8) == RESIDENT
    device.send(1)
    device.send(2)
    assert device.call("set_operator_level", 1, 8) == OK
    assert device.call("level") == 0
    assert [device.call("operator_level", row) for row in range(3)] == [4, 8, 0]
    assert device.run() == (0, 1)
    assert device.call("evict", 1) == IN_USE
    assert device.call("set_operator_level", 1, 4) == LEVEL
    assert device.call("set_operator_level", 2, 8) == ARGUMENT
    assert device.call("set_level", 6) == OK
    assert device.call("level") == 6
    assert device.run() == (1, 0)


def test_a_corrupt_page_never_becomes_resident(device: Device) -> None:
    damaged = bytearray(device.images[1].tobytes())
    damaged[7] ^= 0x10
    assert device.begin(1) == OK
    assert device.write(1, 0, bytes(damaged)) == OK
    assert device.call("complete", 1) == CRC
    assert device.call("resident") == 1
    assert device.call("set_level", 6) == RESIDENT
    assert device.run() == (0, 0)
    assert device.call("complete", 1) == PAGE  # the transfer is over
    device.send(1)


def test_verify_notices_what_was_damaged_later(device: Device) -> None:
    device.send(1)
    assert [device.call("verify", page) for page in range(4)] == [OK, OK, RESIDENT, PAGE]
    device.slots[1][3] ^= 1
    assert device.call("verify", 1) == CRC


def test_the_device_owns_the_offset(device: Device) -> None:
    image = device.images[1].tobytes()
    assert device.write(1, 0, image) == PAGE
    assert device.begin(1) == OK
    assert device.write(1, 0, image[:8]) == OK
    assert device.write(1, 0, image[:8]) == ARGUMENT
    assert device.write(1, 16, image[16:]) == ARGUMENT
    assert device.call("offset") == 8
    assert device.call("complete", 1) == SIZE
    assert device.write(1, 8, image[8:] + bytes(8)) == SIZE
    assert device.write(2, 8, image[8:]) == PAGE
    assert device.write(1, 8, image[8:]) == OK
    assert device.call("complete", 1) == OK
    assert device.begin(1) == IN_USE


def test_a_transfer_goes_on_where_it_stopped(device: Device) -> None:
    image = device.images[2].tobytes()
    device.slots[2][:16] = np.frombuffer(image[:16], np.uint8)
    assert device.begin(2, offset=16) == OK
    assert device.write(2, 16, image[16:]) == OK
    assert device.call("complete", 2) == OK


def test_foreign_pages_are_refused(device: Device) -> None:
    other = bytearray(device.identity)
    other[31] ^= 1
    assert device.begin(1, identity=bytes(other)) == IDENTITY
    assert device.begin(1, size=16) == SIZE
    assert device.begin(1, offset=25) == SIZE
    assert device.begin(0) == PAGE  # rests in flash
    assert device.call("begin", device.identity, 3, 24, 0) == PAGE
    assert device.call("begin", device.identity, 0xFFFFFFFF, 24, 0) == PAGE
    assert device.call("evict", 0) == PAGE
    assert device.call("evict", 3) == PAGE
    assert device.call("set_level", 5) == LEVEL


def test_a_transfer_is_given_up(device: Device) -> None:
    assert device.begin(1) == OK
    assert device.call("evict", 1) == OK
    assert device.write(1, 0, bytes(8)) == PAGE
    assert device.begin(1) == OK
    assert device.begin(2) == OK
    assert device.write(1, 0, bytes(8)) == PAGE


def test_pages_survive_a_reset(device: Device) -> None:
    device.send(1)
    device.state = State()
    assert device.start() == OK
    assert device.call("resident") == 3
    assert device.call("level") == 6


def test_what_was_paged_out_does_not_come_back_with_a_reset(device: Device) -> None:
    device.send(1)
    device.call("set_level", 4)
    assert device.call("evict", 1) == OK
    device.state = State()
    assert device.start() == OK
    assert device.call("resident") == 1


def test_a_damaged_base_page_is_not_run(library: ctypes.CDLL) -> None:
    device = Device(library)
    device.images[0][5] ^= 2
    assert device.start() == CRC
    assert device.call("invoke") == ARGUMENT
    assert device.call("set_level", 4) == ARGUMENT
    assert device.begin(1) == ARGUMENT
    assert device.call("resident") == 0
    assert device.runs == []


def test_the_base_page_may_come_too(library: ctypes.CDLL) -> None:
    device = Device(library)
    device.pages[0] = PageRow(None, _pointer(device.slots[0]), 48, device.pages[0].crc32)
    assert device.start() == OK
    assert device.call("resident") == device.call("level") == 0
    assert device.call("invoke") == device.call("set_level", 4) == RESIDENT
    assert device.call("set_operator_level", 0, 4) == RESIDENT
    assert device.call("unused_bytes") == 48 + 24 + 40
    device.send(1)
    assert (device.call("level"), device.call("unused_bytes")) == (0, 48 + 40)
    device.send(0)
    assert (device.call("level"), device.call("unused_bytes")) == (6, 40)
    assert device.run() == (1, 0)
    assert device.begin(2) == OK
    assert device.call("unused_bytes") == 0
    assert device.call("set_level", 4) == OK
    assert [device.call("evict", page) for page in (0, 1, 2)] == [IN_USE, OK, OK]
    assert device.call("unused_bytes") == 24 + 40


def test_a_page_without_content_is_always_there(library: ctypes.CDLL) -> None:
    device = Device(library, sizes=(48, 0, 40))
    assert device.start() == OK
    assert device.call("resident") == 3


@pytest.mark.parametrize(
    ("field", "value", "status"),
    [
        ("magic", 0x4E4C4655, ARGUMENT),
        ("version", 1, ARGUMENT),
        ("stored_pages", 2, ARGUMENT),
        ("level_count", 0, ARGUMENT),
        ("level_count", 9, ARGUMENT),
        ("levels", None, ARGUMENT),
        ("pages", None, ARGUMENT),
        ("operators", None, ARGUMENT),
        ("positions", None, ARGUMENT),
        ("invoke", INVOKE(), ARGUMENT),
    ],
)
def test_a_wrong_description_is_refused(library: ctypes.CDLL, field: str, value: Any, status: int) -> None:
    device = Device(library)
    setattr(device.description, field, value)
    assert device.start() == status
    assert device.call("invoke") == ARGUMENT


@pytest.mark.parametrize(
    ("levels", "pages", "model_levels"),
    [
        ((6, 4, 8), (0, 1, 2), (0, 1, 2)),
        ((4, 6, 9), (0, 1, 2), (0, 1, 2)),
        ((4, 6, 8), (0, 2, 1), (0, 1, 2)),
        ((4, 6, 8), (0, 1, 3), (0, 1, 2)),
        ((4, 6, 8), (0, 1, 2), (0, 2, 1)),
        ((4, 6, 8), (0, 1, 2), (0, 1, 3)),
        ((4, 6, 8), (0, 2, 2), (0, 1, 2)),
    ],
)
def test_a_contradictory_operator_is_refused(
    library: ctypes.CDLL, levels: tuple[int, ...], pages: tuple[int, ...], model_levels: tuple[int, ...]
) -> None:
    device = Device(library)
    device.operators[0] = device._operator(levels, pages, model_levels)
    assert device.start() == ARGUMENT


def test_page_sizes_are_multiples_of_eight(library: ctypes.CDLL) -> None:
    device = Device(library)
    device.pages[1].size = 20
    assert device.start() == SIZE


small = st.integers(0, 4)
numbers = st.one_of(small, st.integers(0, 0xFFFFFFFF))
steps = st.one_of(
    st.tuples(st.just("begin"), numbers, numbers, st.sampled_from([24, 40, 0, 0xFFFFFFF8])),
    st.tuples(st.just("write"), numbers, st.sampled_from([0, 8, 16, 24, 32, 0xFFFFFFF8]), st.integers(0, 64)),
    st.tuples(st.just("complete"), numbers),
    st.tuples(st.just("evict"), numbers),
    st.tuples(st.just("set_level"), st.integers(0, 9)),
    st.tuples(st.just("set_operator_level"), small, st.integers(0, 9)),
    st.tuples(st.just("send"), st.integers(1, 2)),
)


@settings(max_examples=150)
@given(st.lists(steps, max_size=30))
def test_whatever_is_asked_only_intact_resident_pages_run(
    library: ctypes.CDLL, script: list[tuple[Any, ...]]
) -> None:
    device = Device(library)
    assert device.start() == OK
    for step in script:
        _perform(device, step)
        resident = device.call("resident")
        assert resident & 1
        for page in (1, 2):
            if resident >> page & 1:
                assert np.array_equal(device.slots[page], device.images[page])
        first, second = device.run()
        needed = max((0, 1, 2)[first], (0, 2)[second])
        assert all(resident >> page & 1 for page in range(needed + 1))


def _perform(device: Device, step: tuple[Any, ...]) -> None:
    name, *values = step
    if name == "begin":
        page, offset, size = values
        resident = page < 3 and device.call("resident") >> page & 1
        assert device.call("begin", device.identity, page, size, offset) != OK or not resident
    elif name == "write":
        page, offset, count = values
        device.write(page, offset, bytes(count))
    elif name == "send":
        if not device.call("resident") >> values[0] & 1:
            device.send(values[0])
    else:
        device.call(name, *values)
