"""What a device answers, message by message; every test runs for the Python and for the C one."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import pytest

from firmware_sim.board import Board
from firmware_sim.virtual_board import VirtualBoard
from tests.tflnest.bridge.conftest import Machine, MakeBoard, Subject
from tflnest.bridge import frames
from tflnest.bridge.device import DeviceConfig
from tflnest.bridge.frames import FrameReader
from tflnest.bridge.messages import (
    NO_PAGE,
    RESET_KEY,
    ErrorCode,
    ErrorReply,
    HelloReply,
    InputData,
    Invoke,
    InvokeReply,
    Message,
    MessageType,
    OffsetReply,
    Output,
    PageBegin,
    PageData,
    PageEnd,
    PageRow,
    Read,
    ReadReply,
    Reset,
    ResidentReply,
    SetLevel,
    StateRow,
    StatisticsRow,
    Table,
    VerifyReply,
)
from tflnest.bridge.transport import LoopbackTransport
from tflnest.errors import UsageError

SESSION = 7


class Talker:
    """Says single messages to a device."""

    def __init__(self, virtual: VirtualBoard, line: LoopbackTransport) -> None:
        self.virtual = virtual
        self.line = line
        self.sequence = 100

    def send(self, content: bytes) -> list[Message]:
        self.line.write(content)
        items = list(FrameReader(65535).receive(self.line.read(0)))
        assert all(isinstance(item, Message) and item.reply for item in items)
        return items  # type: ignore[return-value]

    def say(self, kind: int, payload: bytes = b"", page: int = 0, **fields: int) -> Message:
        self.sequence += 1
        values = {"session": SESSION, "sequence": self.sequence, **fields}
        (answer,) = self.send(frames.encode(Message(kind, payload, page=page, **values)))
        if values.get("version", 1) == 1:
            assert (answer.session, answer.sequence) == (values["session"], values["sequence"])
        return answer

    def ask(self, kind: int, payload: bytes = b"", page: int = 0) -> bytes:
        answer = self.say(kind, payload, page)
        assert answer.type == kind, ErrorReply.unpack(answer.payload)
        return answer.payload

    def refused(self, kind: int, payload: bytes = b"", page: int = 0, **fields: int) -> ErrorReply:
        answer = self.say(kind, payload, page, **fields)
        assert answer.type == MessageType.ERROR
        error = ErrorReply.unpack(answer.payload)
        assert error.request == kind
        return error

    def state(self) -> StateRow:
        payload = self.ask(MessageType.READ, Read(Table.STATE, count=999).pack())
        return StateRow.unpack(payload[ReadReply.structure().size :])

    def statistics(self) -> StatisticsRow:
        size = StatisticsRow.structure().size
        payload = b""
        while len(payload) < size:
            part = self.ask(MessageType.READ, Read(Table.STATISTICS, offset=len(payload), count=999).pack())
            payload += part[ReadReply.structure().size :]
        return StatisticsRow.unpack(payload)


@pytest.fixture
def talker(make_board: MakeBoard) -> Talker:
    virtual, line = make_board()
    line.read(0)
    talker = Talker(virtual, line)
    talker.ask(MessageType.HELLO)
    return talker


def begin(talker: Talker, subject: Subject, page: int = 1) -> None:
    assert subject.model.directory is not None
    talker.ask(MessageType.PAGE_BEGIN, PageBegin(subject.model.directory.identity).pack(), page)


def put(talker: Talker, image: bytes, start: int, count: int, page: int = 1) -> int:
    payload = PageData(start).pack() + image[start : start + count]
    return OffsetReply.unpack(talker.ask(MessageType.PAGE_DATA, payload, page)).expected


def test_it_tells_when_it_starts(make_board: MakeBoard) -> None:
    _, line = make_board(128)
    (message,) = FrameReader(128).receive(line.read(0))
    assert isinstance(message, Message)
    assert (message.type, message.session, message.reply) == (MessageType.HELLO, 0, True)
    hello = HelloReply.unpack(message.payload)
    assert (hello.version, hello.frame_bytes, hello.window_bytes, hello.stall_milliseconds) == (
        1,
        128,
        256,
        500,
    )


def test_without_a_session_nothing_is_done(make_board: MakeBoard) -> None:
    virtual, line = make_board()
    line.read(0)
    talker = Talker(virtual, line)
    error = talker.refused(MessageType.SET_LEVEL, SetLevel(4).pack())
    assert (error.code, error.first, error.second) == (ErrorCode.SESSION, 0, SESSION)
    assert talker.refused(MessageType.HELLO, session=0).code == ErrorCode.SESSION
    assert talker.send(b"damaged\0") == []


def test_a_later_hello_takes_the_board_over(talker: Talker) -> None:
    assert talker.say(MessageType.HELLO, session=8, sequence=5).type == MessageType.HELLO
    error = talker.refused(MessageType.READ, Read(Table.STATE).pack())
    assert (error.code, error.first) == (ErrorCode.SESSION, 8)
    talker.ask(MessageType.HELLO)
    talker.state()


def test_late_messages_are_not_obeyed(talker: Talker) -> None:
    late = frames.encode(Message(MessageType.RESET_STATISTICS, session=SESSION, sequence=talker.sequence))
    talker.state()
    assert talker.send(late) == []
    assert talker.statistics().stale_frames == 1


def test_sequence_numbers_wrap(talker: Talker) -> None:
    for sequence in (0x7000, 0xE000, 0xFFFF, 0x0000, 0x0001):
        talker.say(MessageType.HELLO, sequence=sequence)
    stale = Message(MessageType.HELLO, session=SESSION, sequence=0xFFFF)
    assert talker.send(frames.encode(stale)) == []


def test_another_version_is_refused_with_ours(talker: Talker) -> None:
    error = talker.refused(MessageType.HELLO, version=2)
    assert (error.code, error.first, error.second) == (ErrorCode.VERSION, 1, 2)


def test_unknown_messages_are_refused(talker: Talker) -> None:
    error = talker.refused(0x55)
    assert (error.code, error.first) == (ErrorCode.TYPE, 0x55)


@pytest.mark.parametrize(
    ("kind", "least"),
    [
        (MessageType.READ, 12),
        (MessageType.PAGE_BEGIN, 32),
        (MessageType.PAGE_DATA, 4),
        (MessageType.PAGE_END, 8),
        (MessageType.SET_LEVEL, 4),
        (MessageType.INPUT, 4),
        (MessageType.INVOKE, 8),
        (MessageType.OUTPUT, 12),
        (MessageType.RESET, 4),
    ],
)
def test_short_messages_are_refused(talker: Talker, kind: MessageType, least: int) -> None:
    error = talker.refused(kind, bytes(least - 1))
    assert (error.code, error.first, error.second) == (ErrorCode.LENGTH, least - 1, least)


def test_replies_of_others_are_not_answered(talker: Talker) -> None:
    own = frames.encode(Message(MessageType.HELLO, session=SESSION, sequence=talker.sequence + 1, reply=True))
    assert talker.send(own) == []


def test_damaged_frames_are_reported_and_counted(talker: Talker) -> None:
    for content in (b"nonsense\0", b"\xff\xff\0", bytes(2000).replace(b"\0", b"\1") + b"\0"):
        (answer,) = talker.send(content)
        error = ErrorReply.unpack(answer.payload)
        assert (answer.session, error.code, error.request) == (SESSION, ErrorCode.FRAME, 0)
    counts = talker.statistics()
    assert (counts.damaged_frames, counts.oversized_frames, counts.errors) == (2, 1, 3)


def test_a_frame_that_stalls_is_dropped(talker: Talker) -> None:
    request = Message(MessageType.HELLO, session=SESSION, sequence=200)
    wire = frames.encode(request)
    talker.sequence = 201
    assert talker.send(wire[:10]) == []
    talker.line.read(1.0)
    assert len(talker.send(wire)) == 1
    counts = talker.statistics()
    assert (counts.stalled_frames, counts.damaged_frames) == (1, 0)


def test_a_slow_frame_is_taken(talker: Talker) -> None:
    wire = frames.encode(Message(MessageType.HELLO, session=SESSION, sequence=200))
    talker.sequence = 201
    for position in range(len(wire) - 1):
        assert talker.send(wire[position : position + 1]) == []
        talker.line.read(0.4)
    assert len(talker.send(wire[-1:])) == 1
    assert talker.statistics().stalled_frames == 0


def test_tables_come_in_any_portions(talker: Talker) -> None:
    whole = talker.ask(MessageType.READ, Read(Table.PAGES, count=999).pack())
    head = ReadReply.unpack(whole)
    assert (head.total, head.row_bytes) == (3 * PageRow.structure().size, PageRow.structure().size)
    content = whole[ReadReply.structure().size :]
    for count in (1, 7, 16, 17):
        parts = b""
        while len(parts) < head.total:
            part = talker.ask(MessageType.READ, Read(Table.PAGES, offset=len(parts), count=count).pack())
            parts += part[ReadReply.structure().size :]
        assert parts == content


@pytest.mark.parametrize(
    ("table", "offset"), [(0, 0), (9, 0), (255, 0), (Table.STATE, 29), (Table.PAGES, 1 << 31)]
)
def test_tables_that_do_not_exist_are_refused(talker: Talker, table: int, offset: int) -> None:
    error = talker.refused(MessageType.READ, Read(table, offset=offset, count=1).pack())
    assert (error.code, error.first, error.second) == (ErrorCode.ARGUMENT, table, offset)


def test_a_page_becomes_resident_only_when_complete(talker: Talker, subject: Subject) -> None:
    image = subject.images[1]
    end = PageEnd(len(image), zlib.crc32(image)).pack()
    begin(talker, subject)
    assert put(talker, image, 0, 8) == 8
    state = talker.state()
    assert (state.transfer_page, state.transfer_offset, state.transfer_crc32) == (1, 8, zlib.crc32(image[:8]))
    error = talker.refused(MessageType.PAGE_END, end, 1)
    assert (error.code, error.second) == (ErrorCode.TRANSFER, 8)
    assert put(talker, image, 8, len(image)) == len(image)
    assert talker.state().resident == 1
    assert talker.refused(MessageType.SET_LEVEL, SetLevel(6).pack()).code == ErrorCode.RESIDENT
    assert ResidentReply.unpack(talker.ask(MessageType.PAGE_END, end, 1)).resident == 3
    assert ResidentReply.unpack(talker.ask(MessageType.PAGE_END, end, 1)).resident == 3
    assert talker.state().transfer_page == NO_PAGE
    assert talker.statistics().page_ins == 1


def test_a_wrong_offset_is_answered_with_the_right_one(talker: Talker, subject: Subject) -> None:
    image = subject.images[1]
    begin(talker, subject)
    assert put(talker, image, 8, 8) == 0
    assert put(talker, image, 0, 8) == 8
    assert put(talker, image, 0, 8) == 8
    assert put(talker, image, 1 << 31, 8) == 8
    assert put(talker, image, 8, 0) == 8


def test_too_much_data_is_refused(talker: Talker, subject: Subject) -> None:
    image = subject.images[1]
    begin(talker, subject)
    most = len(image)
    error = talker.refused(MessageType.PAGE_DATA, PageData(0).pack() + bytes(most + 8), 1)
    assert (error.code, error.first, error.second) == (ErrorCode.LENGTH, most + 8, most)
    error = talker.refused(MessageType.PAGE_DATA, PageData(0).pack() + bytes(7), 1)
    assert error.code == ErrorCode.LENGTH
    assert talker.state().transfer_offset == 0


def test_a_damaged_page_is_refused(talker: Talker, subject: Subject) -> None:
    image = bytearray(subject.images[1])
    good = zlib.crc32(image)
    image[3] ^= 1
    begin(talker, subject)
    put(talker, bytes(image), 0, len(image))
    error = talker.refused(MessageType.PAGE_END, PageEnd(len(image), good).pack(), 1)
    assert (error.code, error.first, error.second) == (ErrorCode.CRC, zlib.crc32(image), good)
    state = talker.state()
    assert (state.resident, state.transfer_page) == (1, NO_PAGE)


def test_pages_of_other_models_are_refused(talker: Talker, subject: Subject) -> None:
    image = subject.images[1]
    assert talker.refused(MessageType.PAGE_BEGIN, bytes(32), 1).code == ErrorCode.IDENTITY
    begin(talker, subject)
    put(talker, image, 0, len(image))
    error = talker.refused(MessageType.PAGE_END, PageEnd(len(image), 1).pack(), 1)
    assert error.code == ErrorCode.IDENTITY


def test_data_without_a_transfer_is_refused(talker: Talker, subject: Subject) -> None:
    payload = PageData(0).pack() + bytes(8)
    assert talker.refused(MessageType.PAGE_DATA, payload, 1).code == ErrorCode.TRANSFER
    begin(talker, subject, 2)
    error = talker.refused(MessageType.PAGE_DATA, payload, 1)
    assert (error.code, error.first, error.second) == (ErrorCode.TRANSFER, 1, 2)


def test_pages_that_do_not_exist_are_refused(talker: Talker) -> None:
    for kind in (
        MessageType.PAGE_BEGIN,
        MessageType.PAGE_DATA,
        MessageType.PAGE_END,
        MessageType.PAGE_OUT,
        MessageType.VERIFY,
    ):
        error = talker.refused(kind, bytes(32), 3)
        assert (error.code, error.first) == (ErrorCode.PAGE, 3)


def test_begin_and_page_out_clear_the_transfer(talker: Talker, subject: Subject) -> None:
    image = subject.images[1]
    free = talker.state().free_sram
    begin(talker, subject)
    put(talker, image, 0, 8)
    assert talker.state().free_sram == free - len(image)
    begin(talker, subject, 2)
    state = talker.state()
    assert (state.transfer_page, state.transfer_offset) == (2, 0)
    assert talker.refused(MessageType.PAGE_DATA, PageData(8).pack() + bytes(8), 1).code == ErrorCode.TRANSFER
    talker.ask(MessageType.PAGE_OUT, page=2)
    state = talker.state()
    assert (state.transfer_page, state.free_sram) == (NO_PAGE, free)


def test_a_page_that_is_resident_is_not_sent_over(talker: Talker, subject: Subject) -> None:
    assert subject.model.directory is not None
    payload = PageBegin(subject.model.directory.identity).pack()
    error = talker.refused(MessageType.PAGE_BEGIN, payload, 0)
    assert (error.code, error.first) == (ErrorCode.ALREADY_RESIDENT, 0)


def test_a_page_that_does_not_fit_is_refused_with_the_numbers(
    make_board: MakeBoard, subject: Subject, machine: Machine
) -> None:
    roomy, _ = make_board()
    full = roomy.board.with_limits(sram_bytes=roomy.board.sram_bytes - roomy.model.free_sram() + 16)
    virtual, line = make_board(board=full)
    line.read(0)
    talker = Talker(virtual, line)
    talker.ask(MessageType.HELLO)
    assert subject.model.directory is not None
    error = talker.refused(MessageType.PAGE_BEGIN, PageBegin(subject.model.directory.identity).pack(), 1)
    assert (error.code, error.first) == (ErrorCode.SIZE, len(subject.images[1]))
    assert error.second <= 16


def test_verify_reads_the_memory(talker: Talker, subject: Subject) -> None:
    image = subject.images[1]
    assert talker.refused(MessageType.VERIFY, page=1).code == ErrorCode.RESIDENT
    begin(talker, subject)
    put(talker, image, 0, len(image))
    talker.ask(MessageType.PAGE_END, PageEnd(len(image), zlib.crc32(image)).pack(), 1)
    good = VerifyReply(len(image), zlib.crc32(image))
    assert VerifyReply.unpack(talker.ask(MessageType.VERIFY, page=1)) == good
    talker.virtual.model.damage(1, 5)
    assert VerifyReply.unpack(talker.ask(MessageType.VERIFY, page=1)).crc32 != good.crc32


def test_a_page_in_use_stays(talker: Talker, subject: Subject) -> None:
    error = talker.refused(MessageType.PAGE_OUT, page=0)
    assert (error.code, error.first) == (ErrorCode.IN_USE, 0)
    assert ResidentReply.unpack(talker.ask(MessageType.PAGE_OUT, page=1)).resident == 1


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        (SetLevel(5), ErrorCode.LEVEL),
        (SetLevel(8), ErrorCode.RESIDENT),
        (SetLevel(6, 1, 0), ErrorCode.RESIDENT),
        (SetLevel(5, 1, 1), ErrorCode.LEVEL),
        (SetLevel(4, 1, 2), ErrorCode.ARGUMENT),
        (SetLevel(4, 1, 65535), ErrorCode.ARGUMENT),
    ],
)
def test_levels_that_cannot_run_are_refused(talker: Talker, wanted: SetLevel, code: ErrorCode) -> None:
    assert talker.refused(MessageType.SET_LEVEL, wanted.pack()).code == code
    assert talker.state().level == 4


def give_input(talker: Talker, content: bytes, portion: int = 8) -> None:
    for start in range(0, len(content), portion):
        payload = InputData(start).pack() + content[start : start + portion]
        expected = OffsetReply.unpack(talker.ask(MessageType.INPUT, payload)).expected
        assert expected == min(start + portion, len(content))


def test_a_run_gives_the_outputs_of_the_interpreter(talker: Talker, subject: Subject) -> None:
    for number, (x, y) in enumerate(zip(subject.inputs, subject.outputs[4], strict=True), 1):
        give_input(talker, x.tobytes())
        run = InvokeReply.unpack(talker.ask(MessageType.INVOKE, Invoke(zlib.crc32(x.tobytes())).pack()))
        assert (run.run, run.output_bytes, run.crc32, run.level) == (
            number,
            y.nbytes,
            zlib.crc32(y.tobytes()),
            4,
        )
        parts = [
            talker.ask(MessageType.OUTPUT, Output(number, start, 2).pack()) for start in range(0, y.nbytes, 2)
        ]
        assert b"".join(parts) == y.tobytes()
        assert talker.ask(MessageType.OUTPUT, Output(number, 1 << 31, 2).pack()) == b""


def test_a_run_needs_the_inputs_that_were_sent(talker: Talker, subject: Subject) -> None:
    x = subject.inputs[0].tobytes()
    error = talker.refused(MessageType.INVOKE, Invoke(zlib.crc32(x)).pack())
    assert (error.code, error.first) == (ErrorCode.INPUT, 0)
    give_input(talker, x[:8])
    assert talker.refused(MessageType.INVOKE, Invoke(zlib.crc32(x)).pack()).first == 8
    give_input(talker, x)
    error = talker.refused(MessageType.INVOKE, Invoke(1).pack())
    assert (error.code, error.first, error.second) == (ErrorCode.INPUT, len(x), zlib.crc32(x))
    talker.ask(MessageType.INVOKE, Invoke(zlib.crc32(x)).pack())
    assert talker.refused(MessageType.INVOKE, Invoke(zlib.crc32(x)).pack()).code == ErrorCode.INPUT


def test_inputs_are_taken_in_order(talker: Talker, subject: Subject) -> None:
    x = subject.inputs[0].tobytes()

    def expected(offset: int, content: bytes) -> int:
        payload = InputData(offset).pack() + content
        return OffsetReply.unpack(talker.ask(MessageType.INPUT, payload)).expected

    assert expected(8, x[8:]) == 0
    assert expected(0, x[:8]) == 8
    assert expected(4, x[4:8]) == 8
    assert expected(0, x[:4]) == 4
    assert expected(0, b"") == 4
    error = talker.refused(MessageType.INPUT, InputData(4).pack() + x)
    assert (error.code, error.first, error.second) == (ErrorCode.LENGTH, len(x), len(x) - 4)


def test_the_same_request_again_does_not_run_again(talker: Talker, subject: Subject) -> None:
    x = subject.inputs[0].tobytes()
    give_input(talker, x)
    request = Message(MessageType.INVOKE, Invoke(zlib.crc32(x)).pack(), session=SESSION, sequence=300)
    (first,) = talker.send(frames.encode(request))
    (second,) = talker.send(frames.encode(request))
    assert first == second
    talker.sequence = 300
    assert talker.statistics().runs == 1


def test_outputs_go_when_new_inputs_come(talker: Talker, subject: Subject) -> None:
    x = subject.inputs[0].tobytes()
    give_input(talker, x)
    talker.ask(MessageType.INVOKE, Invoke(zlib.crc32(x)).pack())
    assert talker.refused(MessageType.OUTPUT, Output(2, 0, 9).pack()).code == ErrorCode.OUTPUT
    give_input(talker, x[:8])
    error = talker.refused(MessageType.OUTPUT, Output(1, 0, 9).pack())
    assert (error.code, error.first, error.second) == (ErrorCode.OUTPUT, 1, 1)


def test_a_run_can_insist_on_a_level(talker: Talker, subject: Subject) -> None:
    x = subject.inputs[0].tobytes()
    give_input(talker, x)
    error = talker.refused(MessageType.INVOKE, Invoke(zlib.crc32(x), 8).pack())
    assert (error.code, error.first, error.second) == (ErrorCode.LEVEL_CHANGED, 4, 8)
    talker.ask(MessageType.INVOKE, Invoke(zlib.crc32(x), 4).pack())


def test_reset_needs_its_key(talker: Talker) -> None:
    assert talker.refused(MessageType.RESET, Reset(1).pack()).code == ErrorCode.ARGUMENT
    answers = talker.send(
        frames.encode(Message(MessageType.RESET, Reset(RESET_KEY).pack(), session=SESSION, sequence=300))
    )
    assert [answer.type for answer in answers] == [MessageType.RESET, MessageType.HELLO]
    assert talker.refused(MessageType.READ, Read(Table.STATE).pack()).code == ErrorCode.SESSION


def test_a_transfer_survives_a_reset_but_not_a_loss_of_power(talker: Talker, subject: Subject) -> None:
    image = subject.images[1]
    for interrupt, left in ((talker.virtual.reset, 16), (talker.virtual.lose_power, 0)):
        begin(talker, subject)
        put(talker, image, 0, 16)
        interrupt()
        talker.line.read(0)
        talker.ask(MessageType.HELLO)
        state = talker.state()
        assert (state.transfer_page, state.transfer_offset) == ((1, left) if left else (NO_PAGE, 0))
        if left:
            assert put(talker, image, 16, len(image)) == len(image)
            talker.ask(MessageType.PAGE_END, PageEnd(len(image), zlib.crc32(image)).pack(), 1)
            talker.ask(MessageType.SET_LEVEL, SetLevel(6).pack())
            talker.ask(MessageType.SET_LEVEL, SetLevel(4).pack())
            talker.ask(MessageType.PAGE_OUT, page=1)


@pytest.mark.parametrize("spoil", ["crc32", "offset", "page", "check"])
def test_a_transfer_whose_record_is_damaged_does_not_survive(
    talker: Talker, subject: Subject, spoil: str
) -> None:
    begin(talker, subject)
    put(talker, subject.images[1], 0, 16)
    setattr(talker.virtual.transfer, spoil, getattr(talker.virtual.transfer, spoil) ^ 1)
    talker.virtual.reset()
    talker.line.read(0)
    talker.ask(MessageType.HELLO)
    assert talker.state().transfer_page == NO_PAGE


def test_a_transfer_whose_bytes_changed_does_not_survive(talker: Talker, subject: Subject) -> None:
    begin(talker, subject)
    put(talker, subject.images[1], 0, 16)
    talker.virtual.model.damage(1, 15)
    talker.virtual.reset()
    talker.line.read(0)
    talker.ask(MessageType.HELLO)
    assert talker.state().transfer_page == NO_PAGE


def test_statistics_can_be_set_to_zero(talker: Talker) -> None:
    assert talker.statistics().frames > 0
    talker.ask(MessageType.RESET_STATISTICS)
    counts = talker.statistics()
    assert counts.frames == 1 + (counts.received_bytes > 60)
    assert counts.errors == 0


@pytest.mark.parametrize("frame_bytes", [0, 63, 65536])
def test_a_frame_buffer_has_its_limits(subject: Subject, frame_bytes: int) -> None:
    with pytest.raises(UsageError, match="allowed are 64 to 65,535"):
        VirtualBoard(subject.model, Board.load("mps2-an386"), frame_bytes=frame_bytes, window_bytes=0)


def test_both_devices_answer_the_same_bytes(subject: Subject, library: object) -> None:
    from firmware_sim.virtual_board import loopback
    from tests.tflnest.bridge.c_device import CDevice
    from tflnest.bridge.device import Device
    from tflnest.bridge.remote import RemoteBoard

    answers: list[bytes] = []
    makers: list[Callable[[DeviceConfig], object]] = [Device, lambda config: CDevice(library, config)]  # type: ignore[arg-type]
    for make in makers:
        _, line = loopback(subject.model, Board.load("nrf52840"), frame_bytes=64, machine=make)  # type: ignore[arg-type]
        heard: list[bytes] = []
        read = line.read
        line.read = lambda timeout, read=read, heard=heard: heard.append(read(timeout)) or heard[-1]  # type: ignore[method-assign,misc,func-returns-value]
        board = RemoteBoard.__new__(RemoteBoard)
        from tflnest.bridge.link import Link

        board.link, board.last_run, board._tensors = Link(line, number=3), None, None
        board.link.hello()
        board.info()
        board.push(subject.model)
        board.run(subject.inputs)
        board.page_out()
        answers.append(b"".join(heard))
    assert answers[0] == answers[1] and len(answers[0]) > 2000
