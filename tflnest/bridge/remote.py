"""A board at the end of a serial line: ask it, push pages to it, run models on it.

with tflnest.connect("/dev/ttyACM0") as board:
    board.push("nested.tflite", level=4)
    y = board.run(x)
    board.push("nested.tflite")
    y = board.run(x)
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tflnest.bridge.info import BoardInfo, PageCheck, remote_tensor
from tflnest.bridge.link import TIMEOUT_S, Link, RestartedError
from tflnest.bridge.messages import (
    MAX_FRAME_BYTES,
    RESET_KEY,
    DeviceRow,
    ErrorCode,
    Invoke,
    InvokeReply,
    MessageType,
    ModelRow,
    OperatorRow,
    Output,
    PageRow,
    Place,
    Reset,
    ResidentReply,
    RoomRow,
    SetLevel,
    StateRow,
    StatisticsRow,
    Table,
    TensorRow,
)
from tflnest.bridge.push import Push, PushKind, PushReport, PushStep, computed_crc32, level_position
from tflnest.bridge.session import RefusedError
from tflnest.bridge.trace import Trace
from tflnest.bridge.transport import SerialTransport, Transport
from tflnest.container import Directory
from tflnest.errors import DeviceError, UsageError, VerificationError
from tflnest.graph import Tensor
from tflnest.interpreter import fit_samples
from tflnest.model import Model
from tflnest.progress import Progress, silent

#: Seconds that an inference may take.
RUN_TIMEOUT_S = 120.0
#: Times that a board may start anew during a push without having got more bytes.
MAX_RESTARTS = 3
DEFAULT_BAUD = 115_200


class RemoteBoard:
    """A board at the end of a line. Beginning to talk to it takes it away from any other host.

    Args:
        transport: Leads to the board; closed with this object.
        timeout: Seconds without an answer after which the board is given up.
        trace: Is told of all bytes.

    Raises:
        DeviceError: No board of ours answers.
    """

    def __init__(self, transport: Transport, timeout: float = TIMEOUT_S, trace: Trace | None = None) -> None:
        self.link = Link(transport, timeout, trace)
        self.last_run: InvokeReply | None = None
        self._tensors: tuple[list[TensorRow], list[TensorRow]] | None = None
        try:
            self.link.hello()
        except BaseException:
            self.link.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the line. The board stays as it is."""
        self.link.close()

    @property
    def name(self) -> str:
        """The URL of the line."""
        return self.link.transport.name

    # ------------------------------------------------------------------------------------------- info

    def info(self) -> BoardInfo:
        """Everything that the board tells of itself."""
        read = self.link.read_table
        model = self.link.read_row(Table.MODEL, ModelRow)
        return BoardInfo(
            device=self.link.read_row(Table.DEVICE, DeviceRow),
            model=model,
            state=self.state(),
            pages=tuple(read(Table.PAGES, PageRow)),
            inputs=tuple(read(Table.INPUTS, TensorRow)),
            outputs=tuple(read(Table.OUTPUTS, TensorRow)),
            operators=tuple(read(Table.OPERATORS, OperatorRow)),
            statistics=self.statistics(),
            description_room=None if model.level_count else self.description_room(),
        )

    def state(self) -> StateRow:
        """What changes: resident pages, level, free SRAM, transfers."""
        return self.link.read_row(Table.STATE, StateRow)

    def statistics(self) -> StatisticsRow:
        """Counters."""
        return self.link.read_row(Table.STATISTICS, StatisticsRow)

    def reset_statistics(self) -> None:
        """Set all counters to 0."""
        self.link.call(MessageType.RESET_STATISTICS)

    def reset(self) -> None:
        """Start the board anew, and greet it again.

        Raises:
            RefusedError: The board cannot do that by itself.
        """
        with contextlib.suppress(RestartedError):  # where it is faster than its reply
            self.link.call(MessageType.RESET, Reset(RESET_KEY).pack())
        self.link.hello()

    # ------------------------------------------------------------------------------------------ pages

    def push(
        self,
        model: Model | str | Path,
        level: int | None = None,
        progress: Progress = silent,
        listener: Callable[[PushStep], None] | None = None,
    ) -> PushReport:
        """Send what the board lacks to run at a level, and run there. Goes on where an earlier push was cut off.

        Args:
            model: The nested file that the firmware was made from; any where the board takes whole models.
            level: The level; None for the highest. A board that runs at a higher one stays there.
            progress: Told of the bytes.
            listener: Told of every step.

        Raises:
            UsageError: The model is not nested, or has no such level.
            RefusedError: The board refused; the message says why.
            DoesNotFitError: The board has no room for a page.
            VerificationError: A page that the board needs is damaged.
            DeviceError: The board does not answer.
        """
        push = self._push(model, level)
        self._tensors = None
        for step in push.steps():
            if step.kind is PushKind.DATA:
                progress("push", step.done_bytes, step.total_bytes)
            if listener is not None:
                listener(step)
        return push.report()

    def push_steps(self, model: Model | str | Path, level: int | None = None) -> Iterator[PushStep]:
        """As `push`, step by step: the caller decides how to show them."""
        push = self._push(model, level)
        self._tensors = None
        yield from push.steps()

    def _push(self, model: Model | str | Path, level: int | None) -> Push:
        loaded = model if isinstance(model, Model) else Model.load(model)
        directory = _directory_of(loaded)
        is_new = self._identity() != directory.identity
        if is_new and self.description_room() is None:
            self._directory(loaded)
        return Push(self.link, loaded, directory, level, is_new)

    def description_room(self) -> int | None:
        """Most bytes of a model that the board takes as a whole; None where it runs only the one it was made for."""
        try:
            return self.link.read_row(Table.ROOM, RoomRow).description_bytes
        except RefusedError as error:
            if error.code != ErrorCode.ARGUMENT:
                raise
            return None

    def _identity(self) -> bytes:
        """Of the model on the board; zeros where there is none."""
        return self.link.read_row(Table.MODEL, ModelRow).identity

    def _directory(self, model: Model) -> Directory:
        """The directory of a model that the board has."""
        directory = _directory_of(model)
        identity = self._identity()
        if identity != directory.identity:
            raise DeviceError(
                f"the board runs model {identity.hex()[:12]}, and the file is {directory.name}",
                "push the file that the firmware was made from, or flash firmware made from this file",
            )
        return directory

    def page_out(self, level: int | None = None) -> tuple[int, ...]:
        """Give up all pages from the host that a level does not need; switches there first if it must.

        Args:
            level: The level that stays runnable; None for the lowest.

        Returns:
            The pages that were given up.

        Raises:
            UsageError: There is no such level.
            RefusedError: The board refused.
        """
        info = self.info()
        if not info.levels:
            raise _no_model()
        wanted = info.levels[0] if level is None else level
        top = level_position(info.levels, wanted)
        if info.state.resident & 1 and (info.level is None or info.level > wanted):
            self._set_level(SetLevel(wanted))
        given_up = []
        for index in range(len(info.pages) - 1, top, -1):
            in_transfer = info.state.transfer_page == index
            if in_transfer or (info.pages[index].resident and info.pages[index].place != Place.FLASH):
                reply = self.link.call(MessageType.PAGE_OUT, page=index)
                if not ResidentReply.unpack(reply).resident >> index & 1:
                    given_up.append(index)
        return tuple(given_up)

    def verify(self, model: Model | str | Path | None = None) -> tuple[PageCheck, ...]:
        """Let the board compute the CRC-32 of every page that is resident.

        Args:
            model: The nested file to compare with; None for what the firmware says its pages are.

        Raises:
            DeviceError: The file is of another model.
        """
        expected = None
        if model is not None:
            directory = self._directory(model if isinstance(model, Model) else Model.load(model))
            expected = [page.crc32 for page in directory.pages]
        rows = self.link.read_table(Table.PAGES, PageRow)
        return tuple(
            PageCheck(
                index,
                row.level,
                bool(row.resident),
                row.crc32 if expected is None else expected[index],
                computed_crc32(self.link, index) if row.resident else None,
            )
            for index, row in enumerate(rows)
        )

    # ----------------------------------------------------------------------------------------- levels

    def switch(self, level: int, operator: int | None = None) -> None:
        """Choose the level of the next runs. Where that fails, the board runs on at its present one.

        Args:
            level: A level of the model, or of the operator.
            operator: Index of an operator of the model; None for all.

        Raises:
            UsageError: There is no such level, or no such operator with levels.
            RefusedError: A page is not resident.
        """
        if operator is None:
            row = self.link.read_row(Table.MODEL, ModelRow)
            level_position(tuple(row.levels[: row.level_count]), level)
            self._set_level(SetLevel(level))
            return
        rows = self.link.read_table(Table.OPERATORS, OperatorRow)
        for number, item in enumerate(rows):
            if item.operator == operator:
                level_position(tuple(item.levels[: item.level_count]), level, f"operator {operator}")
                self._set_level(SetLevel(level, 1, number))
                return
        known = ", ".join(str(item.operator) for item in rows) or "none"
        raise UsageError(f"operator {operator} has no levels", f"operators with levels: {known}")

    def _set_level(self, wanted: SetLevel) -> None:
        self.link.call(MessageType.SET_LEVEL, wanted.pack())

    # ------------------------------------------------------------------------------------------- runs

    def run(
        self, x: ArrayLike | Sequence[ArrayLike], level: int | None = None, progress: Progress = silent
    ) -> NDArray[Any] | tuple[NDArray[Any], ...]:
        """Run the model on the board, sample by sample. Everything that travels is checked end to end.

        Args:
            x: As `tflnest.Interpreter.run`: samples first; of the input's dtype, or float, which is quantized.
            level: Switch there first; None for the level that the board runs at.
            progress: Told of the samples.

        Returns:
            The output, samples first; a tuple where the model has several.

        Raises:
            UsageError: The arrays do not fit the inputs.
            RefusedError: The board refused.
            VerificationError: Outputs arrived that are not those of the run.
        """
        if level is not None and self.state().level != level:
            self.switch(level)
        inputs, outputs = self._tensor_rows()
        if not inputs:
            raise _no_model()
        tensors = [remote_tensor(index, row) for index, row in enumerate(inputs)]
        arrays: list[Any] = [x] if len(tensors) == 1 else list(_sequence(x, len(tensors)))
        fitted = [fit_samples(tensor, array) for tensor, array in zip(tensors, arrays, strict=True)]
        batches = [tensor.shape[0] if tensor.shape else 1 for tensor in tensors]
        counts = {len(array) // batch for array, batch in zip(fitted, batches, strict=True)}
        if len(counts) != 1:
            raise UsageError(f"the inputs have different numbers of samples: {sorted(counts)}")
        total = counts.pop()
        results: list[list[NDArray[Any]]] = [[] for _ in outputs]
        for number in range(total):
            content = b"".join(
                np.ascontiguousarray(array[number * batch : (number + 1) * batch]).tobytes()
                for array, batch in zip(fitted, batches, strict=True)
            )
            given = self._run_bytes(content, level or 0)
            for result, value in zip(results, _split(given, outputs), strict=True):
                result.append(value)
            progress("inferences", number + 1, total)
        joined = [
            _join(parts, remote_tensor(index, row))
            for index, (parts, row) in enumerate(zip(results, outputs, strict=True))
        ]
        return joined[0] if len(joined) == 1 else tuple(joined)

    def _run_bytes(self, content: bytes, level: int) -> bytes:
        """One inference: the bytes of all inputs to the bytes of all outputs."""
        for _ in self.link.upload(MessageType.INPUT, content):
            pass
        request = Invoke(zlib.crc32(content), level).pack()
        run = InvokeReply.unpack(self.link.call(MessageType.INVOKE, request, timeout=RUN_TIMEOUT_S))
        self.last_run = run
        size = sum(row.size for row in self._tensor_rows()[1])
        if run.output_bytes != size:
            raise DeviceError(
                f"the board says that a run gives {run.output_bytes:,} bytes, and before {size:,}"
            )
        given = b""
        while len(given) < run.output_bytes:
            request = Output(run.run, len(given), MAX_FRAME_BYTES).pack()
            part = self.link.call(MessageType.OUTPUT, request)
            if not part:
                raise DeviceError(f"the board sent {len(given):,} of {run.output_bytes:,} output bytes")
            given += part
        if zlib.crc32(given) != run.crc32:
            raise VerificationError(
                f"the outputs arrived with CRC-32 {zlib.crc32(given):08x}, the board computed {run.crc32:08x}",
                "run again",
            )
        return given

    def _tensor_rows(self) -> tuple[list[TensorRow], list[TensorRow]]:
        if self._tensors is None:
            read = self.link.read_table
            self._tensors = read(Table.INPUTS, TensorRow), read(Table.OUTPUTS, TensorRow)
        return self._tensors


def _no_model() -> DeviceError:
    return DeviceError("the board has no model", "push one: tflnest push FILE")


def _directory_of(model: Model) -> Directory:
    if model.directory is None:
        raise UsageError("the model is not nested, so it has no pages to send", "nest it: tflnest convert")
    return model.directory


def connect(
    url: str | None = None,
    *,
    baud: int | None = None,
    timeout: float = TIMEOUT_S,
    trace: Trace | None = None,
) -> RemoteBoard:
    """Connect to a board.

    Args:
        url: A port (`/dev/ttyACM0`, `COM3`, a pseudo-terminal), any URL that pyserial knows (`socket://host:port`,
            `rfc2217://host:port`), or "auto": the only board that answers. None for the environment variable
            TFLNEST_PORT.
        baud: Bits per second; None for the environment variable TFLNEST_BAUD, or 115,200.
        timeout: Seconds without an answer after which the board is given up.
        trace: Is told of all bytes, for example a `tflnest.bridge.trace.FileTrace`.

    Raises:
        UsageError: No port was given, or TFLNEST_BAUD is no number.
        DeviceError: The port cannot be opened, or no board of ours answers.
    """
    return RemoteBoard(open_transport(url, baud), timeout, trace)


def open_transport(url: str | None = None, baud: int | None = None) -> Transport:
    """Open a port; see `connect`."""
    from tflnest.bridge.ports import find_board

    speed = default_baud() if baud is None else baud
    chosen = url or os.environ.get("TFLNEST_PORT", "")
    if not chosen:
        raise UsageError("no port was given", "give one, or set TFLNEST_PORT; `tflnest ports` lists them")
    if chosen == "auto":
        chosen = find_board(speed)
    return SerialTransport(chosen, speed)


def default_baud() -> int:
    """Bits per second where nobody says: TFLNEST_BAUD, or 115,200.

    Raises:
        UsageError: TFLNEST_BAUD is no number.
    """
    text = os.environ.get("TFLNEST_BAUD", str(DEFAULT_BAUD))
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"TFLNEST_BAUD is {text!r}, a number was expected") from None


def _split(content: bytes, rows: Sequence[TensorRow]) -> list[NDArray[Any]]:
    values, start = [], 0
    for index, row in enumerate(rows):
        tensor = remote_tensor(index, row)
        values.append(np.frombuffer(content[start : start + row.size], tensor.dtype).reshape(tensor.shape))
        start += row.size
    return values


def _join(parts: Sequence[NDArray[Any]], tensor: Tensor) -> NDArray[Any]:
    if not parts:
        return np.empty((0, *tensor.shape[1:]), tensor.dtype)
    return np.concatenate([part.reshape(part.shape or (1,)) for part in parts])


def _sequence(x: Any, count: int) -> Sequence[ArrayLike]:
    if not isinstance(x, (list, tuple)) or len(x) != count:
        raise UsageError(f"the model has {count} inputs: a list of {count} arrays is expected")
    return x
