"""QEMU: where it is, what it can do, and its two control connections.

The machine protocol takes commands, one JSON object per line. The remote protocol of GDB stops the processor where
one likes.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import socket
import subprocess
import threading
from functools import cache
from typing import Any

from tflnest.errors import DeviceError

QEMU = "qemu-system-arm"
INSTALL = "apt-get install --no-install-recommends qemu-system-arm"

_CHUNK = 1 << 16
_HELP_SECONDS = 30
_VERSION = re.compile(r"version (\d+)\.(\d+)")
_PACKET = re.compile(rb"\$([^#]*)#[0-9a-fA-F]{2}")


def find_qemu() -> str:
    """Path of QEMU.

    Raises:
        DeviceError: It is not installed.
    """
    path = shutil.which(QEMU)
    if path is None:
        raise DeviceError(
            f"{QEMU} is not installed, and emulated boards need it", f"install it with: {INSTALL}"
        )
    return path


@cache
def capabilities(path: str) -> tuple[tuple[int, int], bool]:
    """Version of a QEMU, and whether it takes plugins.

    Args:
        path: Its path.

    Raises:
        DeviceError: It does not run, or tells no version.
    """
    try:
        done = subprocess.run(
            [path, "-help"], capture_output=True, text=True, timeout=_HELP_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DeviceError(f"{path} does not run: {error}") from error
    version = _VERSION.search(done.stdout)
    if version is None:
        raise DeviceError(f"{path} does not tell its version: {done.stderr.strip()[:200]}")
    return (int(version[1]), int(version[2])), "-plugin" in done.stdout


class Qmp:
    """The control connection of one emulator.

    Args:
        connection: A connected socket; owned from now on.
        timeout_s: Seconds that a command may take.
    """

    def __init__(self, connection: socket.socket, timeout_s: float) -> None:
        self._connection = connection
        self._connection.settimeout(timeout_s)
        self._timeout_s = timeout_s
        self._rest = b""
        self._lock = threading.Lock()

    def greet(self) -> None:
        """Take QEMU's greeting and begin.

        Raises:
            DeviceError: QEMU has gone, or does not answer in time.
        """
        self._receive()
        self.command("qmp_capabilities")

    def command(self, name: str, **arguments: Any) -> Any:
        """Send a command and wait for its answer; events in between are dropped.

        Raises:
            DeviceError: QEMU refuses the command, has gone, or does not answer in time.
        """
        with self._lock:
            request = {"execute": name, "arguments": arguments}
            try:
                self._connection.sendall(json.dumps(request).encode() + b"\n")
            except OSError as error:
                raise DeviceError(f"the emulator takes no command: {error.strerror or error}") from error
            while True:
                answer = self._receive()
                if "return" in answer:
                    return answer["return"]
                if "error" in answer:
                    raise DeviceError(f"the emulator refuses {name}: {answer['error'].get('desc', '?')}")

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _receive(self) -> dict[str, Any]:
        while b"\n" not in self._rest:
            try:
                chunk = self._connection.recv(_CHUNK)
            except TimeoutError:
                raise DeviceError(f"the emulator did not answer within {self._timeout_s:g} s") from None
            except OSError as error:
                raise DeviceError(f"the emulator has gone: {error.strerror or error}") from error
            if not chunk:
                raise DeviceError("the emulator has gone")
            self._rest += chunk
        line, self._rest = self._rest.split(b"\n", 1)
        answer: dict[str, Any] = json.loads(line)
        return answer


class GdbConnection:
    """The remote protocol of GDB, as far as it is needed to stop at addresses.

    Args:
        connection: A connected socket; owned from now on.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._rest = b""

    def send(self, command: str) -> None:
        """Send a command.

        Raises:
            DeviceError: The emulator has gone.
        """
        text = command.encode("ascii")
        try:
            self._connection.sendall(b"$%b#%02x" % (text, sum(text) & 0xFF))
        except OSError as error:
            raise DeviceError(f"the emulator has gone: {error.strerror or error}") from error

    def receive(self) -> str:
        """Wait for the next answer or event, however long it takes.

        Raises:
            DeviceError: The emulator has gone.
        """
        while (packet := _PACKET.search(self._rest)) is None:
            try:
                chunk = self._connection.recv(_CHUNK)
            except OSError as error:
                raise DeviceError(f"the emulator has gone: {error.strerror or error}") from error
            if not chunk:
                raise DeviceError("the emulator has gone")
            self._rest += chunk
        self._rest = self._rest[packet.end() :]
        try:
            self._connection.sendall(b"+")
        except OSError as error:
            raise DeviceError(f"the emulator has gone: {error.strerror or error}") from error
        return packet[1].decode("ascii")

    def ask(self, command: str) -> str:
        """Send a command and wait for its answer.

        Raises:
            DeviceError: The emulator has gone.
        """
        self.send(command)
        return self.receive()

    def registers(self) -> list[int]:
        """The sixteen core registers: r0 first, pc last.

        Raises:
            DeviceError: The emulator has gone.
        """
        text = bytes.fromhex(self.ask("g")[: 16 * 8])
        return [int.from_bytes(text[start : start + 4], "little") for start in range(0, len(text), 4)]

    def close(self) -> None:
        """Close the connection; whoever waits in `receive` gets an error."""
        with contextlib.suppress(OSError):  # it may have gone already
            self._connection.shutdown(socket.SHUT_RDWR)
        self._connection.close()
