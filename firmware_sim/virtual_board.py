"""A virtual board: memories of a board's size, a model in them, and the serial protocol in front.

It answers the same bytes as generated firmware, on a pseudo-terminal, a TCP port, or in this process, and
can be reset, cut from power, or put behind a bad line.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, Self

from firmware_sim.board import Board
from firmware_sim.model_bank import ModelBank
from firmware_sim.no_model import NoModel
from firmware_sim.pager import Placement
from firmware_sim.virtual_model import VirtualModel
from tflnest.bridge.device import Device, DeviceConfig, Transfer
from tflnest.bridge.frames import DELIMITER
from tflnest.bridge.transport import BITS_PER_BYTE, LoopbackTransport
from tflnest.errors import DeviceError, UsageError
from tflnest.model import Model

DEFAULT_FRAME_BYTES = 1024
#: Frames that the port of a virtual board buffers while one is handled, unless something else is asked for.
WINDOW_FRAMES = 2
#: Static data of the protocol in firmware besides the buffers, about.
PROTOCOL_BYTES = 256
#: Seconds after which bytes that nobody reads are dropped.
SEND_PATIENCE_S = 1.0
_READ_BYTES = 4096
#: Seconds between two looks at a port where nothing happens.
_IDLE_S = 0.05


class ProtocolMachine(Protocol):
    """The device's side of the protocol: `tflnest.bridge.device.Device`, or the C of the runtime in tests."""

    def receive(self, content: bytes) -> None:
        """Bytes arrived."""
        ...


