"""Measures how much flash the code of firmware takes, for `code_sizes.json`.

    python -m firmware_sim.firmware.code_measurement

writes the file anew; it takes a minute. A test compares it with what the compiler gives.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import SymbolTableSection

from firmware_sim.board import Board, list_boards
from firmware_sim.firmware.code_size import CODE_SIZES, SECTORS, measured_cores
from firmware_sim.firmware.memory import frame_bytes
from firmware_sim.firmware.plan import Optimization, Protocol
from firmware_sim.firmware.project import TEMPLATES, main_text
from firmware_sim.firmware.protocol import protocol_header
from firmware_sim.image import Image
from firmware_sim.target import align_up
from firmware_sim.toolchain import COMPILE_FLAGS, LINK_FLAGS, WARNINGS, Toolchain, core_flags, run_compiler
from tflnest.device.calls import functions
from tflnest.device.sources import INCLUDE, SOURCE, needed_files
from tflnest.files import read_file, write_file

_WORD = 4
_KEPT = (".text", ".rodata")
#: Functions of the C library that the start-up code needs.
_START_UP = frozenset({"memcpy", "memset"})


class Sections:
    """The sections of object files, and which of them need which."""

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}
        self.needs: dict[str, set[str]] = {}
        self._defined: dict[str, str] = {}

    def add(self, path: Path) -> None:
        """Take in an object file."""
        with path.open("rb") as stream:
            elf = ELFFile(stream)
            names = {}
            for number, section in enumerate(elf.iter_sections()):
                if section.name.startswith(_KEPT) and section.data_size:
                    names[number] = f"{path.stem}:{section.name}"
                    self.sizes[names[number]] = align_up(section.data_size, _WORD)
            table = elf.get_section_by_name(".symtab")
            assert isinstance(table, SymbolTableSection)
            symbols = list(table.iter_symbols())
            for symbol in symbols:
                home = symbol.entry.st_shndx
                if home in names and symbol.entry.st_info.bind == "STB_GLOBAL":
                    self._defined[symbol.name] = names[home]
            for section in elf.iter_sections():
                if isinstance(section, RelocationSection) and section.header.sh_info in names:
                    needed = self.needs.setdefault(names[section.header.sh_info], set())
                    for entry in section.iter_relocations():
                        symbol = symbols[entry["r_info_sym"]]
                        home = symbol.entry.st_shndx
                        if home == "SHN_UNDEF":
                            needed.add(symbol.name)
                        elif home in names:
                            needed.add(names[home])

    @property
    def undefined(self) -> set[str]:
        """Symbols that no object file defines."""
        return {
            name
            for needed in self.needs.values()
            for name in needed
            if name not in self.sizes and name not in self._defined
        }

    def reached(self, roots: Iterable[str]) -> list[str]:
        """The sections, and symbols of libraries, that some functions need; sorted."""
        found: set[str] = set()
        waiting = list(roots)
        while waiting:
            name = waiting.pop()
            name = self._defined.get(name, name)
            if name not in found:
                found.add(name)
                waiting.extend(self.needs.get(name, ()))
        return sorted(found)


def measure_kernels(
    toolchain: Toolchain, core: str, optimization: Optimization, folder: Path, everywhere: frozenset[str]
) -> dict[str, Any]:
    """Sizes of the sections of the kernels, and the sections that each function needs.

    Args:
        toolchain: The compiler.
        core: For which core.
        optimization: For size or for speed.
        folder: For temporary files.
        everywhere: Functions of libraries that every firmware has, whatever its kernels are.
    """
    headers = sorted({function.header for function in functions()})
    sources = [path for path in needed_files(headers) if path.suffix == ".c"]
    sections = Sections()
    for source in sources:
        target = folder / f"{source.stem}.o"
        _compile(toolchain, core, optimization, source, target)
        sections.add(target)
    for symbol in sections.undefined - everywhere:
        sections.sizes[symbol] = _library_bytes(toolchain, core, symbol, folder)
    names = [function.name for function in functions()]
    reached = {name: [item for item in sections.reached([name]) if item not in everywhere] for name in names}
    used = sorted({section for row in reached.values() for section in row})
    numbers = {name: number for number, name in enumerate(used)}
    return {
        "sizes": [sections.sizes[name] for name in used],
        "functions": {name: [numbers[section] for section in row] for name, row in reached.items()},
    }


def measure_base(
    toolchain: Toolchain,
    board: Board,
    optimization: Optimization,
    protocol: Protocol,
    folder: Path,
    sectors: bool = False,
) -> tuple[int, frozenset[str]]:
    """Flash of everything but model and kernels: port, start-up, `main`, pager, protocol; and what it defines.

    Args:
        toolchain: The compiler.
        board: The board.
        optimization: For size or for speed.
        protocol: What `main` does.
        folder: For temporary files.
        sectors: Whether pages can come into flash.
    """
    header = "tflnest/tflnest_protocol_pager.h"
    headers = [header, "tflnest/tflnest_crc32.h", "tflnest/tflnest_protocol.h"]
    headers += ["tflnest/tflnest_sectors.h"] if sectors else []
    runtime = [path for path in needed_files(headers) if path.suffix == ".c"]
    (folder / "model.h").write_bytes(read_file(TEMPLATES / "stub.h"))
    (folder / "model_protocol.h").write_text(protocol_header("", board.name, frame_bytes(board)), "ascii")
    main, stub = folder / "main.c", folder / "stub.c"
    main.write_text(main_text(protocol), "ascii")
    stub.write_bytes(read_file(TEMPLATES / "stub.c"))
    image = toolchain.link(
        board,
        [main, stub, *runtime],
        folder / "base.elf",
        include=[folder, INCLUDE, SOURCE],
        optimization=optimization.flag,
        flags=[*WARNINGS, *(["-DSTUB_SECTORS"] if sectors else [])],
    )
    _compile(toolchain, board.core, optimization, stub, folder / "stub.o", [folder])
    own = Sections()
    own.add(folder / "stub.o")
    linked = set(image.symbols)
    names = {name.partition(":")[2].rpartition(".")[2]: size for name, size in own.sizes.items()}
    own_bytes = sum(size for name, size in names.items() if name in linked)
    return flash_bytes(image) - own_bytes, frozenset(linked)


def flash_bytes(image: Image) -> int:
    """Bytes of flash that a linked firmware takes, gaps between sections included."""
    ends = [section.load_address + section.size for section in image.sections.values() if section.has_content]
    starts = [section.load_address for section in image.sections.values() if section.has_content]
    return max(ends, default=0) - min(starts, default=0)


def measure(toolchain: Toolchain) -> dict[str, Any]:
    """Everything that `code_sizes.json` holds."""
    kernels: dict[str, Any] = {}
    bases: dict[str, Any] = {}
    defined: dict[str, frozenset[str]] = {}
    with tempfile.TemporaryDirectory(prefix="tflnest-") as name:
        folder = Path(name)
        for board in map(Board.load, list_boards()):
            if board.port is None:
                continue
            for wanted in Optimization:
                for protocol in Protocol:
                    size, symbols = measure_base(toolchain, board, wanted, protocol, folder)
                    bases.setdefault(board.name, {}).setdefault(str(wanted), {})[str(protocol)] = size
                    defined[board.core] = defined.get(board.core, symbols) & symbols
                if board.port.flash:
                    size, _ = measure_base(toolchain, board, wanted, Protocol.SERIAL, folder, sectors=True)
                    bases[board.name][str(wanted)][SECTORS] = size
        for core in measured_cores():
            everywhere = defined.get(core, _START_UP)
            kernels[core] = {
                str(wanted): measure_kernels(toolchain, core, wanted, folder, everywhere)
                for wanted in Optimization
            }
    return {"compiler": toolchain.version, "bases": bases, "kernels": kernels}


def text_of(sizes: Mapping[str, Any]) -> str:
    """The text of `code_sizes.json`: a line for every function."""
    lines = ["{", f'"compiler": {json.dumps(sizes["compiler"])},', '"bases": {']
    rows = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in sizes["bases"].items()]
    lines += [",\n".join(rows), "},", '"kernels": {']
    cores = []
    for core, wanted in sizes["kernels"].items():
        parts = []
        for optimization, measured in wanted.items():
            entries = [
                f"{json.dumps(name)}: {json.dumps(row)}" for name, row in measured["functions"].items()
            ]
            parts.append(
                f'{json.dumps(optimization)}: {{"sizes": {json.dumps(measured["sizes"])}, "functions": {{\n'
                + ",\n".join(entries)
                + "}}"
            )
        cores.append(f"{json.dumps(core)}: {{\n" + ",\n".join(parts) + "}")
    return "\n".join([*lines, ",\n".join(cores), "}", "}", ""])


def _compile(
    toolchain: Toolchain,
    core: str,
    optimization: Optimization,
    source: Path,
    target: Path,
    include: Sequence[Path] = (),
) -> None:
    folders = [f"-I{path}" for path in (*include, INCLUDE, SOURCE)]
    flags = [*COMPILE_FLAGS, *core_flags(core), optimization.flag, *folders]
    run_compiler([toolchain.compiler, *flags, "-c", str(source), "-o", str(target)])


def _library_bytes(toolchain: Toolchain, core: str, symbol: str, folder: Path) -> int:
    """Bytes that a function of the compiler's or the C library takes, with all that it needs."""
    target = folder / "library.elf"
    empty = folder / "empty.c"
    empty.write_text("int unused;\n", "ascii")
    flags = [*COMPILE_FLAGS, *core_flags(core), *LINK_FLAGS, f"-Wl,-u,{symbol}", f"-Wl,-e,{symbol}"]
    run_compiler([toolchain.compiler, *flags, str(empty), "-o", str(target)])
    sections = Image(target).sections.values()
    return sum(align_up(section.size, _WORD) for section in sections if section.name.startswith(_KEPT))


if __name__ == "__main__":
    write_file(CODE_SIZES, text_of(measure(Toolchain.find())).encode("ascii"), force=True)
