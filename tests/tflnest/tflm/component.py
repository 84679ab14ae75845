"""Builds the component for TFLM from the files that an application gets, and nothing else."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from tflnest.tflm import component_sources

HERE = Path(__file__).parent
C_FLAGS = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-Wdouble-promotion", "-Werror")
CXX_FLAGS = ("-std=c++17", "-fno-exceptions", "-fno-rtti", "-Wall", "-Wextra", "-Wconversion", "-Werror")
COMPILERS = 2


def lay_out(folder: Path) -> Path:
    """Write the component's folder."""
    for name, path in component_sources().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, folder / name)
    return folder


def sources(folder: Path) -> list[Path]:
    """The sources of a component's folder."""
    return sorted(path for path in folder.iterdir() if path.suffix in (".c", ".cc"))


@dataclass(frozen=True)
class Toolset:
    """A C and a C++ compiler, and flags for both.

    Attributes:
        c: Command.
        cxx: Command.
        flags: Such as optimization and processor.
    """

    c: str = "gcc"
    cxx: str = "g++"
    flags: tuple[str, ...] = ("-O1", "-fPIC")

    def require(self) -> None:
        """Skip the test where a compiler is not installed."""
        for command in (self.c, self.cxx):
            if shutil.which(command) is None:
                pytest.skip(f"{command} is not installed")

    def compile(
        self,
        files: Iterable[Path],
        include: Sequence[Path],
        output: Path,
        c_flags: Sequence[str] = C_FLAGS,
        cxx_flags: Sequence[str] = CXX_FLAGS,
        system: Sequence[Path] = (),
    ) -> list[Path]:
        """Compile every file into a folder; returns the object files. Nothing is said of headers in `system`."""
        output.mkdir(parents=True, exist_ok=True)

        def one(number: int, path: Path) -> Path:
            made = output / f"{number}_{path.stem}.o"
            own = [self.c, *c_flags] if path.suffix == ".c" else [self.cxx, *cxx_flags]
            folders = [*(f"-I{item}" for item in include), *(f"-isystem{item}" for item in system)]
            run([*own, *self.flags, *folders, "-c", str(path), "-o", str(made)])
            return made

        with ThreadPoolExecutor(COMPILERS) as pool:
            return list(pool.map(one, *zip(*enumerate(files), strict=True)))


def run(command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    """Run a command that must succeed."""
    result = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, f"{' '.join(map(str, command))[:300]}\n{result.stderr[-4000:]}"
    return result
