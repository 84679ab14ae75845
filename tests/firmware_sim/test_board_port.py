from __future__ import annotations

import re
from dataclasses import fields, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firmware_sim.board import Board, list_boards
from firmware_sim.board_port import SOURCES, cover, port_files
from firmware_sim.fault import FIELDS, Fault
from tests.shared import ROOT
from tflnest.errors import UsageError

UNIT = 32


def allowed(regions, size):
    """Units of the memory that some region allows, read from the registers as the processor does."""
    units = bytearray(size // UNIT)
    for region in regions:
        base, attributes = region.registers(0)
        assert attributes & 1
        length = 2 << (attributes >> 1 & 31)
        assert length >= UNIT and base % length == 0
        disabled = attributes >> 8 & 0xFF
        assert length >= 256 or disabled == 0
        for eighth in range(8):
            if not disabled >> eighth & 1:
                start, end = (base + length * k // 8 for k in (eighth, eighth + 1))
                units[start // UNIT : max(end // UNIT, start // UNIT + 1)] = b"\1" * max(
                    (end - start) // UNIT, 1
                )
    return units


@given(st.integers(1, 1 << 13))
def test_regions_allow_exactly_the_memory(units):
    size = units * UNIT
    assert allowed(cover(0, size), 2 * size) == b"\1" * units + b"\0" * units


@pytest.mark.parametrize("size", [20 * 1024, 4 << 20, 20 * 1024 + 96, 65_536 + 32])
def test_common_sizes_take_few_regions(size):
    regions = cover(0x2000_0000, size)
    assert sum(region.covered_bytes for region in regions) == size
    assert len(regions) <= 4


def test_sizes_that_cannot_be_protected_are_refused():
    with pytest.raises(UsageError, match="20,001 bytes cannot be protected"):
        cover(0, 20_001)
    board = Board.load("mps2-an386").with_limits(sram_bytes=(4 << 20) - 32)
    with pytest.raises(UsageError, match=r"take 9 regions .* which has 8"):
        port_files(board)


@pytest.mark.parametrize("name", [name for name in list_boards() if Board.load(name).port])
def test_the_profile_says_every_address_once(name):
    board = Board.load(name)
    files = port_files(board)
    config, script = files["port_config.h"], files["port.ld"]
    assert f"#define PORT_UART_BASE 0x{board.port.uart_base:08X}u" in config
    assert f"#define PORT_SRAM_BYTES {board.sram_bytes}u" in config
    assert f"ORIGIN = 0x{board.flash_base:08X}, LENGTH = {board.flash_bytes}" in script
    assert "$" not in script
    assert ("PORT_MPU_REGIONS" in config) == board.port.has_mpu
    for other, text in files.items():
        if other.endswith(".c"):
            assert f"{board.port.uart_base:08X}" not in text and f"0x{board.sram_base:08X}" not in text
    assert port_files(board) == files


def test_every_source_belongs_to_a_board():
    used = {name for board in map(Board.load, list_boards()) if board.port for name in port_files(board)}
    assert used == {path.name for path in SOURCES.iterdir()} | {"port_config.h"}


def test_the_documentation_has_every_board():
    text = (ROOT / "PORTS.md").read_text()
    rows = re.findall(r"^\| ([a-z0-9-]+) \| (Cortex-M\d+) \| (.*) \| (.*) \| (.*) \|$", text, re.MULTILINE)
    boards = {board.name: board for board in map(Board.load, list_boards()) if board.port}
    assert {name for name, *_ in rows} == set(boards)
    for name, core, pins, beyond, machine in rows:
        board = boards[name]
        assert (core.lower(), pins, machine) == (board.core, board.port.pins, board.emulator.machine)
        assert ("MPU" in beyond) == board.port.has_mpu


def test_a_board_without_a_port_says_so():
    with pytest.raises(UsageError, match="no firmware port for the board rp2040"):
        port_files(Board.load("rp2040"))


@pytest.mark.parametrize("kind", ["chip", "uart", "timer"])
def test_an_unknown_driver_is_named(kind):
    board = Board.load("microbit")
    odd = replace(board, port=replace(board.port, **{kind: "../x"}))
    with pytest.raises(UsageError, match=f"no port for the {kind} '../x'") as caught:
        port_files(odd)
    assert "nrf51" in (caught.value.hint or "")


def test_the_fault_record_is_that_of_the_header():
    text = (SOURCES / "port.h").read_text()
    declared = text[text.index("typedef struct {") : text.index("} port_fault;")]
    names = [line.split()[1].rstrip(";") for line in declared.splitlines() if "uint32_t" in line]
    assert tuple(names) == FIELDS == tuple(field.name for field in fields(Fault))
