"""The messages of the serial protocol. PROTOCOL.md is the specification.

Everything that host and device must agree on lives here and nowhere else: message types, error codes and the
layouts of payloads, as dataclasses whose fields carry their wire format. `tflnest.bridge.header` writes the C
header of the device from them.

All numbers are little-endian. A payload may be longer than its layout: the rest belongs to a later version and
is ignored.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, fields
from enum import IntEnum
from typing import Any, Self

from tflnest.errors import FormatError

#: Version of the protocol, apart from that of the library.
PROTOCOL_VERSION = 1

#: Every frame ends with the CRC-32 of what is before it.
CRC_BYTES = 4

#: Smallest and largest size of a frame that a device may state: header, payload and CRC-32, before stuffing.
MIN_FRAME_BYTES = 64
MAX_FRAME_BYTES = 65535

#: Set in the type of a message from the device.
REPLY_BIT = 0x80

#: Most bytes of a board's name, pages of a model, levels of an operator and dimensions of a tensor.
BOARD_NAME_BYTES = 32
MAX_PAGES = 8
MAX_LEVELS = 8
MAX_DIMENSIONS = 6

#: In the page field of a header or state: no page, and a whole model.
NO_PAGE = 255
WHOLE_MODEL = 254

#: What a reset message must carry, so that no damaged or foreign message resets a board.
RESET_KEY = 0x54455352


class MessageType(IntEnum):
    """What a message asks for; the reply has `REPLY_BIT` set. 0x60 to 0x6f are free for boards, others reserved."""

    HELLO = 0x01
    READ = 0x02
    PAGE_BEGIN = 0x10
    PAGE_DATA = 0x11
    PAGE_END = 0x12
    PAGE_OUT = 0x13
    VERIFY = 0x14
    SET_LEVEL = 0x20
    INPUT = 0x30
    INVOKE = 0x31
    OUTPUT = 0x32
    RESET_STATISTICS = 0x40
    RESET = 0x41
    ERROR = 0x7F


class Table(IntEnum):
    """What READ reads: rows of equal size. 0x60 to 0x6f are free for boards."""

    DEVICE = 0x01
    MODEL = 0x02
    STATE = 0x03
    PAGES = 0x04
    INPUTS = 0x05
    OUTPUTS = 0x06
    OPERATORS = 0x07
    STATISTICS = 0x08
    ROOM = 0x09


class Place(IntEnum):
    """Where a page rests on the device."""

    FLASH = 0
    SRAM = 1
    HOST = 2


class ErrorCode(IntEnum):
    """Why a device refused a message. 1 to 31 are `tflnest_status` with the sign changed; 128 to 255 are free."""

    ARGUMENT = 1
    LEVEL = 2
    PAGE = 3
    RESIDENT = 4
    IN_USE = 5
    CRC = 6
    IDENTITY = 7
    SIZE = 8
    FLASH = 9
    FRAME = 32
    VERSION = 33
    TYPE = 34
    LENGTH = 35
    SESSION = 36
    TRANSFER = 37
    ALREADY_RESIDENT = 38
    INPUT = 39
    OUTPUT = 40
    LEVEL_CHANGED = 41


#: What each error means, for people; `{first}` and `{second}` are the numbers that come with it.
SENTENCES = {
    ErrorCode.ARGUMENT: "the board refused an argument that makes no sense to it",
    ErrorCode.LEVEL: "the model on the board has no level {first}",
    ErrorCode.PAGE: "the model on the board has no page {first}",
    ErrorCode.RESIDENT: "a page that level {first} needs is not resident on the board",
    ErrorCode.IN_USE: "page {first} is needed by the level that the board runs",
    ErrorCode.CRC: "the page arrived with CRC-32 {first:08x}, and must have {second:08x}",
    ErrorCode.IDENTITY: "the page belongs to another model than the board runs",
    ErrorCode.SIZE: "the board has no room: {first:,} bytes are needed, {second:,} are there",
    ErrorCode.FLASH: "the board could not erase or program its flash",
    ErrorCode.FRAME: "the board received a damaged frame",
    ErrorCode.VERSION: "the board speaks protocol version {first}",
    ErrorCode.TYPE: "the board does not know messages of type {first:#04x}",
    ErrorCode.LENGTH: "the board expected {second:,} bytes in a message and received {first:,}",
    ErrorCode.SESSION: "the board knows nothing of this session",
    ErrorCode.TRANSFER: "the board has no transfer of page {first} under way",
    ErrorCode.ALREADY_RESIDENT: "page {first} is resident on the board already",
    ErrorCode.INPUT: "the input on the board has CRC-32 {second:08x} after {first:,} bytes, which is not the one sent",
    ErrorCode.OUTPUT: "the outputs of run {first} are gone; the last run was {second}",
    ErrorCode.LEVEL_CHANGED: "the board runs at level {first}, and level {second} was asked for",
}


def u8() -> Any:
    """A field of one byte, unsigned."""
    return field(default=0, metadata={"format": "B"})


def u16() -> Any:
    """A field of two bytes, unsigned."""
    return field(default=0, metadata={"format": "H"})


def u32() -> Any:
    """A field of four bytes, unsigned."""
    return field(default=0, metadata={"format": "I"})


def i32() -> Any:
    """A field of four bytes, signed."""
    return field(default=0, metadata={"format": "i"})


def raw(size: int) -> Any:
    """A field of so many bytes, filled up with zeros."""
    return field(default=b"", metadata={"format": f"{size}s"})


#: Layouts that were asked for.
_STRUCTURES: dict[type, struct.Struct] = {}


@dataclass(frozen=True)
class Layout:
    """Base of everything with a fixed layout. Reserved fields are named so, sent as 0 and not looked at."""

    @classmethod
    def structure(cls) -> struct.Struct:
        """The layout as a `struct.Struct`."""
        found = _STRUCTURES.get(cls)
        if found is None:
            formats = (item.metadata["format"] for item in fields(cls))
            found = _STRUCTURES[cls] = struct.Struct("<" + "".join(formats))
        return found

    @classmethod
    def offsets(cls) -> dict[str, int]:
        """Byte offset of every field."""
        result, position = {}, 0
        for item in fields(cls):
            result[item.name] = position
            position += struct.calcsize("<" + item.metadata["format"])
        return result

    @classmethod
    def unpack(cls, content: bytes) -> Self:
        """Read the first bytes of `content`.

        Raises:
            FormatError: There are too few.
        """
        layout = cls.structure()
        if len(content) < layout.size:
            raise FormatError(f"a {cls.__name__} takes {layout.size} bytes, and {len(content)} came")
        return cls(*layout.unpack_from(content))

    def pack(self) -> bytes:
        """The bytes on the wire."""
        return self.structure().pack(*vars(self).values())


@dataclass(frozen=True)
class Header(Layout):
    """The beginning of every frame.

    Attributes:
        version: Version of the protocol. The fields up to `type` never change their place.
        header_size: Bytes of the header; the payload begins there. A later version may have a larger one.
        type: A `MessageType`, with `REPLY_BIT` from the device.
        page: Index of the page that the message is about; 0 otherwise.
        session: Chosen by the host at random, not 0; a reply has that of its request. 0: no request.
        sequence: Number of the request within the session, rising modulo 65536; a reply has that of its request.
    """

    version: int = u8()
    header_size: int = u8()
    type: int = u8()
    page: int = u8()
    session: int = u16()
    sequence: int = u16()


HEADER_BYTES = Header.structure().size
#: What a frame adds to its payload before stuffing.
FRAME_OVERHEAD_BYTES = HEADER_BYTES + CRC_BYTES


@dataclass(frozen=True)
class HelloReply(Layout):
    """What a host must know before it can say more.

    Attributes:
        version: Version of the protocol.
        runtime_version: Of the runtime on the device: major << 16 | minor << 8 | patch.
        frame_bytes: Largest frame that the device takes and sends: header, payload and CRC-32.
        window_bytes: Bytes on the wire that may be sent before they are answered, at least one frame.
        stall_milliseconds: The device drops a frame that does not go on for so long; 0: never.
    """

    version: int = u16()
    reserved: int = u16()
    runtime_version: int = u32()
    frame_bytes: int = u32()
    window_bytes: int = u32()
    stall_milliseconds: int = u32()


@dataclass(frozen=True)
class Read(Layout):
    """Asks for a part of a table.

    Attributes:
        table: A `Table`.
        offset: First byte of the table.
        count: Most bytes that are wanted.
    """

    table: int = u8()
    reserved: int = u8()
    reserved_2: int = u16()
    offset: int = u32()
    count: int = u32()


@dataclass(frozen=True)
class ReadReply(Layout):
    """Is followed by the bytes, as many as fit.

    Attributes:
        total: Bytes of the whole table.
        row_bytes: Bytes of a row; a later version may have longer ones.
    """

    total: int = u32()
    row_bytes: int = u16()
    reserved: int = u16()


@dataclass(frozen=True)
class PageBegin(Layout):
    """Starts the transfer of a page from its first byte, and ends any other.

    Attributes:
        identity: Identity of the model that the page belongs to.
    """

    identity: bytes = raw(32)


@dataclass(frozen=True)
class ModelBegin(Layout):
    """The same for a whole model, with `WHOLE_MODEL` as the page.

    Attributes:
        identity: Identity of the model.
        size: Bytes of its description.
    """

    identity: bytes = raw(32)
    size: int = u32()


@dataclass(frozen=True)
class PageData(Layout):
    """Is followed by bytes of the page.

    Attributes:
        offset: Where they belong.
    """

    offset: int = u32()


@dataclass(frozen=True)
class OffsetReply(Layout):
    """Answers `PageBegin`, `PageData` and `InputData`.

    Attributes:
        expected: The offset that the device takes next. Where the request's was another one, nothing was written.
    """

    expected: int = u32()


@dataclass(frozen=True)
class PageEnd(Layout):
    """Makes a page resident whose bytes have all arrived.

    Attributes:
        size: Bytes of the page.
        crc32: Its CRC-32.
    """

    size: int = u32()
    crc32: int = u32()


@dataclass(frozen=True)
class ResidentReply(Layout):
    """Answers `PageEnd` and page-out.

    Attributes:
        resident: One bit per resident page, page 0 in bit 0.
    """

    resident: int = u32()


@dataclass(frozen=True)
class VerifyReply(Layout):
    """What the device computes over a resident page.

    Attributes:
        size: Bytes of the page.
        crc32: CRC-32 of the memory that holds it.
    """

    size: int = u32()
    crc32: int = u32()


@dataclass(frozen=True)
class SetLevel(Layout):
    """Chooses the level of the next runs.

    Attributes:
        level: Bits: a level of the model, or of the operator.
        one_operator: 1: only of one operator; 0: of the whole model.
        operator: Row of the operator in the table OPERATORS.
    """

    level: int = u8()
    one_operator: int = u8()
    operator: int = u16()


@dataclass(frozen=True)
class InputData(Layout):
    """Is followed by bytes of the inputs, which follow one another. Offset 0 begins anew.

    Attributes:
        offset: Where they belong.
    """

    offset: int = u32()


@dataclass(frozen=True)
class Invoke(Layout):
    """Runs the model on the inputs that were sent.

    Attributes:
        crc32: CRC-32 of all input bytes.
        level: The level that the model must run at; 0: whatever it is.
    """

    crc32: int = u32()
    level: int = u8()
    reserved: int = u8()
    reserved_2: int = u16()


@dataclass(frozen=True)
class InvokeReply(Layout):
    """What a run gave.

    Attributes:
        run: Number of the run since the device started; names the outputs.
        output_bytes: Bytes of all outputs.
        crc32: CRC-32 of all output bytes.
        milliseconds: Time that it took on the device.
        level: Level of the model; 0 where operators have levels of their own.
    """

    run: int = u32()
    output_bytes: int = u32()
    crc32: int = u32()
    milliseconds: int = u32()
    level: int = u8()
    reserved: int = u8()
    reserved_2: int = u16()


@dataclass(frozen=True)
class Output(Layout):
    """Asks for bytes of the outputs, which follow one another; the reply has nothing but the bytes.

    Attributes:
        run: Number of the run.
        offset: First byte.
        count: Most bytes that are wanted.
    """

    run: int = u32()
    offset: int = u32()
    count: int = u32()


@dataclass(frozen=True)
class Reset(Layout):
    """Starts the device anew, after it has replied.

    Attributes:
        key: `RESET_KEY`.
    """

    key: int = u32()


@dataclass(frozen=True)
class ErrorReply(Layout):
    """Says why nothing was done.

    Attributes:
        code: An `ErrorCode`.
        request: Type of the request; 0 where there was none to be read.
        first: See `SENTENCES`.
        second: See `SENTENCES`.
    """

    code: int = u16()
    request: int = u8()
    reserved: int = u8()
    first: int = u32()
    second: int = u32()


# ------------------------------------------------------------------------------------------------- tables


@dataclass(frozen=True)
class DeviceRow(Layout):
    """The board and its firmware; see `HelloReply`.

    Attributes:
        board: Name, UTF-8, filled up with zeros.
    """

    protocol_version: int = u16()
    reserved: int = u16()
    runtime_version: int = u32()
    frame_bytes: int = u32()
    window_bytes: int = u32()
    stall_milliseconds: int = u32()
    board: bytes = raw(BOARD_NAME_BYTES)


@dataclass(frozen=True)
class ModelRow(Layout):
    """The model that the firmware was made for.

    Attributes:
        identity: SHA-256 identity of the nested file (FORMAT.md, section 8.6).
        operator_count: Operators with levels.
        input_bytes: Bytes of all inputs.
        output_bytes: Bytes of all outputs.
        levels: One byte per level, lowest first; zeros follow.
    """

    identity: bytes = raw(32)
    level_count: int = u8()
    page_count: int = u8()
    operator_count: int = u16()
    input_count: int = u16()
    output_count: int = u16()
    input_bytes: int = u32()
    output_bytes: int = u32()
    levels: bytes = raw(MAX_LEVELS)


@dataclass(frozen=True)
class StateRow(Layout):
    """What changes.

    Attributes:
        resident: One bit per resident page, page 0 in bit 0.
        free_sram: Bytes of SRAM that nothing uses.
        level: Level of the model; 0 where operators have levels of their own, or none can run.
        transfer_page: The page that is on its way, or `NO_PAGE`.
        transfer_offset: Bytes of it that have arrived.
        transfer_crc32: Their CRC-32.
        input_offset: Bytes of the next inputs that have arrived.
        run: Number of the last run; 0: there was none.
    """

    resident: int = u32()
    free_sram: int = u32()
    level: int = u8()
    transfer_page: int = u8()
    reserved: int = u16()
    transfer_offset: int = u32()
    transfer_crc32: int = u32()
    input_offset: int = u32()
    run: int = u32()


@dataclass(frozen=True)
class PageRow(Layout):
    """A page.

    Attributes:
        level: The level that it completes.
        place: A `Place`.
        resident: 1 or 0.
        size: Bytes.
        crc32: Its CRC-32.
        capacity: Bytes that the device has for it; 0 where it cannot take it.
    """

    level: int = u8()
    place: int = u8()
    resident: int = u8()
    reserved: int = u8()
    size: int = u32()
    crc32: int = u32()
    capacity: int = u32()


@dataclass(frozen=True)
class TensorRow(Layout):
    """An input or output.

    Attributes:
        size: Bytes.
        type: Number of its TensorType in the TFLite schema.
        rank: Dimensions.
        shape: `rank` signed 32-bit numbers; zeros follow.
        scale: Bits of the float32 scale; 0 where it is not quantized.
        zero_point: Zero point.
    """

    size: int = u32()
    type: int = u8()
    rank: int = u8()
    reserved: int = u16()
    shape: bytes = raw(4 * MAX_DIMENSIONS)
    scale: int = u32()
    zero_point: int = i32()


@dataclass(frozen=True)
class OperatorRow(Layout):
    """An operator with levels.

    Attributes:
        operator: Index among the operators of the model.
        level: The bits that it runs at.
        level_count: Number of its levels.
        levels: One byte per level, lowest first; zeros follow.
    """

    operator: int = u16()
    level: int = u8()
    level_count: int = u8()
    levels: bytes = raw(MAX_LEVELS)


@dataclass(frozen=True)
class StatisticsRow(Layout):
    """Counts since the device started, or since they were set to 0. They wrap at 2^32.

    Attributes:
        received_bytes: Bytes that came.
        sent_bytes: Bytes that went.
        frames: Frames that were sound.
        damaged_frames: Frames with a wrong stuffing, length or CRC-32.
        oversized_frames: Frames that were longer than `frame_bytes`.
        stalled_frames: Frames that were dropped because they did not go on.
        stale_frames: Messages that came late, after later ones.
        errors: Messages that were refused.
        page_ins: Pages that became resident.
        page_outs: Pages that stopped being so.
        runs: Inferences.
        run_milliseconds: Time of the last inference.
        overruns: Bytes that the port lost.
        stack_peak: Most bytes of stack that were in use.
    """

    received_bytes: int = u32()
    sent_bytes: int = u32()
    frames: int = u32()
    damaged_frames: int = u32()
    oversized_frames: int = u32()
    stalled_frames: int = u32()
    stale_frames: int = u32()
    errors: int = u32()
    page_ins: int = u32()
    page_outs: int = u32()
    runs: int = u32()
    run_milliseconds: int = u32()
    overruns: int = u32()
    stack_peak: int = u32()


@dataclass(frozen=True)
class RoomRow(Layout):
    """Room for whole models; devices that run one model only do not have this table.

    Attributes:
        description_bytes: Most bytes of a model's description.
    """

    description_bytes: int = u32()


#: Payloads that a device reads, by message; messages that are not here have none.
REQUESTS: dict[int, type[Layout]] = {
    MessageType.READ: Read,
    MessageType.PAGE_BEGIN: PageBegin,
    MessageType.PAGE_DATA: PageData,
    MessageType.PAGE_END: PageEnd,
    MessageType.SET_LEVEL: SetLevel,
    MessageType.INPUT: InputData,
    MessageType.INVOKE: Invoke,
    MessageType.OUTPUT: Output,
    MessageType.RESET: Reset,
}

#: Payloads of the replies; messages that are not here have none.
REPLIES: dict[MessageType, type[Layout]] = {
    MessageType.HELLO: HelloReply,
    MessageType.READ: ReadReply,
    MessageType.PAGE_BEGIN: OffsetReply,
    MessageType.PAGE_DATA: OffsetReply,
    MessageType.PAGE_END: ResidentReply,
    MessageType.PAGE_OUT: ResidentReply,
    MessageType.VERIFY: VerifyReply,
    MessageType.INPUT: OffsetReply,
    MessageType.INVOKE: InvokeReply,
    MessageType.ERROR: ErrorReply,
}

#: Rows of the tables.
ROWS: dict[Table, type[Layout]] = {
    Table.DEVICE: DeviceRow,
    Table.MODEL: ModelRow,
    Table.STATE: StateRow,
    Table.PAGES: PageRow,
    Table.INPUTS: TensorRow,
    Table.OUTPUTS: TensorRow,
    Table.OPERATORS: OperatorRow,
    Table.STATISTICS: StatisticsRow,
    Table.ROOM: RoomRow,
}


@dataclass(frozen=True)
class Message:
    """A frame that was received or is to be sent.

    Attributes:
        type: A `MessageType`, or a number that is not known, without `REPLY_BIT`.
        payload: What follows the header.
        reply: Whether it comes from a device.
        page: See `Header`.
        session: See `Header`.
        sequence: See `Header`.
        version: See `Header`.
    """

    type: int
    payload: bytes = b""
    reply: bool = False
    page: int = 0
    session: int = 0
    sequence: int = 0
    version: int = PROTOCOL_VERSION


def runtime_version(text: str) -> int:
    """The number that stands for a version such as "0.1.0"."""
    parts = [int(part) for part in (*text.split("."), "0", "0")[:3]]
    return parts[0] << 16 | parts[1] << 8 | parts[2]


def version_text(number: int) -> str:
    """The version that a number stands for."""
    return f"{number >> 16}.{number >> 8 & 255}.{number & 255}"
