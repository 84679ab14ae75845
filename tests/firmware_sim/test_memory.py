from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from firmware_sim.memory import Flash, MemoryFaultError, Sram
from tflnest.errors import DoesNotFitError


def test_allocations_are_aligned_and_counted():
    sram = Sram(100, base=0x2000_0000)
    assert (sram.allocate("a", 10).offset, sram.allocate("b", 20).offset) == (0, 16)
    assert (sram.used_bytes, sram.free_bytes, sram.watermark) == (30, 70, 30)
    sram.release("a")
    assert (sram.used_bytes, sram.watermark) == (20, 30)
    assert "a" not in sram
    assert sram.allocate("c", 9).offset == 0


def test_what_does_not_fit_says_by_how_much():
    sram = Sram(64)
    sram.allocate("a", 40)
    with pytest.raises(
        DoesNotFitError, match=r"page 1 needs 30 bytes, and 24 of 64 are free .* short by 6"
    ) as caught:
        sram.allocate("page 1", 30)
    assert (caught.value.memory, caught.value.needed_bytes, caught.value.available_bytes) == ("sram", 70, 64)
    assert sram.used_bytes == 40


def test_a_fragmented_memory_names_the_largest_piece():
    sram = Sram(96)
    for name in "abc":
        sram.allocate(name, 32)
    sram.release("a")
    sram.release("c")
    with pytest.raises(DoesNotFitError, match=r"64 of 96 are free \(32 in one piece\): short by 1 bytes"):
        sram.allocate("d", 33)


def test_regions_hold_bytes_within_their_bounds():
    sram = Sram(64)
    sram.allocate("a", 8)
    sram.write("a", b"abc", 5)
    assert sram.read_region("a") == b"\0" * 5 + b"abc"
    with pytest.raises(MemoryFaultError, match="write of 4 bytes at 5 of a, which has 8"):
        sram.write("a", b"abcd", 5)
    with pytest.raises(MemoryFaultError, match="read of 1 bytes at 0x00000040"):
        sram.read(64, 1)
    with pytest.raises(MemoryFaultError):
        sram.read(-1, 1)


def test_a_name_is_taken_once():
    sram = Sram(64)
    sram.allocate("a", 8)
    with pytest.raises(ValueError, match="'a'"):
        sram.allocate("a", 8)


def test_flash_programs_only_what_is_erased():
    flash = Flash(256, base=0x0800_0000, sector_bytes=64, program_bytes=4)
    assert flash.read(0, 4) == b"\xff" * 4
    flash.program(4, b"\x12\x34\x56\x78")
    assert flash.read(4, 4) == b"\x12\x34\x56\x78"
    with pytest.raises(MemoryFaultError, match="not erased"):
        flash.program(4, b"\xff\xff\xff\xff")
    flash.erase(0, 64)
    flash.program(4, b"\xff\x01\x02\x03")
    assert (flash.erased_bytes, flash.programmed_bytes) == (64, 8)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda flash: flash.erase(0, 32), "erase of 32 bytes"),
        (lambda flash: flash.erase(32, 64), "erase of 64 bytes"),
        (lambda flash: flash.program(2, b"1234"), "words have 4 bytes"),
        (lambda flash: flash.program(252, b"12345678"), "0x080000fc"),
        (lambda flash: flash.read(0, 257), "read of 257 bytes"),
    ],
)
def test_flash_faults(action, message):
    with pytest.raises(MemoryFaultError, match=message):
        action(Flash(256, base=0x0800_0000, sector_bytes=64, program_bytes=4))


class SramMachine(RuleBasedStateMachine):
    """Whatever is allocated and released: regions never overlap, and keep their bytes."""

    def __init__(self):
        super().__init__()
        self.sram = Sram(512)
        self.model: dict[str, bytes] = {}
        self.count = 0

    @rule(size=st.integers(0, 200), fill=st.integers(0, 255))
    def allocate(self, size, fill):
        self.count += 1
        name = f"r{self.count}"
        try:
            self.sram.allocate(name, size)
        except DoesNotFitError:
            assert self.sram.largest_gap_bytes < size
            return
        self.model[name] = bytes([fill]) * size
        self.sram.write(name, self.model[name])

    @rule(pick=st.integers(0, 1000))
    def release(self, pick):
        if self.model:
            name = sorted(self.model)[pick % len(self.model)]
            self.sram.release(name)
            del self.model[name]

    @invariant()
    def consistent(self):
        regions = self.sram.regions()
        assert {region.name: self.sram.read_region(region.name) for region in regions} == self.model
        assert self.sram.used_bytes == sum(map(len, self.model.values())) <= self.sram.size
        occupied = [region for region in regions if region.size]
        for before, after in pairwise(occupied):
            assert before.end <= after.offset
        assert self.sram.watermark >= self.sram.used_bytes


TestSramMachine = SramMachine.TestCase
TestSramMachine.settings = settings(max_examples=40, stateful_step_count=20)
