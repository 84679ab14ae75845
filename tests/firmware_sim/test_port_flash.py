"""Drivers of flash sectors against controllers as the manuals describe them: QEMU has that of the nRF51 only."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import pytest

from firmware_sim.board_port import SOURCES

BASE = 0x3000_0000
SECTORS = 4
CHIPS = {"stm32f1": (1, 1024), "stm32f4": (4, 131_072), "nrf51": (51, 1024)}
CONTROLLER = Path(__file__).parent / "firmware" / "flash_controller.c"


class Controller:
    """A driver and the controller that it talks to."""

    def __init__(self, chip: str, folder: Path) -> None:
        number, self.sector_bytes = CHIPS[chip]
        size = SECTORS * self.sector_bytes
        (folder / "port_config.h").write_text(
            f"#define PORT_FLASH_BASE 0x{BASE:08X}u\n#define PORT_FLASH_BYTES {size}u\n"
            f"#define PORT_FLASH_SECTOR_BYTES {self.sector_bytes}u\n"
        )
        source = folder / f"{chip}.c"
        source.write_text(f'#include "{CONTROLLER}"\n#include "{SOURCES}/port_flash_{chip}.c"\n')
        unused = ["-Wno-unused-function", "-Wno-unused-variable"]
        warnings = ["-Wall", "-Wextra", "-Wconversion", "-Wno-sign-conversion", "-Werror", *unused]
        command = ["gcc", "-std=c99", "-O1", "-shared", "-fPIC", *warnings, f"-DCHIP={number}", f"-I{folder}"]
        library = folder / f"{chip}.so"
        subprocess.run([*command, f"-I{SOURCES}", str(source), "-o", str(library)], check=True)
        self.library = ctypes.CDLL(str(library))
        if not self.library.start():
            pytest.skip("the memory of the test is taken")

    def erase(self, offset: int) -> int:
        return int(self.library.port_flash_erase(ctypes.c_void_p(BASE + offset)))

    def program(self, offset: int, content: bytes) -> int:
        return int(self.library.port_flash_program(ctypes.c_void_p(BASE + offset), content))

    def read(self, offset: int, size: int) -> bytes:
        return ctypes.string_at(BASE + offset, size)

    def count(self, name: str) -> int:
        return ctypes.c_uint32.in_dll(self.library, name).value


@pytest.fixture(params=CHIPS)
def controller(request: pytest.FixtureRequest, tmp_path: Path) -> Controller:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    return Controller(request.param, tmp_path)


def test_drivers_erase_and_program_by_the_manual(controller: Controller) -> None:
    sector = controller.sector_bytes
    assert controller.erase(sector) == controller.erase(3 * sector) == 0
    assert controller.read(sector, sector) == controller.read(3 * sector, sector) == b"\xff" * sector
    assert controller.read(2 * sector, sector) == bytes(sector)
    for start in (sector, sector + 8, 4 * sector - 8):
        content = bytes((start >> 3) + value & 0xFF for value in b"\x01\xff\x80\x55\xaa\x00\x7f\xfe")
        assert controller.program(start, content) == 0
        assert controller.read(start, 8) == content
    assert controller.library.is_at_rest()
    assert (controller.count("violations"), controller.count("erases")) == (0, 2)
    assert controller.count("writes") >= 5


def test_what_flash_cannot_do_is_reported(controller: Controller) -> None:
    sector = controller.sector_bytes
    assert controller.erase(sector) == 0
    assert controller.program(sector, bytes(8)) == 0
    assert controller.program(sector, b"\1" * 8) != 0
    assert controller.read(sector, 8) == bytes(8)


def test_what_lies_elsewhere_is_not_touched(controller: Controller) -> None:
    sector = controller.sector_bytes
    assert [controller.erase(offset) for offset in (sector + 8, SECTORS * sector, -sector)] == [-1, -1, -1]
    assert [controller.program(offset, bytes(8)) for offset in (4, SECTORS * sector, -8)] == [-1, -1, -1]
    assert controller.count("erases") == controller.count("writes") == 0


def test_flash_that_is_not_there_is_reported(controller: Controller) -> None:
    ctypes.c_uint32.in_dll(controller.library, "is_dead").value = 1
    assert controller.erase(controller.sector_bytes) != 0
    assert controller.program(controller.sector_bytes, b"\1" * 8) != 0
