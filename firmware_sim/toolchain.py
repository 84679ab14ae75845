"""The cross compiler: where it is, the flags of each core, and what its errors mean."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from firmware_sim import board_port
from firmware_sim.board import Board
from firmware_sim.image import Image
from tflnest.errors import DoesNotFitError, TflnestError, UnsupportedError

PREFIX = "arm-none-eabi-"
INSTALL = "apt-get install --no-install-recommends gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm"

#: Flags of each core. Single and double precision registers are there for applications: no kernel uses them.
CORE_FLAGS: Mapping[str, tuple[str, ...]] = {
    "cortex-m0": ("-mcpu=cortex-m0", "-mfloat-abi=soft"),
    "cortex-m0plus": ("-mcpu=cortex-m0plus", "-mfloat-abi=soft"),
    "cortex-m3": ("-mcpu=cortex-m3", "-mfloat-abi=soft"),
    "cortex-m4": ("-mcpu=cortex-m4", "-mfpu=fpv4-sp-d16", "-mfloat-abi=hard"),
    "cortex-m7": ("-mcpu=cortex-m7", "-mfpu=fpv5-d16", "-mfloat-abi=hard"),
    "cortex-m33": ("-mcpu=cortex-m33+nodsp+nofp", "-mfloat-abi=soft"),
    "cortex-m33-dsp": ("-mcpu=cortex-m33", "-mfpu=fpv5-sp-d16", "-mfloat-abi=hard"),
    "cortex-m55": ("-mcpu=cortex-m55", "-mfloat-abi=hard"),
}

COMPILE_FLAGS = ("-std=c99", "-mthumb", "-g", "-ffunction-sections", "-fdata-sections", "-fno-common")
WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Wdouble-promotion", "-Werror")
LINK_FLAGS = ("-nostartfiles", "-Wl,--gc-sections", "-Wl,--fatal-warnings", "-Wl,--no-warn-rwx-segments")

_OVERFLOW = re.compile(r"region `(flash|sram)' overflowed by (\d+) bytes?")
_COMPILE_SECONDS = 300


def core_flags(core: str) -> tuple[str, ...]:
    """Compiler flags of a core such as "cortex-m4".

    Raises:
        UnsupportedError: There are none.
    """
    if core not in CORE_FLAGS:
        raise UnsupportedError(
            f"firmware is not built for the core {core!r}", f"cores are {', '.join(CORE_FLAGS)}"
        )
    return ("-mthumb", *CORE_FLAGS[core])


@dataclass(frozen=True)
class Toolchain:
    """A GNU compiler for Arm without an operating system.

    Attributes:
        compiler: Path of gcc.
    """

    compiler: str

    @classmethod
    def find(cls, prefix: str = PREFIX) -> Toolchain:
        """The compiler on the search path.

        Args:
            prefix: What its tools' names begin with; may include a folder.

        Raises:
            TflnestError: It is not installed, or without its C library.
        """
        compiler = shutil.which(f"{prefix}gcc")
        if compiler is None:
            raise TflnestError(
                f"{prefix}gcc is not installed, and firmware needs it", f"install it with: {INSTALL}"
            )
        library = _run([compiler, "-mthumb", "-mcpu=cortex-m3", "-print-file-name=libc.a"]).stdout.strip()
        if library == "libc.a":
            raise TflnestError(
                f"{compiler} has no C library (newlib), and firmware needs its memcpy and memset",
                f"install it with: {INSTALL}",
            )
        return cls(compiler)

    @property
    def version(self) -> str:
        """What the compiler calls itself, for example "12.2.1"."""
        return _run([self.compiler, "-dumpfullversion"]).stdout.strip()

    def link(
        self,
        board: Board,
        sources: Sequence[str | Path],
        output: str | Path,
        *,
        include: Sequence[str | Path] = (),
        optimization: str = "-O2",
        flags: Sequence[str] = WARNINGS,
    ) -> Image:
        """Compile sources together with a board's port, and link them.

        Args:
            board: The board; its limits are those of the linker.
            sources: C files with a `main`, which may include "port.h".
            output: The ELF file to write.
            include: Folders of headers.
            optimization: "-Os", "-O2" and the like.
            flags: Further flags of the compiler; the warnings of the project where none are given.

        Raises:
            DoesNotFitError: The board's flash or SRAM is too small.
            TflnestError: The compiler reports an error; the message has its text.
            UnsupportedError: The core is not supported.
            UsageError: The board has no port.
        """
        files = board_port.port_files(board)
        with tempfile.TemporaryDirectory(prefix="tflnest-") as folder:
            for name, text in files.items():
                (Path(folder) / name).write_text(text, encoding="ascii")
            port_sources = [str(Path(folder) / name) for name in files if name.endswith(".c")]
            command = [
                self.compiler,
                *COMPILE_FLAGS,
                *core_flags(board.core),
                optimization,
                *flags,
                *(f"-I{path}" for path in (folder, *include)),
                f"-ffile-prefix-map={folder}={board_port.SOURCES}",
                *map(str, sources),
                *port_sources,
                *LINK_FLAGS,
                f"-Wl,-T,{Path(folder) / board_port.LINKER_SCRIPT}",
                "-o",
                str(output),
            ]
            done = _run(command)
        if done.returncode:
            raise link_error(board, done.stderr)
        return Image(output)


def link_error(board: Board, text: str) -> TflnestError:
    """What the messages of compiler and linker mean: memory that does not suffice, or any other error."""
    overflow = {memory: int(count) for memory, count in _OVERFLOW.findall(text)}
    for memory, available in (("sram", board.sram_bytes), ("flash", board.flash_bytes)):
        if memory in overflow:
            needed = available + overflow[memory]
            name = {"sram": "SRAM", "flash": "flash"}[memory]
            return DoesNotFitError(
                f"the firmware needs {needed:,} bytes of {name}, {board.name} has {available:,}: "
                f"{overflow[memory]:,} too many",
                memory=memory,
                needed_bytes=needed,
                available_bytes=available,
            )
    return TflnestError(f"the firmware could not be built:\n{text.strip()}")


def run_compiler(command: Sequence[str]) -> None:
    """Run a compiler whose command line is complete.

    Raises:
        TflnestError: It reports an error; the message has its text.
    """
    done = _run(command)
    if done.returncode:
        raise TflnestError(f"{command[0]} failed:\n{done.stderr.strip()}")


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_COMPILE_SECONDS, check=False
        )
    except OSError as error:
        raise TflnestError(f"{command[0]} cannot be started: {error.strerror or error}") from error
    except subprocess.TimeoutExpired:
        raise TflnestError(f"{command[0]} took longer than {_COMPILE_SECONDS} s") from None
