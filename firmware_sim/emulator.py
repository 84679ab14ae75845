"""Boards without hardware: firmware on an emulated Cortex-M in QEMU, with its serial port, reset and faults.

All that is peculiar about QEMU is dealt with here: a processor that starts only when the serial port is open (a
pty drops what nobody reads), input that is not noticed until something wakes the main loop, boards that abort,
and processes that must not stay behind.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import socket
import subprocess
import tempfile
import time
import tty
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Literal

from firmware_sim.board import Board
from firmware_sim.counting import Counter, Region
from firmware_sim.fault import RECORD_SYMBOL, Fault
from firmware_sim.image import Image
from firmware_sim.qemu import QEMU, Qmp, find_qemu
from tflnest.errors import DeviceError, UsageError

#: Seconds until silence is an error; generous, since computers that test are busy.
TIMEOUT_S = 10.0

#: How the serial port is reached: as a pseudo-terminal, as a TCP port of this computer, or by `read` and `write`
#: alone, which loses nothing when the firmware ends.
Uart = Literal["pty", "tcp", "direct"]

_CHUNK = 1 << 16
_POLL_S = 0.05
_TAIL_BYTES = 4000
_FATAL = re.compile(r"qemu: fatal: (.*)")
_PROGRAM_COUNTER = re.compile(r"\bR15=([0-9a-f]{8})")


def find_firmware(path: str | Path) -> Path:
    """The firmware of a project: the file itself, or the only ELF file in a folder or its folder `build`.

    Raises:
        UsageError: There is none, or more than one.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    found = sorted([*path.glob("*.elf"), *path.glob("build/*.elf")])
    if len(found) == 1:
        return found[0]
    if not found:
        built = (path / "Makefile").exists()
        raise UsageError(f"{path}: holds no .elf file", f"build it first: make -C {path}" if built else None)
    raise UsageError(f"{path}: holds several .elf files", f"name one: {', '.join(map(str, found))}")


def board_of(image: Image) -> Board:
    """The board that firmware is linked for, with the memory sizes of the linker.

    Raises:
        UsageError: The firmware does not say, or there is no such board.
    """
    try:
        name, sram, flash = image.label.split()
        return Board.load(name).with_limits(int(sram), int(flash))
    except ValueError:
        raise UsageError(
            f"{image.path}: does not say which board it is for", "name it with --board"
        ) from None


@dataclass(frozen=True)
class Finished:
    """What firmware left that has ended.

    Attributes:
        status: What it gave to `port_exit`.
        output: All bytes that it sent.
        regions: The regions that were counted, in the order in which they ended.
    """

    status: int
    output: bytes
    regions: list[Region]


