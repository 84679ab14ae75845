"""What carries bytes between host and device: a serial port or socket, a device in this process, a bad line.

A transport has its own clock, so that a device in this process can be tested without waiting.
"""

from __future__ import annotations

import os
import select
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from tflnest.errors import DeviceError, MissingExtraError

#: Bits on the line per byte: start, eight data bits, stop.
BITS_PER_BYTE = 10

#: Most bytes that are taken from a port at once.
MAX_READ_BYTES = 1 << 16

_PORT_HINTS = (
    ("permission denied", "add yourself to the group that owns the port (mostly dialout), and log in again"),
    ("no such file", "is the board plugged in? `tflnest ports` lists the ports"),
    ("filenotfound", "is the board plugged in? `tflnest ports` lists the ports"),
    ("busy", "another program has the port open"),
    ("lock", "another program has the port open"),
    ("refused", "nothing listens there; is the virtual or emulated board running?"),
    ("not known", "is the name of the machine right?"),
)


class Transport(Protocol):
    """Carries bytes to a device and back."""

    @property
    def name(self) -> str:
        """What to call it in messages: the URL."""
        ...

    @property
    def bytes_per_second(self) -> float | None:
        """What the line can carry in one direction; None where nobody knows."""
        ...

    def write(self, content: bytes) -> None:
        """Send bytes.

        Raises:
            DeviceError: The line is gone.
        """
        ...

    def read(self, timeout: float) -> bytes:
        """What has arrived; waits so many seconds at most for the first byte, and is empty where none came.

        Raises:
            DeviceError: The line is gone.
        """
        ...

    def now(self) -> float:
        """Seconds since whenever."""
        ...

    def close(self) -> None:
        """Free the line."""
        ...


class SerialTransport:
    """A port, or any other URL that pyserial knows: `socket://host:port`, `rfc2217://host:port`, a pty.

    Args:
        url: The port or URL.
        baud: Bits per second; means nothing to sockets and pseudo-terminals.

    Raises:
        DeviceError: It cannot be opened; the hint says what helps.
        MissingExtraError: pyserial is not installed.
    """

    def __init__(self, url: str, baud: int = 115_200) -> None:
        serial = _serial()
        self._url = url
        self._real = not (url.startswith(("socket://", "rfc2217://")) or "/pts/" in url)
        self._bytes_per_second = baud / BITS_PER_BYTE if self._real else None
        try:
            self._port = serial.serial_for_url(url, baudrate=baud, timeout=0)
        except (serial.SerialException, OSError, ValueError) as error:
            raise _cannot_open(url, error) from None
        self._errors = (serial.SerialException, OSError, TypeError, ValueError)
        # pyserial waits for all bytes that are asked for, or not at all; we want those that are there.
        self._descriptor = self._port.fileno() if os.name == "posix" and hasattr(self._port, "fd") else None
        if url.startswith("socket://"):
            self._descriptor = self._port.fileno()

    @property
    def name(self) -> str:
        """The URL."""
        return self._url

    @property
    def bytes_per_second(self) -> float | None:
        """From the baud rate; None for sockets and pseudo-terminals."""
        return self._bytes_per_second

    def write(self, content: bytes) -> None:
        """See `Transport`."""
        try:
            self._port.write(content)
        except self._errors as error:
            raise self._gone(error) from None

    def read(self, timeout: float) -> bytes:
        """See `Transport`."""
        try:
            if self._descriptor is None:
                return self._read_slowly(timeout)
            if not select.select([self._descriptor], [], [], max(timeout, 0))[0]:
                return b""
            content = os.read(self._descriptor, MAX_READ_BYTES)
        except self._errors as error:
            raise self._gone(error) from None
        if not content:
            raise self._gone("it was closed at the other end")
        return content

    def _read_slowly(self, timeout: float) -> bytes:
        """Where there is no file descriptor to wait for: Windows, and rfc2217."""
        self._port.timeout = max(timeout, 0)
        first: bytes = self._port.read(1)
        rest: bytes = self._port.read(self._port.in_waiting) if first else b""
        return first + rest

    def now(self) -> float:
        """See `Transport`."""
        return time.monotonic()

    def close(self) -> None:
        """See `Transport`."""
        self._port.close()

    def _gone(self, error: Exception | str) -> DeviceError:
        return DeviceError(
            f"{self._url}: the line is gone: {error} (reported by pyserial)",
            "plug the board in again; a push goes on where it was",
        )


def _serial() -> Any:
    try:
        import serial
    except ImportError:
        raise MissingExtraError("serial", "serial", "to open a serial port") from None
    return serial


def _cannot_open(url: str, error: Exception) -> DeviceError:
    text = str(error)
    hints = [hint for pattern, hint in _PORT_HINTS if pattern in text.lower()]
    hint = hints[0] if hints else "`tflnest ports` lists the ports"
    return DeviceError(f"{url}: cannot be opened: {text}", hint)


class LoopbackTransport:
    """A device in this process. Its clock goes on only when somebody waits.

    Args:
        deliver: Gives bytes to the device, which may call `send` meanwhile.
        name: For messages.
    """

    def __init__(self, deliver: Callable[[bytes], None], name: str = "loopback://") -> None:
        self._deliver = deliver
        self._name = name
        self._arrived: deque[bytes] = deque()
        self._clock = 0.0

    @property
    def name(self) -> str:
        """The name it was given."""
        return self._name

    @property
    def bytes_per_second(self) -> float | None:
        """Bytes take no time."""
        return None

    def send(self, content: bytes) -> None:
        """Called by the device."""
        self._arrived.append(content)

    def milliseconds(self) -> int:
        """The clock, for the device."""
        return int(self._clock * 1000)

    def write(self, content: bytes) -> None:
        """See `Transport`."""
        self._deliver(content)

    def read(self, timeout: float) -> bytes:
        """See `Transport`."""
        if not self._arrived:
            self._clock += max(timeout, 0.001)
            self._deliver(b"")
        content = b"".join(self._arrived)
        self._arrived.clear()
        return content

    def now(self) -> float:
        """See `Transport`."""
        return self._clock

    def close(self) -> None:
        """See `Transport`."""


class FaultyTransport:
    """A line that does something to the bytes that pass, for tests.

    Args:
        inner: The line.
        outgoing: Called with what the host sends; gives what arrives.
        incoming: Called with what the device sends; gives what arrives.
    """

    def __init__(
        self,
        inner: Transport,
        outgoing: Callable[[bytes], bytes] = bytes,
        incoming: Callable[[bytes], bytes] = bytes,
    ) -> None:
        self._inner = inner
        self._outgoing = outgoing
        self._incoming = incoming

    @property
    def name(self) -> str:
        """That of the line."""
        return self._inner.name

    @property
    def bytes_per_second(self) -> float | None:
        """That of the line."""
        return self._inner.bytes_per_second

    def write(self, content: bytes) -> None:
        """See `Transport`."""
        self._inner.write(self._outgoing(content))

    def read(self, timeout: float) -> bytes:
        """See `Transport`."""
        return self._incoming(self._inner.read(timeout))

    def now(self) -> float:
        """See `Transport`."""
        return self._inner.now()

    def close(self) -> None:
        """See `Transport`."""
        self._inner.close()
