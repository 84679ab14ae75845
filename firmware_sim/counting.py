"""Exact instruction counts of marked regions on an emulated board.

Firmware encloses what is to be counted in `port_mark_start(id)` and `port_mark_stop(id)`. A small plugin, compiled
once with the host's compiler, makes QEMU count the instructions in between: without interrupt handlers, and
independent of the host's speed and load. Where QEMU does not take it, QEMU's own count is read at each mark.
Instructions are not cycles.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from firmware_sim.image import Image
from firmware_sim.qemu import GdbConnection, Qmp, capabilities, find_qemu
from tflnest.errors import DeviceError, TflnestError, UsageError
from tflnest.files import read_file

Method = Literal["auto", "plugin", "icount"]

#: The marks of `port.h`.
START, STOP = "port_mark_start", "port_mark_stop"

#: The version of QEMU that no longer has what the plugin uses: inline counters of version 1 of the interface.
FIRST_INCOMPATIBLE = (9, 0)

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
        method: "plugin", or "icount": QEMU's own count, read where the processor stops at each mark. The latter
            needs no compiler and no plugin, is slower, and counts interrupt handlers: a few instructions in a
            million, the same in every run. By default the plugin where QEMU takes it.

    Raises:
        DeviceError: QEMU is not installed.
        TflnestError: The plugin was asked for, and there is no compiler on the host, or it fails.
        UsageError: Loads and stores were asked for, which only the plugin counts.
    """

    def __init__(self, memory: bool = False, method: Method = "auto") -> None:
        if method == "auto":
            method = "plugin" if memory or _plugin_works() else "icount"
        if memory and method == "icount":
            raise UsageError("QEMU's own count has no loads and stores", 'count them with method="plugin"')
        self.method = method
        self._way = _Plugin(memory) if method == "plugin" else _Breakpoints()

    def arguments(self, image: Image, folder: Path, inherited: list[int]) -> list[str]:
        """Arguments for QEMU.

        Args:
            image: The firmware, linked with a port.
            folder: An existing folder for the results.
            inherited: Takes the file descriptors that QEMU needs, which belong to the caller from then on.

        Raises:
            FormatError: The firmware has no marks.
        """
        return self._way.arguments(image, folder, inherited)

    def begin(self, qmp: Qmp) -> None:
        """Begin, once QEMU has started and before the board runs.

        Args:
            qmp: QEMU's control connection.

        Raises:
            DeviceError: QEMU has gone.
        """
        self._way.begin(qmp)

    def regions(self) -> list[Region]:
        """All regions so far, in the order in which they ended."""
        return self._way.regions()

    def close(self) -> None:
        """End; `regions` stays."""
        self._way.close()


class _Plugin:
    """Regions counted by the plugin."""

    def __init__(self, memory: bool) -> None:
        self._memory = memory
        self._plugin = plugin()
        self._results: Path | None = None
        self._kept: list[Region] = []

    def arguments(self, image: Image, folder: Path, inherited: list[int]) -> list[str]:
        self._results = folder / "regions"
        options = {
            "start": image.symbol(START).address,
            "stop": image.symbol(STOP).address,
            "skip_from": image.symbol("port_uncounted_start").address,
            "skip_to": image.symbol("port_uncounted_end").address,
        }
        values = [f"{name}=0x{value:x}" for name, value in options.items()]
        values += ["memory=1"] if self._memory else []
        paths = [str(path).replace(",", ",,") for path in (self._plugin, self._results)]
        return ["-plugin", ",".join([paths[0], *values, f"out={paths[1]}"])]

    def begin(self, qmp: Qmp) -> None:
        self._kept = []

    def regions(self) -> list[Region]:
        if self._results is None or not self._results.exists():
            return list(self._kept)
        lines = self._results.read_text(encoding="ascii").split("\n")[:-1]
        return [Region(*map(int, line.split())) for line in lines]

    def close(self) -> None:
        self._kept = self.regions()


class _Breakpoints:
    """Regions counted by QEMU, which stops at each mark."""

    #: Instructions of a mark.
    MARK = 3
    #: One instruction takes 2^6 ns of the board's time: about the speed of a small core.
    SHIFT = 6

    def __init__(self) -> None:
        self._regions: list[Region] = []
        self._thread: threading.Thread | None = None

    def arguments(self, image: Image, folder: Path, inherited: list[int]) -> list[str]:
        self._regions = []
        self._start, self._stop = image.symbol(START).address, image.symbol(STOP).address
        ours, theirs = socket.socketpair()
        self._gdb = GdbConnection(ours)
        inherited.append(theirs.detach())
        return [
            *("-icount", f"shift={self.SHIFT}"),
            *("-chardev", f"socket,id=gdb,fd={inherited[-1]}", "-gdb", "chardev:gdb"),
        ]

    def begin(self, qmp: Qmp) -> None:
        for address in (self._start, self._stop):
            if self._gdb.ask(f"Z1,{address:x},2") != "OK":
                raise DeviceError("the emulator sets no breakpoint", 'count with method="plugin"')
        self._thread = threading.Thread(target=self._serve, args=(qmp,), daemon=True)
        self._thread.start()

    def regions(self) -> list[Region]:
        return list(self._regions)

    def close(self) -> None:
        self._gdb.close()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _serve(self, qmp: Qmp) -> None:
        """Note the count at each mark until the emulator has gone."""
        begun: dict[int, int] = {}
        marks = 0
        with contextlib.suppress(DeviceError):
            while self._gdb.receive().startswith("T"):
                registers = self._gdb.registers()
                identity, pc = registers[0], registers[-1]
                # What has been executed but for the marks themselves: this one is still to come.
                count = int(qmp.command("query-replay")["icount"]) - self.MARK * marks
                marks += 1
                if pc == self._start:
                    begun[identity] = count
                elif pc == self._stop and identity in begun:
                    self._regions.append(Region(identity, count - begun.pop(identity), 0, 0))
                self._gdb.ask("s")
                self._gdb.send("c")


def _plugin_works() -> bool:
    """Whether QEMU takes a plugin of our version of the interface, and there is a compiler for it."""
    version, has_plugins = capabilities(find_qemu())
    return has_plugins and version < FIRST_INCOMPATIBLE and (_cached().exists() or _compiler() is not None)


def plugin() -> Path:
    """The compiled plugin, from the user's cache or new.

    Raises:
        TflnestError: There is no compiler on the host, or it fails.
    """
    path = _cached()
    if path.exists():
        return path
    compiler = _compiler()
    if compiler is None:
        raise TflnestError(
            "counting instructions needs a C compiler on this computer, and there is none",
            "install gcc or clang, or name one in the variable CC",
        )
    with tempfile.TemporaryDirectory(dir=path.parent) as work:
        built = Path(work) / path.name
        _compile([compiler, *_FLAGS, str(SOURCE), "-o", str(built)])
        built.replace(path)
    return path


def _compiler() -> str | None:
    names = filter(None, [os.environ.get("CC"), *_COMPILERS])
    return next(filter(None, map(shutil.which, names)), None)


def _cached() -> Path:
    """Where the compiled plugin is, or is to be: another name for another source."""
    parts = [read_file(SOURCE), " ".join(_FLAGS).encode(), platform.machine().encode(), sys.platform.encode()]
    digest = hashlib.sha256(b"\0".join(parts)).hexdigest()
    return _cache_folder() / f"instruction_count-{digest[:16]}.so"


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