class Emulator:
    """One emulated board with one firmware.

    Use it as a context manager; several may run at once. The board runs from `__enter__` on.

    Args:
        board: A board whose profile has a table [emulator].
        elf: The firmware.
        uart: "pty", "tcp" or "direct". The first two give a `url` for pyserial; `read` and `write` work with the
            first and the last. Use either them or the url.
        counter: Counts marked regions.
        blobs: Files that are put into memory before the start, by address.
        timeout_s: Seconds until silence is an error.

    Raises:
        UsageError: There is no emulator for the board.
        FormatError: The file is no firmware.
    """

    def __init__(
        self,
        board: Board,
        elf: str | Path | Image,
        *,
        uart: Uart = "pty",
        counter: Counter | None = None,
        blobs: Mapping[int, str | Path] | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        if board.emulator is None:
            raise UsageError(
                f"there is no emulator for the board {board.name}",
                "boards with one have a table [emulator] in their profile",
            )
        self.board = board
        self.image = elf if isinstance(elf, Image) else Image(elf)
        self.timeout_s = timeout_s
        self.url = ""
        self._emulation = board.emulator
        self._uart = uart
        self._counter = counter
        self._blobs = dict(blobs or {})
        self._faults_seen = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._exit = contextlib.ExitStack()

    def __enter__(self) -> Emulator:
        """Start.

        Raises:
            DeviceError: QEMU is not installed, or does not start.
        """
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the emulator, whatever it does."""
        self._exit.close()

    # ----------------------------------------------------------------------------------------------- control

    @property
    def pid(self) -> int:
        """Number of QEMU's process."""
        return self._running().pid

    @property
    def is_running(self) -> bool:
        """Whether QEMU still runs."""
        return self._process is not None and self._process.poll() is None

    def reset(self) -> None:
        """Press the reset button.

        Raises:
            DeviceError: The board is dead.
        """
        self._command("system_reset")

    def wait(self, timeout_s: float | None = None) -> int:
        """Wait until the firmware ends itself with `port_exit`; returns its status.

        Raises:
            DeviceError: It does not in time, or the board died.
        """
        limit = self.timeout_s if timeout_s is None else timeout_s
        try:
            self._running().wait(limit)
        except subprocess.TimeoutExpired:
            raise DeviceError(
                f"the emulated board {self.board.name} did not end within {limit:g} s"
            ) from None
        return self._status()

    def check(self) -> None:
        """Do nothing while the board runs.

        Raises:
            DeviceError: It died, or its firmware ended.
        """
        if not self.is_running:
            status = self._status()
            raise DeviceError(
                f"the firmware on the emulated board {self.board.name} ended with status {status}"
            )

    def memory(self, address: int, size: int) -> bytes:
        """What lies in the board's memory.

        Raises:
            DeviceError: The board is dead.
        """
        path = self._folder / "memory"
        self._command("memsave", **{"val": address, "size": size, "filename": str(path)})
        return path.read_bytes()

    def regions(self) -> list[Region]:
        """The regions that were counted so far; none without a counter."""
        return [] if self._counter is None else self._counter.regions()

    def take_fault(self) -> Fault | None:
        """The last fault since the start or since the last call; None where there was none.

        Raises:
            DeviceError: The board is dead.
        """
        symbol = self.image.symbols.get(RECORD_SYMBOL)
        if symbol is None:
            return None
        count, fault = Fault.from_record(self.memory(symbol.address, symbol.size))
        if count == self._faults_seen:
            return None
        self._faults_seen = count
        return fault

    # ------------------------------------------------------------------------------------------- serial port

    def write(self, data: bytes) -> None:
        """Send bytes to the board.

        Raises:
            DeviceError: It does not take them in time, or is dead.
        """
        rest = memoryview(data)
        deadline = time.monotonic() + self.timeout_s
        while rest:
            _, ready, _ = select.select([], [self._channel()], [], _POLL_S)
            if ready:
                rest = rest[os.write(self._channel(), rest[:_CHUNK]) :]
                self._wake()
            elif time.monotonic() > deadline:
                raise DeviceError(
                    f"the emulated board {self.board.name} took {len(data) - len(rest):,} of {len(data):,} bytes "
                    f"within {self.timeout_s:g} s"
                )
            else:
                self.check()

    def read(self, count: int, timeout_s: float | None = None) -> bytes:
        """Receive exactly `count` bytes.

        Raises:
            DeviceError: They do not come in time, or the board is dead.
        """
        received = b""
        limit = self.timeout_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + limit
        while len(received) < count:
            chunk = self.read_some(count - len(received), _POLL_S)
            received += chunk
            if not chunk:
                self.check()
            if len(received) < count and time.monotonic() > deadline:
                raise DeviceError(
                    f"the emulated board {self.board.name} sent {len(received):,} of {count:,} bytes within {limit:g} s"
                )
        return received

    def read_some(self, limit: int = _CHUNK, timeout_s: float = 0.0) -> bytes:
        """Receive what is there, at most `limit` bytes; none where none come in time."""
        ready, _, _ = select.select([self._channel()], [], [], timeout_s)
        if not ready:
            return b""
        try:
            return os.read(self._channel(), limit)
        except OSError:  # how the system says that the other end of a pty or socket is closed
            return b""

    # --------------------------------------------------------------------------------------------- internals

    def _start(self) -> None:
        qemu = find_qemu()
        self._folder = Path(self._exit.enter_context(tempfile.TemporaryDirectory(prefix="tflnest-")))
        self._log: IO[bytes] = self._exit.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        control, theirs = socket.socketpair()
        self._qmp = Qmp(control, self.timeout_s)
        self._exit.callback(self._qmp.close)
        inherited = [theirs.detach()]
        try:
            command = [
                *(qemu, "-machine", self._emulation.machine, *self._emulation.options.split(), "-S"),
                *("-display", "none", "-monitor", "none", "-nic", "none"),
                *("-kernel", str(self.image.path), "-semihosting-config", "enable=on,target=native"),
                *("-chardev", f"socket,id=control,fd={inherited[0]}", "-mon", "chardev=control,mode=control"),
                *(*self._uart_arguments(inherited), "-serial", "chardev:uart"),
                *(word for item in self._blobs.items() for word in _loader(*item)),
                *self._counter_arguments(inherited),
            ]
            self._launch(command, inherited)
        finally:
            for descriptor in inherited:
                os.close(descriptor)
        try:
            self._qmp.greet()
        except DeviceError:
            self._reap()
            raise DeviceError(f"{QEMU} does not start the board {self.board.name}: {self._tail()}") from None
        if self._counter is not None:
            self._counter.begin(self._qmp)
        # Short firmware may end before this is answered: then `wait` says how.
        with contextlib.suppress(DeviceError):
            self._qmp.command("cont")

    def _counter_arguments(self, inherited: list[int]) -> list[str]:
        if self._counter is None:
            return []
        arguments = self._counter.arguments(self.image, self._folder, inherited)
        self._exit.callback(self._counter.close)
        return arguments

    def _uart_arguments(self, inherited: list[int]) -> list[str]:
        """The serial port's end in QEMU; our end is open before the board runs, but for TCP."""
        if self._uart == "tcp":
            listener = socket.create_server(("127.0.0.1", 0))
            self.url = f"socket://127.0.0.1:{listener.getsockname()[1]}"
            inherited.append(listener.detach())
            return ["-chardev", f"socket,id=uart,fd={inherited[-1]},server=on,wait=off"]
        if self._uart == "direct":
            ours, theirs = socket.socketpair()
            self._exit.callback(ours.close)
            ours.setblocking(False)
            self._stream = ours.fileno()
            inherited.append(theirs.detach())
            return ["-chardev", f"socket,id=uart,fd={inherited[-1]}"]
        # A pty of our own, not QEMU's: that one looks once per second whether somebody has opened it. We keep both
        # ends open, so that what nobody reads yet is not lost.
        master, self._stream = os.openpty()
        self._exit.callback(os.close, self._stream)
        self._exit.callback(os.close, master)
        tty.setraw(self._stream)
        os.set_blocking(self._stream, False)
        self.url = os.ttyname(self._stream)
        inherited.append(os.dup(master))
        return ["-add-fd", f"fd={inherited[-1]},set=1", "-chardev", "pipe,id=uart,path=/dev/fdset/1"]

    def _launch(self, command: Sequence[str], inherited: Sequence[int]) -> None:
        try:
            # A session of its own: Ctrl-C reaches us, and we end it.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._log,
                pass_fds=inherited,
                start_new_session=True,
            )
        except OSError as error:
            raise DeviceError(f"{QEMU} cannot be started: {error.strerror or error}") from error
        self._exit.callback(self._reap)
        self._exit.callback(_Guard(self._process.pid, self._folder).close)

    def _reap(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise DeviceError(f"the emulated board {self.board.name} was not started")
        return self._process

    def _channel(self) -> int:
        self._running()
        if self._uart == "tcp":
            raise UsageError("the TCP port takes one client only", f"connect to {self.url}")
        return self._stream

    def _command(self, name: str, **arguments: object) -> list[dict[str, str]]:
        try:
            answer: list[dict[str, str]] = self._qmp.command(name, **arguments)
        except DeviceError:
            # An abort closes the connection a moment before the process can be waited for.
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._running().wait(1)
            self.check()
            raise
        return answer

    def _wake(self) -> None:
        """Make QEMU look for input: what came before the firmware enabled its receiver may wait for minutes."""
        with contextlib.suppress(DeviceError):
            self._qmp.command("query-status")

    def _status(self) -> int:
        """The exit status of a process that has ended of itself."""
        code = self._running().returncode
        if code < 0 or _FATAL.search(self._tail()):
            raise DeviceError(f"the emulated board {self.board.name} died: {self._cause()}")
        return code

    def _tail(self) -> str:
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - _TAIL_BYTES))
        lines = self._log.read().decode("utf-8", "replace").splitlines()
        return "\n".join(line for line in lines if "warning: " not in line).strip()

    def _cause(self) -> str:
        text = self._tail()
        fatal = _FATAL.search(text)
        cause = fatal[1].strip() if fatal else text or f"signal {-self._running().returncode}"
        counter = _PROGRAM_COUNTER.search(text)
        line = self.image.locate(int(counter[1], 16)) if counter else None
        return f"{cause}, in {line}" if line else cause


