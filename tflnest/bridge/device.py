"""The device's side of the protocol in Python: what the virtual board runs.

It has the same states, names and answers as `tflnest_protocol.c` of the runtime, and passes the same tests.
Like that, it knows neither the port nor the model: bytes come through `receive`, leave through a callback, and
the model is a `DeviceModel`.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Protocol

from tflnest.bridge import frames
from tflnest.bridge.frames import FrameReader, Garbage
from tflnest.bridge.messages import (
    BOARD_NAME_BYTES,
    FRAME_OVERHEAD_BYTES,
    MAX_FRAME_BYTES,
    MIN_FRAME_BYTES,
    NO_PAGE,
    PROTOCOL_VERSION,
    REQUESTS,
    RESET_KEY,
    ROWS,
    WHOLE_MODEL,
    DeviceRow,
    ErrorCode,
    ErrorReply,
    HelloReply,
    InputData,
    Invoke,
    InvokeReply,
    Layout,
    Message,
    MessageType,
    ModelBegin,
    ModelRow,
    OffsetReply,
    OperatorRow,
    Output,
    PageBegin,
    PageData,
    PageEnd,
    PageRow,
    Place,
    Read,
    ReadReply,
    Reset,
    ResidentReply,
    RoomRow,
    SetLevel,
    StateRow,
    StatisticsRow,
    Table,
    TensorRow,
    VerifyReply,
    runtime_version,
)
from tflnest.errors import UsageError
from tflnest.version import __version__


class Status(IntEnum):
    """What functions of a model report: `tflnest_status` of the runtime."""

    OK = 0
    ERROR_ARGUMENT = -1
    ERROR_LEVEL = -2
    ERROR_PAGE = -3
    ERROR_RESIDENT = -4
    ERROR_IN_USE = -5
    ERROR_CRC = -6
    ERROR_IDENTITY = -7
    ERROR_SIZE = -8
    ERROR_FLASH = -9


@dataclass(frozen=True)
class DevicePage:
    """A page of the model.

    Attributes:
        level: The level that it completes.
        place: Where it rests.
        size: Bytes, a multiple of 8.
        crc32: CRC-32 of the image.
        capacity: Bytes that there are for it; 0 where it cannot be sent.
    """

    level: int
    place: Place
    size: int
    crc32: int
    capacity: int


@dataclass(frozen=True)
class DeviceTensor:
    """An input or output of the model.

    Attributes:
        data: Its bytes.
        type: Number of its TensorType in the TFLite schema.
        shape: At most `MAX_DIMENSIONS` dimensions.
        scale: Bits of the float32 scale; 0 where it is not quantized.
        zero_point: Zero point.
    """

    data: bytearray
    type: int
    shape: tuple[int, ...]
    scale: int
    zero_point: int


@dataclass(frozen=True)
class DeviceOperator:
    """An operator with levels of its own.

    Attributes:
        index: Among the operators of the model.
        levels: Lowest first.
    """

    index: int
    levels: tuple[int, ...]


class DeviceModel(Protocol):
    """The model on a device: what it is, and how it is paged and run; `tflnest_protocol_model` says it in full."""

    @property
    def identity(self) -> bytes:
        """32 bytes."""
        ...

    @property
    def levels(self) -> tuple[int, ...]:
        """Lowest first."""
        ...

    @property
    def pages(self) -> Sequence[DevicePage]:
        """In order."""
        ...

    @property
    def operators(self) -> Sequence[DeviceOperator]:
        """Those with levels."""
        ...

    @property
    def inputs(self) -> Sequence[DeviceTensor]:
        """In order."""
        ...

    @property
    def outputs(self) -> Sequence[DeviceTensor]:
        """In order."""
        ...

    def resident(self) -> int:
        """One bit per resident page."""
        ...

    def level(self) -> int:
        """The level that the whole model runs at; 0 where there is no such."""
        ...

    def operator_level(self, row: int) -> int:
        """The bits that an operator runs at."""
        ...

    def free_sram(self) -> int:
        """Bytes of SRAM that nothing uses."""
        ...

    def page_begin(self, page: int, offset: int) -> Status:
        """Make room for a page; the first `offset` bytes of the room stay."""
        ...

    def page_write(self, page: int, offset: int, content: bytes) -> Status:
        """Write bytes that follow what was written."""
        ...

    def page_end(self, page: int, crc32: int) -> Status:
        """Make a page resident whose bytes were all written."""
        ...

    def page_out(self, page: int) -> Status:
        """Give up a page, or the room of one that is not resident."""
        ...

    def page_image(self, page: int) -> bytes | None:
        """What the memory of a page holds now, resident or not; None where it has no place."""
        ...

    def page_found(self, page: int) -> int:
        """Bytes of a page that is not resident which lie in its place since before the power went, right or not."""
        ...

    def set_level(self, level: int) -> Status:
        """Choose the level of the next runs."""
        ...

    def set_operator_level(self, row: int, level: int) -> Status:
        """Choose the level of one operator."""
        ...

    def invoke(self) -> Status:
        """Run the model on its inputs."""
        ...


#: What the check of a transfer covers besides the identity: page, offset, CRC-32.
_TRANSFER = struct.Struct("<III")


@dataclass
class Transfer:
    """The transfer of a page: `tflnest_protocol_transfer`. Outlives a reset where it is given to the next device.

    Attributes:
        page: `NO_PAGE` where there is none.
        offset: Bytes that have arrived.
        crc32: Their CRC-32.
        check: CRC-32 of the model's identity and of all that is above.
    """

    page: int = NO_PAGE
    offset: int = 0
    crc32: int = 0
    check: int = 0

    def computed_check(self, identity: bytes) -> int:
        """What `check` must be for a model."""
        return zlib.crc32(_TRANSFER.pack(self.page, self.offset, self.crc32), zlib.crc32(identity))

    def set(self, identity: bytes, page: int = NO_PAGE, offset: int = 0, crc32: int = 0) -> None:
        """Change it as a whole."""
        self.page, self.offset, self.crc32 = page, offset, crc32
        self.check = self.computed_check(identity)


class ModelStore(Protocol):
    """Where a device that takes any model keeps the one that arrives; the present one goes on meanwhile."""

    @property
    def capacity(self) -> int:
        """Most bytes of a description."""
        ...

    @property
    def size(self) -> int:
        """Bytes of the description that is arriving."""
        ...

    def begin(self, size: int) -> Status:
        """Make room for a description."""
        ...

    def write(self, offset: int, content: bytes) -> Status:
        """Write bytes that follow what was written."""
        ...

    def end(self, identity: bytes) -> tuple[Status, int, int]:
        """Take the model over at the next start; a status, and the numbers that go with an error."""
        ...


@dataclass(frozen=True)
class DeviceConfig:
    """What a device is given: `tflnest_protocol_config`.

    Attributes:
        model: The model.
        board: Name of the board.
        frame_bytes: Largest frame.
        window_bytes: Bytes that the port buffers while a frame is handled, and that frame.
        send: Sends bytes.
        milliseconds: Time since whenever.
        reset: Starts the device anew; None where it cannot.
        stall_milliseconds: A frame that does not go on for so long is dropped; 0: never.
        transfer: Survives a reset; None: transfers do not.
        store: Takes whole models; None: the device runs one model only. Needs `reset`.
    """

    model: DeviceModel
    board: str
    frame_bytes: int
    window_bytes: int
    send: Callable[[bytes], None]
    milliseconds: Callable[[], int] = lambda: 0
    reset: Callable[[], None] | None = None
    stall_milliseconds: int = 500
    transfer: Transfer | None = None
    store: ModelStore | None = None


class _RefusedError(Exception):
    """A request that is answered with an error."""

    def __init__(self, code: int, first: int = 0, second: int = 0) -> None:
        super().__init__(code, first, second)
        self.code, self.first, self.second = code, first, second


def _require(status: Status, first: int = 0, second: int = 0) -> None:
    if status != Status.OK:
        raise _RefusedError(-status, first, second)


@dataclass
class _Run:
    """The last run."""

    number: int = 0
    sequence: int = 0
    level: int = 0
    milliseconds: int = 0
    crc32: int = 0
    valid: bool = False


class Device:
    """A state machine over bytes.

    Args:
        config: The model, the buffers and the way out.

    Raises:
        UsageError: The configuration makes no sense.
    """

    def __init__(self, config: DeviceConfig) -> None:
        if not MIN_FRAME_BYTES <= config.frame_bytes <= MAX_FRAME_BYTES:
            raise UsageError(
                f"a frame of {config.frame_bytes:,} bytes was asked for, allowed are {MIN_FRAME_BYTES} to {MAX_FRAME_BYTES:,}"
            )
        self.config = config
        self.statistics = dict.fromkeys(StatisticsRow.offsets(), 0)
        self._reader = FrameReader(config.frame_bytes)
        self._session = 0
        self._sequence = 0
        self._last_byte_time = 0
        self._input = bytearray()
        self._run = _Run()
        self._coming_identity = b""
        self._has_new_model = False
        self._handlers = self._all_handlers()
        self._transfer = config.transfer if config.transfer is not None else Transfer()
        if not self._transfer_survived():
            self._set_transfer()
            self._find_transfer()
        self._send(Message(MessageType.HELLO, self._hello().pack(), reply=True))

    # ----------------------------------------------------------------------------------------- frames

    def receive(self, content: bytes) -> None:
        """Take bytes that arrived, and answer every frame that ends among them; may be empty."""
        now = self.config.milliseconds()
        stall = self.config.stall_milliseconds
        if self._reader.inside and stall and now - self._last_byte_time >= stall:
            self._count("stalled_frames")
            self._reader.drop()
        if content:
            self._last_byte_time = now
            self._count("received_bytes", len(content))
        for item in self._reader.receive(content):
            if isinstance(item, Garbage):
                self._count("oversized_frames" if item.error.oversized else "damaged_frames")
                self._refuse_frame()
            else:
                self._count("frames")
                self._take(item)

    def _take(self, request: Message) -> None:
        if request.reply:
            return  # the line carries our own words back
        try:
            if request.version != PROTOCOL_VERSION:
                raise _RefusedError(ErrorCode.VERSION, PROTOCOL_VERSION, request.version)
            if not self._admit(request):
                return
            answer = self._handle(request)
        except _RefusedError as refused:
            self._refuse(request, refused)
            return
        self._answer(request, request.type, answer)
        if (request.type == MessageType.RESET or self._has_new_model) and self.config.reset is not None:
            self.config.reset()

    def _admit(self, request: Message) -> bool:
        """Whether a request is of the present session and not older than the last one."""
        if request.type == MessageType.HELLO and request.session not in (0, self._session):
            self._session = request.session
            self._run.valid = False  # of somebody else, under sequence numbers that may come again
        elif request.session != self._session or request.session == 0:
            raise _RefusedError(ErrorCode.SESSION, self._session, request.session)
        elif (request.sequence - self._sequence) & 0x8000:
            self._count("stale_frames")
            return False
        self._sequence = request.sequence
        return True

    def _refuse_frame(self) -> None:
        """Answer a frame that is not sound, so that the host need not wait until it gives up."""
        if self._session:
            nothing = Message(0, session=self._session, sequence=self._sequence)
            self._refuse(nothing, _RefusedError(ErrorCode.FRAME))

    def _refuse(self, request: Message, refused: _RefusedError) -> None:
        self._count("errors")
        payload = ErrorReply(refused.code, request.type, 0, refused.first, refused.second).pack()
        self._answer(request, MessageType.ERROR, payload)

    def _answer(self, request: Message, kind: int, payload: bytes) -> None:
        self._send(Message(kind, payload, True, request.page, request.session, request.sequence))

    def _send(self, message: Message) -> None:
        content = frames.encode(message)
        self._count("sent_bytes", len(content))
        self.config.send(content)

    def _count(self, name: str, amount: int = 1) -> None:
        self.statistics[name] = (self.statistics[name] + amount) & 0xFFFFFFFF

    @property
    def _limit(self) -> int:
        """Most bytes of a reply's payload."""
        return self.config.frame_bytes - FRAME_OVERHEAD_BYTES

    # --------------------------------------------------------------------------------------- messages

    def _all_handlers(self) -> dict[int, Callable[[Message], bytes]]:
        return {
            MessageType.HELLO: lambda _: self._hello().pack(),
            MessageType.READ: self._read,
            MessageType.PAGE_BEGIN: self._page_begin,
            MessageType.PAGE_DATA: self._page_data,
            MessageType.PAGE_END: self._page_end,
            MessageType.PAGE_OUT: self._page_out,
            MessageType.VERIFY: self._verify,
            MessageType.SET_LEVEL: self._set_level,
            MessageType.INPUT: self._input_data,
            MessageType.INVOKE: self._invoke,
            MessageType.OUTPUT: self._output,
            MessageType.RESET_STATISTICS: self._reset_statistics,
            MessageType.RESET: self._reset,
        }

    def _handle(self, request: Message) -> bytes:
        handler = self._handlers.get(request.type)
        if handler is None:
            raise _RefusedError(ErrorCode.TYPE, request.type)
        layout = REQUESTS.get(request.type)
        least = layout.structure().size if layout is not None else 0
        if len(request.payload) < least:
            raise _RefusedError(ErrorCode.LENGTH, len(request.payload), least)
        about_page = MessageType.PAGE_BEGIN <= request.type <= MessageType.VERIFY
        if about_page and request.page == WHOLE_MODEL and self.config.store is not None:
            return self._handle_model(request, self.config.store)
        if about_page and request.page >= len(self.config.model.pages):
            raise _RefusedError(ErrorCode.PAGE, request.page)
        return handler(request)

    def _hello(self) -> HelloReply:
        config = self.config
        return HelloReply(
            version=PROTOCOL_VERSION,
            runtime_version=runtime_version(__version__),
            frame_bytes=config.frame_bytes,
            window_bytes=config.window_bytes,
            stall_milliseconds=config.stall_milliseconds,
        )

    def _reset_statistics(self, _request: Message) -> bytes:
        self.statistics = dict.fromkeys(self.statistics, 0)
        return b""

    def _reset(self, request: Message) -> bytes:
        if Reset.unpack(request.payload).key != RESET_KEY or self.config.reset is None:
            raise _RefusedError(ErrorCode.ARGUMENT, request.type)
        return b""

    def _set_level(self, request: Message) -> bytes:
        wanted = SetLevel.unpack(request.payload)
        if not wanted.one_operator:
            status = self.config.model.set_level(wanted.level)
        elif wanted.operator < len(self.config.model.operators):
            status = self.config.model.set_operator_level(wanted.operator, wanted.level)
        else:
            status = Status.ERROR_ARGUMENT
        _require(status, wanted.level, wanted.operator)
        return b""

    # ----------------------------------------------------------------------------------------- tables

    def _read(self, request: Message) -> bytes:
        read = Read.unpack(request.payload)
        if read.table not in tuple(Table) or (read.table == Table.ROOM and self.config.store is None):
            raise _RefusedError(ErrorCode.ARGUMENT, read.table, read.offset)
        table = Table(read.table)
        content = b"".join(row.pack() for row in self._rows(table))
        if read.offset > len(content):
            raise _RefusedError(ErrorCode.ARGUMENT, read.table, read.offset)
        head = ReadReply(len(content), ROWS[table].structure().size).pack()
        count = min(read.count, self._limit - len(head))
        return head + content[read.offset : read.offset + count]

    def _rows(self, table: Table) -> list[Layout]:
        model = self.config.model
        if table is Table.DEVICE:
            name = self.config.board.encode()[: BOARD_NAME_BYTES - 1]
            return [DeviceRow(**_device_fields(self._hello()), board=name)]
        if table is Table.MODEL:
            return [self._model_row()]
        if table is Table.STATE:
            return [self._state_row()]
        if table is Table.PAGES:
            resident = model.resident()
            return [
                PageRow(page.level, page.place, resident >> row & 1, 0, page.size, page.crc32, page.capacity)
                for row, page in enumerate(model.pages)
            ]
        if table is Table.OPERATORS:
            return [
                OperatorRow(item.index, model.operator_level(row), len(item.levels), bytes(item.levels))
                for row, item in enumerate(model.operators)
            ]
        if table is Table.ROOM and self.config.store is not None:
            return [RoomRow(self.config.store.capacity)]
        if table is Table.STATISTICS:
            return [StatisticsRow(**self.statistics)]
        return [_tensor_row(tensor) for tensor in (model.inputs if table is Table.INPUTS else model.outputs)]

    def _model_row(self) -> ModelRow:
        model = self.config.model
        return ModelRow(
            identity=model.identity,
            level_count=len(model.levels),
            page_count=len(model.pages),
            operator_count=len(model.operators),
            input_count=len(model.inputs),
            output_count=len(model.outputs),
            input_bytes=_total(model.inputs),
            output_bytes=_total(model.outputs),
            levels=bytes(model.levels),
        )

    def _state_row(self) -> StateRow:
        model, transfer = self.config.model, self._transfer
        return StateRow(
            resident=model.resident(),
            free_sram=model.free_sram(),
            level=model.level(),
            transfer_page=transfer.page,
            transfer_offset=transfer.offset,
            transfer_crc32=transfer.crc32,
            input_offset=len(self._input),
            run=self._run.number,
        )

    # ------------------------------------------------------------------------------------------ pages

    def _is_resident(self, page: int) -> bool:
        return bool(self.config.model.resident() >> page & 1)

    def _set_transfer(self, page: int = NO_PAGE, offset: int = 0, crc32: int = 0) -> None:
        self._transfer.set(self.config.model.identity, page, offset, crc32)

    def _end_transfer(self) -> None:
        """Give up the transfer that is under way, and the room that its page has."""
        page = self._transfer.page
        self._set_transfer()
        if page < len(self.config.model.pages):
            self.config.model.page_out(page)

    def _transfer_survived(self) -> bool:
        """Whether the transfer is sound, and its bytes are still there."""
        model, transfer = self.config.model, self._transfer
        if (
            transfer.check != transfer.computed_check(model.identity)
            or transfer.page >= len(model.pages)
            or transfer.offset > model.pages[transfer.page].size
            or self._is_resident(transfer.page)
        ):
            return False
        image = model.page_image(transfer.page)
        if image is None or zlib.crc32(image[: transfer.offset]) != transfer.crc32:
            return False
        return model.page_begin(transfer.page, transfer.offset) == Status.OK

    def _find_transfer(self) -> None:
        """Go on with a page of which a part lies where the loss of power does not reach it."""
        model = self.config.model
        for page in range(len(model.pages)):
            offset = 0 if self._is_resident(page) else model.page_found(page)
            image = model.page_image(page) if offset else None
            if image is not None and model.page_begin(page, offset) == Status.OK:
                self._set_transfer(page, offset, zlib.crc32(image[:offset]))
                return

    def _page_begin(self, request: Message) -> bytes:
        model, number = self.config.model, request.page
        page = model.pages[number]
        if PageBegin.unpack(request.payload).identity != model.identity:
            raise _RefusedError(ErrorCode.IDENTITY, page.size, page.crc32)
        if self._is_resident(number):
            raise _RefusedError(ErrorCode.ALREADY_RESIDENT, number)
        if page.size > page.capacity:
            raise _RefusedError(ErrorCode.SIZE, page.size, page.capacity)
        self._end_transfer()
        _require(model.page_begin(number, 0), page.size, page.capacity)
        self._set_transfer(number)
        return OffsetReply(0).pack()

    def _page_data(self, request: Message) -> bytes:
        model, transfer = self.config.model, self._transfer
        head = PageData.unpack(request.payload)
        content = request.payload[PageData.structure().size :]
        if transfer.page != request.page:
            raise _RefusedError(ErrorCode.TRANSFER, request.page, transfer.page)
        if head.offset == transfer.offset and content:
            room = model.pages[request.page].size - head.offset
            if len(content) > room or len(content) % 8:
                raise _RefusedError(ErrorCode.LENGTH, len(content), room)
            status = model.page_write(request.page, head.offset, content)
            if status != Status.OK:
                self._end_transfer()
            _require(status, len(content), room)
            crc32 = zlib.crc32(content, transfer.crc32)
            self._set_transfer(request.page, head.offset + len(content), crc32)
        return OffsetReply(transfer.offset).pack()

    def _page_end(self, request: Message) -> bytes:
        model, number = self.config.model, request.page
        page, end = model.pages[number], PageEnd.unpack(request.payload)
        if (end.size, end.crc32) != (page.size, page.crc32):
            raise _RefusedError(ErrorCode.IDENTITY, end.size, end.crc32)
        if not self._is_resident(number):  # otherwise this is said again because the reply was lost
            transfer = self._transfer
            crc32 = transfer.crc32
            if transfer.page != number or transfer.offset != page.size:
                raise _RefusedError(ErrorCode.TRANSFER, number, transfer.offset)
            if crc32 != page.crc32:
                self._end_transfer()
                raise _RefusedError(ErrorCode.CRC, crc32, page.crc32)
            status = model.page_end(number, crc32)
            self._set_transfer()
            _require(status, crc32, page.crc32)
            self._count("page_ins")
        return ResidentReply(model.resident()).pack()

    def _page_out(self, request: Message) -> bytes:
        if self._transfer.page == request.page:
            self._end_transfer()
        if self._is_resident(request.page):
            _require(self.config.model.page_out(request.page), request.page)
            self._count("page_outs")
        return ResidentReply(self.config.model.resident()).pack()

    def _verify(self, request: Message) -> bytes:
        page = self.config.model.pages[request.page]
        image = self.config.model.page_image(request.page)
        if not self._is_resident(request.page) or image is None:
            raise _RefusedError(ErrorCode.RESIDENT, page.level)
        return VerifyReply(page.size, zlib.crc32(image)).pack()

    # ----------------------------------------------------------------------------------- whole models

    def _handle_model(self, request: Message, store: ModelStore) -> bytes:
        handlers: dict[int, Callable[[Message, ModelStore], bytes]] = {
            MessageType.PAGE_BEGIN: self._model_begin,
            MessageType.PAGE_DATA: self._model_data,
            MessageType.PAGE_END: self._model_end,
        }
        if request.type in handlers:
            return handlers[request.type](request, store)
        if request.type == MessageType.VERIFY:
            raise _RefusedError(ErrorCode.PAGE, request.page)
        if self._transfer.page == WHOLE_MODEL:
            self._set_transfer()
        return ResidentReply(self.config.model.resident()).pack()

    def _model_begin(self, request: Message, store: ModelStore) -> bytes:
        least = ModelBegin.structure().size
        if len(request.payload) < least:
            raise _RefusedError(ErrorCode.LENGTH, len(request.payload), least)
        wanted = ModelBegin.unpack(request.payload)
        if not 0 < wanted.size <= store.capacity or wanted.size % 8:
            raise _RefusedError(ErrorCode.SIZE, wanted.size, store.capacity)
        self._end_transfer()
        _require(store.begin(wanted.size), wanted.size, store.capacity)
        self._coming_identity = wanted.identity
        self._set_transfer(WHOLE_MODEL)
        return OffsetReply(0).pack()

    def _model_data(self, request: Message, store: ModelStore) -> bytes:
        transfer, offset = self._transfer, PageData.unpack(request.payload).offset
        content = request.payload[PageData.structure().size :]
        if transfer.page != WHOLE_MODEL:
            raise _RefusedError(ErrorCode.TRANSFER, request.page, transfer.page)
        if offset == transfer.offset and content:
            room = store.size - offset
            if len(content) > room or len(content) % 8:
                raise _RefusedError(ErrorCode.LENGTH, len(content), room)
            status = store.write(offset, content)
            if status != Status.OK:
                self._set_transfer()
            _require(status, len(content), room)
            self._set_transfer(WHOLE_MODEL, offset + len(content), zlib.crc32(content, transfer.crc32))
        return OffsetReply(self._transfer.offset).pack()

    def _model_end(self, request: Message, store: ModelStore) -> bytes:
        end, transfer = PageEnd.unpack(request.payload), self._transfer
        if transfer.page != WHOLE_MODEL or transfer.offset != store.size:
            raise _RefusedError(ErrorCode.TRANSFER, request.page, transfer.offset)
        if (end.size, end.crc32) != (store.size, transfer.crc32):
            self._set_transfer()
            raise _RefusedError(ErrorCode.CRC, transfer.crc32, end.crc32)
        self._set_transfer()
        _require(*store.end(self._coming_identity))
        self._has_new_model = True
        return ResidentReply(0).pack()

    # ------------------------------------------------------------------------------------------- runs

    def _input_data(self, request: Message) -> bytes:
        offset = InputData.unpack(request.payload).offset
        content = request.payload[InputData.structure().size :]
        total = _total(self.config.model.inputs)
        if offset == 0 and content:
            self._input.clear()
        if offset == len(self._input) and content:
            if len(content) > total - offset:
                raise _RefusedError(ErrorCode.LENGTH, len(content), total - offset)
            self._run.valid = False  # the planner may have put an input where an output was
            self._input += content
        return OffsetReply(len(self._input)).pack()

    def _invoke(self, request: Message) -> bytes:
        # The same request again: its reply was lost, and its inputs are gone.
        if not self._run.valid or self._run.sequence != request.sequence:
            self._run_model(request)
        run = self._run
        size = _total(self.config.model.outputs)
        return InvokeReply(run.number, size, run.crc32, run.milliseconds, run.level).pack()

    def _run_model(self, request: Message) -> None:
        wanted, model = Invoke.unpack(request.payload), self.config.model
        level = model.level()
        if wanted.level not in (0, level):
            raise _RefusedError(ErrorCode.LEVEL_CHANGED, level, wanted.level)
        if len(self._input) != _total(model.inputs) or zlib.crc32(self._input) != wanted.crc32:
            raise _RefusedError(ErrorCode.INPUT, len(self._input), zlib.crc32(self._input))
        start = self.config.milliseconds()
        position = 0
        for tensor in model.inputs:
            tensor.data[:] = self._input[position : position + len(tensor.data)]
            position += len(tensor.data)
        self._run.valid = False
        self._input.clear()  # a run may overwrite its inputs
        _require(model.invoke(), level)
        elapsed = self.config.milliseconds() - start
        self.statistics["run_milliseconds"] = elapsed
        self._count("runs")
        crc32 = zlib.crc32(b"".join(tensor.data for tensor in model.outputs))
        self._run = _Run(self._run.number + 1, request.sequence, level, elapsed, crc32, valid=True)

    def _output(self, request: Message) -> bytes:
        wanted = Output.unpack(request.payload)
        if not self._run.valid or wanted.run != self._run.number:
            raise _RefusedError(ErrorCode.OUTPUT, wanted.run, self._run.number)
        content = b"".join(tensor.data for tensor in self.config.model.outputs)
        return content[wanted.offset : wanted.offset + min(wanted.count, self._limit)]


def _total(tensors: Sequence[DeviceTensor]) -> int:
    return sum(len(tensor.data) for tensor in tensors)


def _device_fields(hello: HelloReply) -> dict[str, int]:
    """What a row of DEVICE has in common with the reply to a hello."""
    return {
        ("protocol_version" if name == "version" else name): value for name, value in asdict(hello).items()
    }


def _tensor_row(tensor: DeviceTensor) -> TensorRow:
    shape = b"".join(extent.to_bytes(4, "little", signed=True) for extent in tensor.shape)
    return TensorRow(
        len(tensor.data), tensor.type, len(tensor.shape), 0, shape, tensor.scale, tensor.zero_point
    )
