"""The C sources of a board's port: fixed files, and a configuration and linker script from its profile.

`firmware_sim/ports` holds the sources, `port.h` is what firmware may call. Addresses and sizes are written
down once, in the profile.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from string import Template

from firmware_sim.board import Board, Port
from tflnest.device.sources import included
from tflnest.errors import UsageError
from tflnest.files import read_file

SOURCES = Path(__file__).parent / "ports"

CONFIG = "port_config.h"
LINKER_SCRIPT = "port.ld"
#: Sources that every board has.
COMMON = ("port_startup.c", "port_serial.c")
#: Source of boards with a driver for the flash's sectors.
FLASH = "port_flash.c"
HEADERS = ("port.h", "port_driver.h")
#: So begin headers that several drivers of the flash include.
_DRIVER_PREFIX = "port_flash_"

#: Vectors 0 to 15 are the core's; SysTick is the last of them.
CORE_VECTORS = 16
SYSTICK_VECTOR = 15

#: The protection unit has 8 regions: one for flash, one for peripherals, the others for SRAM.
MPU_REGIONS = 8
_SMALLEST_REGION = 32
_SMALLEST_DIVIDED_REGION = 256
_EIGHTHS = 8

_PERIPHERAL_BASE = 0x4000_0000
_PERIPHERAL_BYTES = 0x2000_0000

# Region attributes of Armv7-M: access permission, execute never, memory type.
_ENABLE = 1
_FLASH_ATTRIBUTES = 0b110 << 24 | 0b000_010 << 16  # read-only, normal memory
_SRAM_ATTRIBUTES = 1 << 28 | 0b001 << 24 | 0b000_110 << 16  # read and write, never executed, normal memory
_DEVICE_ATTRIBUTES = 1 << 28 | 0b001 << 24 | 0b000_001 << 16  # read and write, never executed, device


@dataclass(frozen=True)
class Region:
    """A region of the memory protection unit of Armv7-M.

    Attributes:
        base: Address, a multiple of `size`.
        size: Bytes, a power of two.
        eighths: How many eighths of it, from the start, are in the region.
    """

    base: int
    size: int
    eighths: int = _EIGHTHS

    @property
    def covered_bytes(self) -> int:
        """Bytes that the region allows."""
        return self.size // _EIGHTHS * self.eighths

    def registers(self, attributes: int) -> tuple[int, int]:
        """The values of RBAR and RASR."""
        disabled = (0xFF << self.eighths & 0xFF) << 8
        return self.base, attributes | disabled | (self.size.bit_length() - 2) << 1 | _ENABLE


def cover(base: int, size: int) -> list[Region]:
    """Regions that allow exactly `size` bytes from `base`, the largest first.

    Raises:
        UsageError: The size is no multiple of 32 bytes.
    """
    if size % _SMALLEST_REGION:
        raise UsageError(
            f"memory of {size:,} bytes cannot be protected", "choose a multiple of 32 bytes, of 128 if large"
        )
    regions = []
    while size:
        power = 1 << (size - 1).bit_length()
        if power >= _SMALLEST_DIVIDED_REGION:
            region = Region(base, power, size * _EIGHTHS // power)
        else:
            region = Region(base, 1 << (size.bit_length() - 1))
        regions.append(region)
        base, size = base + region.covered_bytes, size - region.covered_bytes
    return regions


def port_of(board: Board) -> Port:
    """The port of a board.

    Raises:
        UsageError: Its profile has none.
    """
    if board.port is None:
        raise UsageError(
            f"there is no firmware port for the board {board.name}",
            "boards with one have a table [port] in their profile: see tflnest boards NAME",
        )
    return board.port


def port_files(board: Board, sectors_bytes: int = 0, ring_bytes: int | None = None) -> dict[str, str]:
    """All files of a board's port by name: headers, sources, `port_config.h` and `port.ld`.

    Args:
        board: The board.
        sectors_bytes: Bytes at the end of the flash that are kept for pages, whole sectors.
        ring_bytes: Size of the receive buffer, a power of two; None for that of the profile.

    Raises:
        UsageError: The board has no port, or one that is not known, or its memory cannot be protected.
    """
    port = port_of(board)
    names = (*HEADERS, *source_names(port))
    files = {name: read_file(SOURCES / name).decode("ascii") for name in names}
    drivers = {name for text in files.values() for name in included(text) if name.startswith(_DRIVER_PREFIX)}
    files |= {name: read_file(SOURCES / name).decode("ascii") for name in drivers}
    files[CONFIG] = configuration(board, ring_bytes)
    files[LINKER_SCRIPT] = linker_script(board, sectors_bytes)
    return files


def source_names(port: Port) -> tuple[str, ...]:
    """Names of the C sources that a port needs.

    Raises:
        UsageError: There is no such chip or driver.
    """
    names = list(COMMON)
    for kind in ("chip", "uart", "timer", "flash"):
        wanted = getattr(port, kind)
        known = sorted(path.stem.removeprefix(f"port_{kind}_") for path in SOURCES.glob(f"port_{kind}_*.c"))
        if kind == "flash" and not wanted:
            continue
        if wanted not in known:
            raise UsageError(f"there is no port for the {kind} {wanted!r}", f"there are {', '.join(known)}")
        names.append(f"port_{kind}_{wanted}.c")
    return (*names, FLASH) if port.flash else tuple(names)


def configuration(board: Board, ring_bytes: int | None = None) -> str:
    """The text of `port_config.h`.

    Args:
        board: The board.
        ring_bytes: Size of the receive buffer, a power of two; None for that of the profile.

    Raises:
        UsageError: The board has no port, or its memory cannot be protected.
    """
    port = port_of(board)
    uart_vector = CORE_VECTORS + port.uart_irq
    timer_vector = SYSTICK_VECTOR if port.timer == "systick" else CORE_VECTORS + port.timer_irq
    rows = {
        "PORT_LABEL": f'"{label(board)}"',
        "PORT_CLOCK_HZ": f"{board.clock_hz}u",
        "PORT_SRAM_BASE": f"0x{board.sram_base:08X}u",
        "PORT_SRAM_BYTES": f"{board.sram_bytes}u",
        "PORT_UART_BAUD": f"{board.uart_baud}u",
        "PORT_UART_BASE": f"0x{port.uart_base:08X}u",
        "PORT_UART_CLOCK_HZ": f"{port.uart_clock_hz}u",
        "PORT_UART_IRQ": f"{port.uart_irq}u",
        "PORT_UART_VECTOR": f"{uart_vector}",
        "PORT_UART_TX_PIN": f"{port.uart_tx_pin}u",
        "PORT_UART_RX_PIN": f"{port.uart_rx_pin}u",
        "PORT_TIMER_BASE": f"0x{port.timer_base:08X}u",
        "PORT_TIMER_IRQ": f"{port.timer_irq}u",
        "PORT_TIMER_VECTOR": f"{timer_vector}",
        "PORT_VECTOR_COUNT": f"{max(uart_vector, timer_vector, SYSTICK_VECTOR) + 1}",
        "PORT_RING_BYTES": f"{port.ring_bytes if ring_bytes is None else ring_bytes}u",
    }
    if port.flash:
        rows["PORT_FLASH_BASE"] = f"0x{board.flash_base:08X}u"
        rows["PORT_FLASH_BYTES"] = f"{board.flash_bytes}u"
        rows["PORT_FLASH_SECTOR_BYTES"] = f"{board.flash_sector_bytes}u"
    if port.has_mpu:
        pairs = ", ".join(f"{{0x{base:08X}u, 0x{rasr:08X}u}}" for base, rasr in _mpu_registers(board))
        rows["PORT_MPU_REGIONS"] = pairs
    lines = "\n".join(f"#define {name} {value}" for name, value in rows.items())
    return (
        f"/* Generated by tflnest from the profile of the board {board.name}. */\n"
        f"#ifndef PORT_CONFIG_H\n#define PORT_CONFIG_H\n\n{lines}\n\n#endif\n"
    )


def _mpu_registers(board: Board) -> list[tuple[int, int]]:
    flash = [region.registers(_FLASH_ATTRIBUTES) for region in cover(board.flash_base, board.flash_bytes)]
    sram = [region.registers(_SRAM_ATTRIBUTES) for region in cover(board.sram_base, board.sram_bytes)]
    device = Region(_PERIPHERAL_BASE, _PERIPHERAL_BYTES).registers(_DEVICE_ATTRIBUTES)
    registers = [*flash, device, *sram]
    if len(registers) > MPU_REGIONS:
        raise UsageError(
            f"{board.flash_bytes:,} bytes of flash and {board.sram_bytes:,} of SRAM take {len(registers)} regions "
            f"of the memory protection unit, which has {MPU_REGIONS}",
            "choose rounder sizes",
        )
    return registers


def label(board: Board) -> str:
    """What an image says of the board that it is linked for: name, bytes of SRAM and of flash."""
    return f"{board.name} {board.sram_bytes} {board.flash_bytes}"


def sectors_end(board: Board) -> int:
    """Where the last whole sector of the flash ends, in bytes from its start."""
    return board.flash_bytes // board.flash_sector_bytes * board.flash_sector_bytes


def linker_script(board: Board, sectors_bytes: int = 0) -> str:
    """The text of `port.ld`.

    Args:
        board: The board.
        sectors_bytes: Bytes at the end of the flash that are kept for pages, whole sectors.

    Raises:
        UsageError: The board has no port.
    """
    port = port_of(board)
    values = {field.name: getattr(port, field.name) for field in fields(port)}
    start = sectors_end(board) - sectors_bytes
    values |= {"name": board.name, "sram_bytes": board.sram_bytes, "sectors_bytes": sectors_bytes}
    values |= {"code_bytes": start if sectors_bytes else board.flash_bytes}
    bases = {"flash": board.flash_base, "sram": board.sram_base, "sectors": board.flash_base + start}
    values |= {f"{what}_base": f"0x{base:08X}" for what, base in bases.items()}
    return Template(read_file(SOURCES / LINKER_SCRIPT).decode("ascii")).substitute(values)