def run(
    board: Board,
    elf: str | Path | Image,
    *,
    data: bytes = b"",
    counter: Counter | None = None,
    blobs: Mapping[int, str | Path] | None = None,
    timeout_s: float = 60.0,
) -> Finished:
    """Run firmware on an emulated board until it ends itself with `port_exit`.

    Args:
        board: The board.
        elf: The firmware.
        data: Bytes that are sent to it at the start.
        counter: Counts marked regions.
        blobs: Files that are put into memory before the start, by address.
        timeout_s: Seconds that it may take.

    Raises:
        DeviceError: QEMU is not installed, the board died, or the firmware does not end in time.
        UsageError: There is no emulator for the board.
    """
    output = bytearray()
    deadline = time.monotonic() + timeout_s
    with Emulator(board, elf, uart="direct", counter=counter, blobs=blobs, timeout_s=timeout_s) as machine:
        if data:
            machine.write(data)
        while machine.is_running:
            output += machine.read_some(timeout_s=_POLL_S)
            if time.monotonic() > deadline:
                raise DeviceError(
                    f"the firmware did not end within {timeout_s:g} s", f"it sent {bytes(output[-200:])!r}"
                )
        while chunk := machine.read_some():
            output += chunk
        return Finished(machine.wait(), bytes(output), machine.regions())


class _Guard:
    """Ends a process and removes its folder when ours has gone without doing so, killed for example."""

    def __init__(self, pid: int, folder: Path) -> None:
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", 'read -r _; kill -9 "$1"; rm -rf "$2"', "guard", str(pid), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def close(self) -> None:
        """Let go; the process must be ended by other means."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()


def _loader(address: int, path: str | Path) -> tuple[str, str]:
    name = str(path).replace(",", ",,")
    return "-device", f"loader,file={name},addr=0x{address:x},force-raw=on"
