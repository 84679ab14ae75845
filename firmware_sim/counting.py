"""Exact instruction counts of marked regions on an emulated board.

Firmware encloses what is to be counted in `port_mark_start(id)` and `port_mark_stop(id)`. A small plugin, compiled
once with the host's compiler, makes QEMU count the instructions in between: without interrupt handlers, and
independent of the host's speed and load. Instructions are not cycles.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from firmware_sim.image import Image
from tflnest.errors import TflnestError
from tflnest.files import read_file

SOURCE = Path(__file__).parent / "plugins" / "instruction_count.c"
_FLAGS = ("-std=c99", "-O2", "-shared", "-fPIC")
_COMPILERS = ("cc", "gcc", "clang")
_COMPILE_SECONDS = 120


@dataclass(frozen=True)
class Region:
    """One pass through a marked region.

    From the return of `port_mark_start` to the entry of `port_mark_stop`: the instructions that call the latter
    are included, usually two. Regions inside count too, but for the marks themselves.

    Attributes:
        id: What the firmware calls it, 0 to 1023.
        instructions: Instructions executed, handlers left out.
        loads: Loads from memory; 0 unless they were asked for.
        stores: Stores likewise.
    """

    id: int
    instructions: int
    loads: int
    stores: int


class Counter:
    """Counts the regions of one emulated board: give it to an `Emulator`.

    Args:
        memory: Count loads and stores too; takes about twice as long.

    Raises:
        TflnestError: There is no compiler on the host, or it fails.
    """

    def __init__(self, memory: bool = False) -> None:
        self.memory = memory
        self._plugin = plugin()
        self._results: Path | None = None

    def arguments(self, image: Image, folder: Path) -> list[str]:
        """Arguments for QEMU.

        Args:
            image: The firmware, linked with a port.
            folder: An existing folder for the results.

        Raises:
            FormatError: The firmware has no marks.
        """
        self._results = folder / "regions"
        options = {
            "start": image.symbol("port_mark_start").address,
            "stop": image.symbol("port_mark_stop").address,
            "skip_from": image.symbol("port_uncounted_start").address,
            "skip_to": image.symbol("port_uncounted_end").address,
        }
        values = [f"{name}=0x{value:x}" for name, value in options.items()]
        values += ["memory=1"] if self.memory else []
        paths = [str(path).replace(",", ",,") for path in (self._plugin, self._results)]
        return ["-plugin", ",".join([paths[0], *values, f"out={paths[1]}"])]

    def regions(self) -> list[Region]:
        """All regions so far, in the order in which they ended."""
        if self._results is None or not self._results.exists():
            return []
        lines = self._results.read_text(encoding="ascii").split("\n")[:-1]
        return [Region(*map(int, line.split())) for line in lines]


def plugin() -> Path:
    """The compiled plugin, from the user's cache or new.

    Raises:
        TflnestError: There is no compiler on the host, or it fails.
    """
    source = read_file(SOURCE)
    key = b"\0".join([source, " ".join(_FLAGS).encode(), platform.machine().encode(), sys.platform.encode()])
    name = f"instruction_count-{hashlib.sha256(key).hexdigest()[:16]}.so"
    folder = _cache_folder()
    path = folder / name
    if path.exists():
        return path
    compiler = next(filter(None, map(shutil.which, filter(None, [os.environ.get("CC"), *_COMPILERS]))), None)
    if compiler is None:
        raise TflnestError(
            "counting instructions needs a C compiler on this computer, and there is none",
            "install gcc or clang, or name one in the variable CC",
        )
    with tempfile.TemporaryDirectory(dir=folder) as work:
        built = Path(work) / name
        _compile([compiler, *_FLAGS, str(SOURCE), "-o", str(built)])
        built.replace(path)
    return path


def _cache_folder() -> Path:
    """`$XDG_CACHE_HOME/tflnest` or `~/.cache/tflnest`; a temporary folder of the user where neither can be written."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    for folder in (Path(base) / "tflnest", Path(tempfile.gettempdir()) / f"tflnest-{os.getuid()}"):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK) and folder.stat().st_uid == os.getuid():
            return folder
    raise TflnestError(f"neither {base} nor {tempfile.gettempdir()} can be written to", "set XDG_CACHE_HOME")


def _compile(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_COMPILE_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise TflnestError(f"{command[0]} failed: {error}") from error
    if done.returncode:
        raise TflnestError(f"the plugin that counts instructions could not be built:\n{done.stderr.strip()}")
