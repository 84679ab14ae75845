"""QEMU's machine protocol: one JSON object per line, a command at a time."""

from __future__ import annotations

import json
import socket
import threading
from typing import Any

from tflnest.errors import DeviceError

_CHUNK = 1 << 16


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
