"""Board profiles: how much memory a board has, where it lies, and what work costs on its core.

A profile is a TOML file; those of `boards/` come with the package, any other is loaded by its path.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from firmware_sim.target import CORTEX_M, ILP32, Target
from tflnest.errors import UsageError
from tflnest.files import read_file

PROFILES = Path(__file__).parent / "boards"
SUFFIX = ".toml"

#: Largest memory that a profile may claim, in bytes.
MAX_MEMORY_BYTES = 1 << 28
#: Largest number in a profile: an address or a clock.
MAX_NUMBER = (1 << 32) - 1

_UNITS = {
    "": 1,
    "b": 1,
    "k": 1 << 10,
    "kib": 1 << 10,
    "kb": 1000,
    "m": 1 << 20,
    "mib": 1 << 20,
    "mb": 1_000_000,
}
#: The smallest receive buffer of a port.
LEAST_RING_BYTES = 2

_SIZE = re.compile(r"\s*(\d[\d_,]*)\s*([A-Za-z]*)\s*")


def parse_size(text: str | int) -> int:
    """Read a size in bytes: `8192`, `8KiB`, `8K` (binary), `8kB` (decimal), `1MiB`.

    Raises:
        UsageError: It is not a size, or not between 1 byte and 256 MiB.
    """
    match = _SIZE.fullmatch(str(text))
    unit = _UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise UsageError(
            f"{text!r} is not a size", "write bytes, or a number with KiB or MiB, for example 64KiB"
        )
    size = int(match[1].replace(",", "").replace("_", "")) * unit
    if not 1 <= size <= MAX_MEMORY_BYTES:
        raise UsageError(f"the size {text!r} is {size:,} bytes, allowed are 1 to {MAX_MEMORY_BYTES:,}")
    return size


@dataclass(frozen=True)
class CycleCosts:
    """What work costs on a core, for estimates.

    Instructions come from a model of the core's kernels (`firmware_sim.instructions`); the other figures are for
    operators that it does not know.

    Attributes:
        per_instruction: Cycles per instruction.
        convolution_mac: Cycles per multiply-accumulate of CONV_2D and TRANSPOSE_CONV.
        depthwise_mac: Cycles per multiply-accumulate of DEPTHWISE_CONV_2D, and per tap of a pooling.
        dense_mac: Cycles per multiply-accumulate of FULLY_CONNECTED.
        element: Cycles per output element of every other operator.
        source: Where the figures come from.
    """

    per_instruction: float
    convolution_mac: float
    depthwise_mac: float
    dense_mac: float
    element: float
    source: str


@dataclass(frozen=True)
class Port:
    """What firmware must know of a board besides its memory; written into `port_config.h`.

    Attributes:
        chip: Clock and pin set-up: "mps2", "stm32f1", "stm32f4" or "nrf51".
        uart: Driver of the serial port: "cmsdk", "stm32" or "nrf51".
        uart_base: Address of its registers.
        uart_clock_hz: Clock of its divider.
        uart_irq: Number of its receive interrupt.
        timer: Driver of the millisecond clock: "systick" or "nrf51".
        ring_bytes: Size of the receive buffer, a power of two.
        thread_stack_bytes: Stack of `main`, a multiple of 8.
        interrupt_stack_bytes: Stack of the handlers, a multiple of 8.
        pins: Where the serial port is on the board.
        tried: What the port was tried on.
        uart_tx_pin: Pin that transmits, where the driver lets one choose.
        uart_rx_pin: Pin that receives, likewise.
        timer_base: Address of the timer's registers; 0 for SysTick.
        timer_irq: Number of the timer's interrupt; unused for SysTick.
        has_mpu: Whether the memory protection unit enforces the limits, where the memory map does not.
        flash: Driver of the flash's sectors: "nrf51", "stm32f1", "stm32f4" or "mps2"; "" where there is none.
    """

    chip: str
    uart: str
    uart_base: int
    uart_clock_hz: int
    uart_irq: int
    timer: str
    ring_bytes: int
    thread_stack_bytes: int
    interrupt_stack_bytes: int
    pins: str
    tried: str
    uart_tx_pin: int = 0
    uart_rx_pin: int = 0
    timer_base: int = 0
    timer_irq: int = 0
    has_mpu: bool = False
    flash: str = ""


@dataclass(frozen=True)
class Emulation:
    """How QEMU pretends to be the board.

    Attributes:
        machine: QEMU's name of the machine.
        options: Further options of QEMU, separated by blanks, for example "-global nrf51-soc.sram-size=65536".
    """

    machine: str
    options: str = ""


@dataclass(frozen=True)
class FlashMethods:
    """How firmware gets onto the board: what each tool must know of it. A tool whose key is absent is not used.

    Attributes:
        pyocd_target: pyOCD's name of the chip, for example "nrf51822".
        openocd_config: Configuration files of OpenOCD, separated by blanks.
        esptool_chip: esptool's name of the chip, for example "esp32s3".
        esptool_address: Where in the flash the application begins.
        uf2_family: Number of the chip's family, for boards with a UF2 bootloader.
        uf2_board: What the Board-ID of the bootloader's drive begins with; "" takes any drive.
    """

    pyocd_target: str = ""
    openocd_config: str = ""
    esptool_chip: str = ""
    esptool_address: int = 0
    uf2_family: int = 0
    uf2_board: str = ""


@dataclass(frozen=True)
class Board:
    """A board.

    Attributes:
        name: Short name, that of the profile's file.
        title: Full name.
        core: Processor core, for example "cortex-m4".
        clock_hz: Clock in hertz.
        flash_bytes: Flash in bytes.
        flash_base: Address of the flash.
        flash_sector_bytes: Bytes that are erased at once.
        flash_program_bytes: Bytes that are programmed at once.
        sram_bytes: SRAM in bytes.
        sram_base: Address of the SRAM.
        stack_bytes: SRAM kept for stacks and static data; not available to the model.
        uart_baud: Speed of the serial port in bits per second; a byte takes ten bits.
        has_dsp: Whether the core has the Armv7E-M DSP instructions.
        has_mve: Whether the core has the M-profile vector extension.
        cycles: Costs for estimates.
        port: What firmware must know, the profile's table [port]; None where there is no port for the board.
        emulator: How QEMU emulates it, the table [emulator]; None where it does not.
        flash: How firmware gets onto it, the table [flash]; None where nothing is known.
    """

    name: str
    title: str
    core: str
    clock_hz: int
    flash_bytes: int
    flash_base: int
    flash_sector_bytes: int
    flash_program_bytes: int
    sram_bytes: int
    sram_base: int
    stack_bytes: int
    uart_baud: int
    cycles: CycleCosts
    has_dsp: bool = False
    has_mve: bool = False
    port: Port | None = None
    emulator: Emulation | None = None
    flash: FlashMethods | None = None

    @classmethod
    def load(cls, name_or_path: str | Path) -> Board:
        """Load a profile.

        Args:
            name_or_path: A name of `list_boards`, or the path of a TOML file.

        Raises:
            UsageError: There is no such board, or the profile is not valid.
        """
        text = str(name_or_path)
        if text in list_boards():
            return _read(PROFILES / f"{text}{SUFFIX}")
        path = Path(name_or_path)
        if path.suffix == SUFFIX or path.is_file():
            return _read(path)
        raise _unknown_board(text)

    def with_limits(self, sram_bytes: int | None = None, flash_bytes: int | None = None) -> Board:
        """The same board with other memory sizes in bytes; None keeps a size.

        Raises:
            UsageError: The SRAM does not even hold the stack.
        """
        return _checked(
            replace(
                self,
                sram_bytes=self.sram_bytes if sram_bytes is None else sram_bytes,
                flash_bytes=self.flash_bytes if flash_bytes is None else flash_bytes,
            ),
            f"board {self.name}",
        )

    @property
    def target(self) -> Target:
        """Whose structure sizes count for the arena's tail."""
        return CORTEX_M if self.core.startswith("cortex-m") else ILP32

    @property
    def usable_sram_bytes(self) -> int:
        """SRAM that a model may use: all but the reserve for stacks and static data."""
        return self.sram_bytes - self.stack_bytes

    def link_seconds(self, count: int) -> float:
        """Seconds to send so many bytes over the serial port, framing not counted."""
        return count * 10 / self.uart_baud

    def to_dict(self) -> dict[str, Any]:
        """The profile for a report in JSON."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def list_boards() -> list[str]:
    """Names of the boards that come with the package, the smallest SRAM first."""
    sizes = {path.stem: _sram_of(path) for path in PROFILES.glob(f"*{SUFFIX}")}
    return sorted(sizes, key=lambda name: (sizes[name], name))


def _sram_of(path: Path) -> int:
    return int(tomllib.loads(path.read_text(encoding="utf-8"))["sram_bytes"])


def _unknown_board(text: str) -> UsageError:
    names = list_boards()
    close = difflib.get_close_matches(text.lower(), names, n=3, cutoff=0.4)
    meant = f"; did you mean {' or '.join(close)}?" if close else ""
    return UsageError(
        f"there is no board {text!r}{meant}", f"boards are {', '.join(names)}, or the path of a .toml profile"
    )


# ---------------------------------------------------------------------------------------------- reading

#: Tables that a profile may have.
_OPTIONAL: dict[str, type[Any]] = {"port": Port, "emulator": Emulation, "flash": FlashMethods}


def _read(path: Path) -> Board:
    where = f"board profile {path}"
    try:
        table = tomllib.loads(read_file(path).decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{where} is not valid TOML: {error}") from None
    cycles = table.pop("cycles", None)
    if not isinstance(cycles, dict):
        raise UsageError(
            f"{where} has no table [cycles]", f"copy one of {PROFILES.name}/*.toml and change it"
        )
    if "name" in table:
        raise UsageError(f"{where} has the key 'name'", "the name of a board is that of its file")
    optional = {
        name: kind(**_take(_subtable(table.pop(name), where, name), kind, f"{where}, [{name}]"))
        for name, kind in _OPTIONAL.items()
        if name in table
    }
    values = {
        "name": path.stem,
        **_take(table, Board, where, skip=("name", "cycles", *_OPTIONAL)),
        **optional,
    }
    values["cycles"] = CycleCosts(**_take(cycles, CycleCosts, f"{where}, [cycles]"))
    return _checked(Board(**values), where)


def _subtable(value: Any, where: str, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise UsageError(f"{where}: {name} is {value!r}, expected a table [{name}]")
    return value


def _take(table: dict[str, Any], kind: type[Any], where: str, skip: tuple[str, ...] = ()) -> dict[str, Any]:
    """The values of a table, checked against the fields of a dataclass."""
    known = {field.name: field for field in fields(kind) if field.name not in skip}
    for key in table:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            raise UsageError(
                f"{where} has the unknown key {key!r}" + (f"; did you mean {close[0]!r}?" if close else "")
            )
    missing = [name for name, field in known.items() if name not in table and field.default is MISSING]
    if missing:
        raise UsageError(f"{where} lacks {', '.join(missing)}")
    return {key: _value(value, str(known[key].type), f"{where}: {key}") for key, value in table.items()}


def _value(value: Any, expected: str, where: str) -> Any:
    if expected == "float" and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value).__name__ != expected:
        raise UsageError(f"{where} is {value!r}, expected {expected}")
    if isinstance(value, int | float) and not 0 <= value <= MAX_NUMBER:
        raise UsageError(f"{where} is {value}, expected 0 to {MAX_NUMBER:,}")
    return value


def _checked(board: Board, where: str) -> Board:
    for name in (
        "clock_hz",
        "flash_bytes",
        "flash_sector_bytes",
        "flash_program_bytes",
        "sram_bytes",
        "uart_baud",
    ):
        if getattr(board, name) <= 0:
            raise UsageError(f"{where}: {name} is {getattr(board, name)}, expected more than 0")
    for name in ("flash_bytes", "sram_bytes"):
        if getattr(board, name) > MAX_MEMORY_BYTES:
            raise UsageError(f"{where}: {name} is {getattr(board, name):,}, more than {MAX_MEMORY_BYTES:,}")
    if board.port is not None:
        _check_port(board.port, where)
    if board.flash is not None:
        _check_flash(board.flash, where)
    if board.stack_bytes >= board.sram_bytes:
        raise UsageError(
            f"{where}: {board.sram_bytes:,} bytes of SRAM do not hold the {board.stack_bytes:,} bytes kept for the stack"
        )
    return board


def _check_port(port: Port, where: str) -> None:
    if port.ring_bytes < LEAST_RING_BYTES or port.ring_bytes & (port.ring_bytes - 1):
        raise UsageError(f"{where}: ring_bytes is {port.ring_bytes}, expected a power of two")
    for name in ("thread_stack_bytes", "interrupt_stack_bytes"):
        size = getattr(port, name)
        if size < 64 or size % 8:
            raise UsageError(f"{where}: {name} is {size}, expected a multiple of 8, at least 64")


def _check_flash(flash: FlashMethods, where: str) -> None:
    if not (flash.pyocd_target or flash.openocd_config or flash.esptool_chip or flash.uf2_family):
        raise UsageError(
            f"{where}: [flash] names no way to flash the board",
            "give pyocd_target, openocd_config, esptool_chip or uf2_family",
        )
    for key, needed in (("uf2_board", "uf2_family"), ("esptool_address", "esptool_chip")):
        if getattr(flash, key) and not getattr(flash, needed):
            raise UsageError(f"{where}: [flash] has {key}, and lacks {needed}")