class VirtualBoard:
    """A board that exists only here.

    Args:
        model: A nested model; None: the board takes any model, whole, over the line.
        board: The board.
        placement: Where the lower-bit pages rest; "flash" has them there from the start.
        empty: Whether the flash starts without any page.
        frame_bytes: Largest frame.
        window_bytes: Bytes that the port buffers; None for two frames.
        milliseconds: The clock; None for that of the machine.
        send: Sends bytes; None until `connect` gives one.
        machine: Makes the device's side of the protocol.
        sectors: Whether lower-bit pages that rest in flash arrive over the line, too.

    Raises:
        UsageError: The model is not nested, or a size makes no sense.
        DoesNotFitError: The board cannot hold the model.
    """

    def __init__(
        self,
        model: Model | None,
        board: Board,
        placement: Placement | str = Placement.HOST,
        empty: bool = False,
        frame_bytes: int = DEFAULT_FRAME_BYTES,
        window_bytes: int | None = None,
        milliseconds: Callable[[], int] | None = None,
        send: Callable[[bytes], None] | None = None,
        machine: Callable[[DeviceConfig], ProtocolMachine] = Device,
        sectors: bool = False,
    ) -> None:
        window = WINDOW_FRAMES * frame_bytes if window_bytes is None else window_bytes
        self.board = board
        port_bytes = frame_bytes + window + PROTOCOL_BYTES
        self.bank: ModelBank | None = None
        if model is None:
            self.bank = ModelBank(
                board,
                lambda content, rest: VirtualModel(content, rest, placement, False, port_bytes, sectors=True),
            )
            self.model: VirtualModel | NoModel = NoModel(board, port_bytes)
        else:
            self.model = VirtualModel(model, board, placement, empty, port_bytes, sectors)
        self.transfer = Transfer()
        self.frame_bytes = frame_bytes
        self.window_bytes = window
        self._milliseconds = milliseconds or (lambda: time.monotonic_ns() // 1_000_000)
        self._send = send
        self._restart_due = False
        self._machine = machine
        self.device = self._start()

    def connect(self, send: Callable[[bytes], None] | None) -> None:
        """Say where bytes go; None: nowhere."""
        self._send = send

    def receive(self, content: bytes) -> None:
        """Bytes arrive at the board's port; may be none."""
        self.device.receive(content)
        if self._restart_due:
            self._restart_due = False
            self.reset()

    def reset(self) -> None:
        """Press the reset button: SRAM keeps its bytes, the program begins anew, with the model that came last."""
        if self.bank is not None and self.bank.model is not None:
            self.model = self.bank.model
        self.model.restart()
        self.device = self._start()

    def lose_power(self) -> None:
        """Switch off and on: SRAM loses its bytes."""
        self.model.lose_power()
        self.transfer = Transfer()
        self.device = self._start()

    def _start(self) -> ProtocolMachine:
        return self._machine(
            DeviceConfig(
                model=self.model,
                board=self.board.name,
                frame_bytes=self.frame_bytes,
                window_bytes=self.window_bytes,
                send=self._emit,
                milliseconds=self._milliseconds,
                reset=self._ask_restart,
                transfer=self.transfer,
                store=self.bank,
            )
        )

    def _emit(self, content: bytes) -> None:
        if self._send is not None:
            self._send(content)

    def _ask_restart(self) -> None:
        self._restart_due = True


def loopback(
    model: Model | None,
    board: Board,
    placement: Placement | str = Placement.HOST,
    empty: bool = False,
    frame_bytes: int = DEFAULT_FRAME_BYTES,
    window_bytes: int | None = None,
    machine: Callable[[DeviceConfig], ProtocolMachine] = Device,
    sectors: bool = False,
) -> tuple[VirtualBoard, LoopbackTransport]:
    """A virtual board in this process, and the line to it, with a clock of their own; see `VirtualBoard`."""
    boards: list[VirtualBoard] = []
    line = LoopbackTransport(lambda content: boards[0].receive(content) if boards else None)
    virtual = VirtualBoard(
        model,
        board,
        placement,
        empty,
        frame_bytes,
        window_bytes,
        line.milliseconds,
        line.send,
        machine,
        sectors,
    )
    boards.append(virtual)
    return virtual, line


# ------------------------------------------------------------------------------------------------- faults


@dataclass(frozen=True)
class LineFaults:
    """What a bad line does to frames, each with a probability of 0 to 1.

    Attributes:
        drop: A frame disappears.
        flip: A bit of it is inverted.
        duplicate: It comes twice.
        seed: Of the chances.
    """

    drop: float = 0.0
    flip: float = 0.0
    duplicate: float = 0.0
    seed: int = 0

    def apply(self) -> Callable[[bytes], bytes]:
        """A line with these faults: what goes in, to what comes out."""
        chances = random.Random(self.seed)

        def pass_on(content: bytes) -> bytes:
            return b"".join(self._frame(frame, chances) for frame in _frames(content))

        return pass_on

    def _frame(self, frame: bytes, chances: random.Random) -> bytes:
        if chances.random() < self.drop:
            return b""
        if chances.random() < self.flip:
            position = chances.randrange(len(frame))
            flipped = frame[position] ^ 1 << chances.randrange(8)
            frame = frame[:position] + bytes([flipped]) + frame[position + 1 :]
        return frame * 2 if chances.random() < self.duplicate else frame


def parse_faults(text: str) -> LineFaults:
    """Read faults such as "drop=0.01,flip=0.001,seed=3".

    Raises:
        UsageError: A name or a number makes no sense.
    """
    known = {"drop": float, "flip": float, "duplicate": float, "seed": int}
    values: dict[str, float] = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        try:
            values[name] = known[name](value)
        except (KeyError, ValueError):
            raise UsageError(
                f"{part!r} is no fault of a line", f"faults are {', '.join(known)}, for example drop=0.01"
            ) from None
        if name != "seed" and not 0 <= values[name] <= 1:
            raise UsageError(f"the probability of {name} is {value}, expected 0 to 1")
    return LineFaults(**values)  # type: ignore[arg-type]


def _frames(content: bytes) -> Iterator[bytes]:
    """Cut a stream behind every delimiter."""
    start = 0
    while start < len(content):
        end = content.find(DELIMITER, start)
        end = len(content) if end < 0 else end + 1
        yield content[start:end]
        start = end


# ------------------------------------------------------------------------------------------------ serving


class _Socket(Protocol):
    """Where a virtual board hears and speaks."""

    url: str

    def read(self, timeout: float) -> bytes: ...

    def write(self, content: bytes) -> None: ...

    def close(self) -> None: ...


class _Pty:
    """A pseudo-terminal; the other end is opened like a serial port."""

    def __init__(self) -> None:
        if os.name != "posix":
            raise UsageError("this system has no pseudo-terminals", "use --uart tcp")
        import tty

        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.url = os.ttyname(self._slave)

    def read(self, timeout: float) -> bytes:
        if not select.select([self._master], [], [], timeout)[0]:
            return b""
        with contextlib.suppress(BlockingIOError):
            return os.read(self._master, _READ_BYTES)
        return b""

    def write(self, content: bytes) -> None:
        """A UART does not wait for a listener: what nobody takes is lost."""
        deadline = time.monotonic() + SEND_PATIENCE_S
        while content:
            try:
                content = content[os.write(self._master, content) :]
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    return
                select.select([], [self._master], [], 0.05)

    def close(self) -> None:
        os.close(self._master)
        os.close(self._slave)


class _Tcp:
    """A TCP port on this machine, for one host at a time; the next one takes over."""

    def __init__(self, port: int) -> None:
        try:
            self._server = socket.create_server(("127.0.0.1", port))
        except OSError as error:
            raise DeviceError(
                f"TCP port {port} cannot be opened: {error.strerror or error}", "choose another one"
            ) from None
        self._client: socket.socket | None = None
        self.url = f"socket://127.0.0.1:{self._server.getsockname()[1]}"

    def read(self, timeout: float) -> bytes:
        sockets = [self._server] if self._client is None else [self._server, self._client]
        ready = select.select(sockets, [], [], timeout)[0]
        if self._server in ready:
            self._drop()
            self._client, _ = self._server.accept()
            self._client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return b""
        if self._client is None or self._client not in ready:
            return b""
        try:
            content = self._client.recv(_READ_BYTES)
        except OSError:
            content = b""
        if not content:
            self._drop()
        return content

    def write(self, content: bytes) -> None:
        if self._client is not None:
            try:
                self._client.sendall(content)
            except OSError:
                self._drop()

    def close(self) -> None:
        self._drop()
        self._server.close()

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


class VirtualPort:
    """Serves a virtual board where other programs can reach it.

    Args:
        virtual: The board.
        tcp_port: TCP port on this machine, 0 for any; None for a pseudo-terminal.
        baud: Bits per second of the line, for a line that is as slow as a real one; None for as fast as it goes.
        incoming: Faults of the line to the board.
        outgoing: Faults of the line from the board.

    Raises:
        DeviceError: The TCP port is taken.
        UsageError: This system has no pseudo-terminals.
    """

    def __init__(
        self,
        virtual: VirtualBoard,
        tcp_port: int | None = None,
        baud: int | None = None,
        incoming: LineFaults | None = None,
        outgoing: LineFaults | None = None,
    ) -> None:
        self.virtual = virtual
        self._socket: _Socket = _Pty() if tcp_port is None else _Tcp(tcp_port)
        self._rate = baud / BITS_PER_BYTE if baud else None
        self._incoming = (incoming or LineFaults()).apply()
        self._outgoing = (outgoing or LineFaults()).apply()
        self._line_free = 0.0
        self._read_free = 0.0
        self._queue: deque[tuple[float, bytes]] = deque()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        virtual.connect(self._send)

    @property
    def url(self) -> str:
        """What to open."""
        return self._socket.url

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self.serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def serve(self, seconds: float | None = None) -> None:
        """Answer until `close`.

        Args:
            seconds: End after so long; None: do not.
        """
        end = None if seconds is None else time.monotonic() + seconds
        while not self._stop.is_set() and (end is None or time.monotonic() < end):
            self._flush()
            now = time.monotonic()
            patience = min(max(self._queue[0][0] - now, 0.0), _IDLE_S) if self._queue else _IDLE_S
            if self._rate and now < self._read_free:
                time.sleep(min(self._read_free - now, patience))
                continue
            content = self._socket.read(patience)
            if self._rate and content:
                self._read_free = max(self._read_free, now - 0.01) + len(content) / self._rate
            self.virtual.receive(self._incoming(content) if content else b"")

    def close(self) -> None:
        """Stop answering, and close the port."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self._socket.close()

    def _send(self, content: bytes) -> None:
        content = self._outgoing(content)
        if self._rate is None:
            self._socket.write(content)
            return
        self._line_free = max(self._line_free, time.monotonic()) + len(content) / self._rate
        self._queue.append((self._line_free, content))

    def _flush(self) -> None:
        """Send what the paced line has carried by now."""
        while self._queue and self._queue[0][0] <= time.monotonic():
            self._socket.write(self._queue.popleft()[1])
