"""Linked firmware: its sections, symbols, sizes, and which source line an address belongs to."""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.dwarf.dwarfinfo import DWARFInfo
from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import SymbolTableSection

from tflnest.errors import FormatError

#: Section of an image that names its board.
LABEL_SECTION = ".tflnest.board"

_THUMB = 1


@dataclass(frozen=True)
class Section:
    """A section that takes memory on the board.

    Attributes:
        name: For example ".text".
        address: Where it lies at run time.
        load_address: Where its content lies in flash; as `address` for code, and without meaning where there
            is no content.
        size: Bytes.
        has_content: Whether the file holds its content; .bss and stacks have none.
        is_writable: Whether it lies in SRAM.
    """

    name: str
    address: int
    load_address: int
    size: int
    has_content: bool
    is_writable: bool


@dataclass(frozen=True)
class Symbol:
    """A function or variable.

    Attributes:
        name: Name.
        address: Address; that of a function without the Thumb bit.
        size: Bytes; 0 for symbols of the linker script.
    """

    name: str
    address: int
    size: int


@dataclass(frozen=True)
class SourceLine:
    """A place in the source.

    Attributes:
        file: Path as the compiler was given it.
        line: Line, from 1.
        function: The function; "" where the symbol table has none.
    """

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}"
        return f"{self.function} at {where}" if self.function else where


class Image:
    """A linked ELF file for a 32-bit Arm core.

    Args:
        path: The file.

    Attributes:
        sections: What takes memory, by name.
        symbols: Functions and variables, by name.
        label: What a port says of its board, see `board_port.label`; "" where there is none.

    Raises:
        FormatError: It is no such file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            with self.path.open("rb") as stream:
                elf = ELFFile(stream)
                if elf.get_machine_arch() != "ARM":
                    raise FormatError(f"{path}: is made for {elf.get_machine_arch()}, expected ARM")
                self.sections = _sections(elf)
                self.symbols = _symbols(elf)
                note = elf.get_section_by_name(LABEL_SECTION)
                self.label = "" if note is None else note.data().split(b"\0")[0].decode("ascii", "replace")
        except FileNotFoundError:
            raise FormatError(f"{path}: no such file") from None
        except OSError as error:
            raise FormatError(f"{path}: cannot be read: {error.strerror or error}") from error
        except ELFError as error:
            raise FormatError(f"{path}: is not an ELF file: {error}") from None

    @property
    def flash_bytes(self) -> int:
        """Bytes of flash that are linked: code, constants and the initial values of variables."""
        return sum(section.size for section in self.sections.values() if section.has_content)

    @property
    def sram_bytes(self) -> int:
        """Bytes of SRAM that are linked, stacks included."""
        return sum(section.size for section in self.sections.values() if section.is_writable)

    def contents(self) -> list[tuple[int, bytes]]:
        """What is written to flash: pieces with their addresses there, the lowest first."""
        with self.path.open("rb") as stream:
            data = {section.name: section.data() for section in ELFFile(stream).iter_sections()}
        return sorted(
            (section.load_address, data[section.name])
            for section in self.sections.values()
            if section.has_content
        )

    def symbol(self, name: str) -> Symbol:
        """A symbol by its name.

        Raises:
            FormatError: There is none.
        """
        if name not in self.symbols:
            raise FormatError(f"{self.path}: has no symbol {name}")
        return self.symbols[name]

    def function_at(self, address: int) -> Symbol | None:
        """The function that an address belongs to."""
        addresses, functions = self._functions
        position = bisect.bisect_right(addresses, address) - 1
        if position < 0:
            return None
        function = functions[position]
        return function if address < function.address + function.size else None

    def locate(self, address: int) -> SourceLine | None:
        """The source line of an address; None where the file knows none, as without `-g`."""
        address &= ~_THUMB
        position = bisect.bisect_right(self._lines, (address, 1 << 62, "", 0)) - 1
        if position < 0:
            return None
        start, end, file, line = self._lines[position]
        if not start <= address < end:
            return None
        function = self.function_at(address)
        return SourceLine(file, line, "" if function is None else function.name)

    @cached_property
    def _lines(self) -> list[tuple[int, int, str, int]]:
        with self.path.open("rb") as stream:
            elf = ELFFile(stream)
            return _lines(elf.get_dwarf_info()) if elf.has_dwarf_info() else []

    @cached_property
    def _functions(self) -> tuple[list[int], list[Symbol]]:
        executable = [section for section in self.sections.values() if not section.is_writable]
        functions = sorted(
            (
                symbol
                for symbol in self.symbols.values()
                if symbol.size and any(0 <= symbol.address - item.address < item.size for item in executable)
            ),
            key=lambda symbol: symbol.address,
        )
        return [symbol.address for symbol in functions], functions


def _sections(elf: ELFFile) -> dict[str, Section]:
    segments = [segment.header for segment in elf.iter_segments("PT_LOAD")]
    sections = {}
    for section in elf.iter_sections():
        header = section.header
        if not header.sh_flags & SH_FLAGS.SHF_ALLOC or header.sh_size == 0:
            continue
        load = header.sh_addr
        for segment in segments:
            if 0 <= header.sh_addr - segment.p_vaddr < segment.p_memsz:
                load = segment.p_paddr + header.sh_addr - segment.p_vaddr
        sections[section.name] = Section(
            section.name,
            header.sh_addr,
            load,
            header.sh_size,
            header.sh_type != "SHT_NOBITS",
            bool(header.sh_flags & SH_FLAGS.SHF_WRITE),
        )
    return sections


def _symbols(elf: ELFFile) -> dict[str, Symbol]:
    table = elf.get_section_by_name(".symtab")
    if not isinstance(table, SymbolTableSection):
        return {}
    symbols = {}
    for item in table.iter_symbols():
        kind = item.entry.st_info.type
        if not item.name or item.name.startswith("$") or kind in ("STT_FILE", "STT_SECTION"):
            continue
        address = item.entry.st_value
        symbols[item.name] = Symbol(
            item.name, address & ~_THUMB if kind == "STT_FUNC" else address, item.entry.st_size
        )
    return symbols


def _lines(dwarf: DWARFInfo) -> list[tuple[int, int, str, int]]:
    """Rows (start, end, file, line) of every line table, sorted by address."""
    rows = []
    for unit in dwarf.iter_CUs():
        program = dwarf.line_program_for_CU(unit)
        if program is None:
            continue
        names = _file_names(program.header)
        previous = None
        for entry in program.get_entries():
            state = entry.state
            if state is None:
                continue
            if previous is not None and previous.address < state.address:
                rows.append((previous.address, state.address, names.get(previous.file, "?"), previous.line))
            previous = None if state.end_sequence else state
    # Code that was not linked has tables too, from address 0.
    return sorted(rows)


def _file_names(header: object) -> dict[int, str]:
    """Paths by the number that a line table gives them."""
    version = header["version"]  # type: ignore[index]
    first = 0 if version >= 5 else 1
    folders = [folder.decode("utf-8", "replace") for folder in header["include_directory"]]  # type: ignore[index]
    names = {}
    for number, entry in enumerate(header["file_entry"], start=first):  # type: ignore[index]
        name = entry.name.decode("utf-8", "replace")
        folder = entry.dir_index - first if version < 5 else entry.dir_index
        if not name.startswith("/") and 0 <= folder < len(folders) and (folder or version < 5):
            name = f"{folders[folder]}/{name}"
        names[number] = name
    return names
