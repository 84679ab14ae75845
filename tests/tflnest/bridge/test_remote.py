"""A host and a board in one process, end to end."""

from __future__ import annotations

import numpy as np
import pytest

from firmware_sim.board import Board
from firmware_sim.pager import Placement
from firmware_sim.virtual_board import loopback
from tests.models import NetworkBuilder, nested, network, random_inputs, small_network
from tests.tflnest.bridge.conftest import Machine, MakeBoard, Subject
from tflnest.bridge.messages import ErrorCode
from tflnest.bridge.push import PushKind
from tflnest.bridge.remote import RemoteBoard, connect
from tflnest.bridge.session import RefusedError
from tflnest.bridge.transport import FaultyTransport, LoopbackTransport
from tflnest.errors import DeviceError, DoesNotFitError, ExitCode, UsageError, VerificationError
from tflnest.interpreter import Interpreter
from tflnest.model import Model
from tflnest.nested import nested_operators


@pytest.mark.parametrize("frame_bytes", [64, 96, 256, 400, 512, 1024, 2048])
def test_levels_arrive_run_and_go(make_board: MakeBoard, subject: Subject, frame_bytes: int) -> None:
    _, line = make_board(frame_bytes)
    with RemoteBoard(line) as board:
        assert np.array_equal(board.run(subject.inputs), subject.outputs[4])
        assert board.push(subject.model, 6).ready == ((6, len(subject.images[1])),)
        assert np.array_equal(board.run(subject.inputs), subject.outputs[6])
        assert board.push(subject.model).ready == ((8, len(subject.images[2])),)
        assert np.array_equal(board.run(subject.inputs), subject.outputs[8])
        assert np.array_equal(board.run(subject.inputs, level=4), subject.outputs[4])
        assert all(check.sound and check.resident for check in board.verify(subject.model))
        assert board.page_out() == (2, 1)
        assert board.info().resident_pages == (0,)
        assert np.array_equal(board.run(subject.inputs), subject.outputs[4])


@pytest.mark.parametrize("window", [0, 64, 200, 4096])
def test_any_window_will_do(make_board: MakeBoard, subject: Subject, window: int) -> None:
    _, line = make_board(64, window_bytes=window)
    with RemoteBoard(line) as board:
        assert board.push(subject.model).repeats == 0
        assert np.array_equal(board.run(subject.inputs), subject.outputs[8])


def test_frames_longer_than_a_block_of_stuffing(machine: Machine) -> None:
    net = NetworkBuilder(7)
    y = net.convolution(net.start((1, 16, 16, 4)), 8, kernel=1, name="a")
    model = nested(net.finish(y))
    x = random_inputs(model, 1)
    x[0, :8] = 5  # 512 bytes without a zero
    for frame_bytes in (300, 1024, 4096):
        _, line = loopback(model, Board.load("nrf52840"), frame_bytes=frame_bytes, machine=machine)
        with RemoteBoard(line) as board:
            board.push(model)
            assert np.array_equal(board.run(x), Interpreter(model=model, level=8).run(x))
            assert board.statistics().damaged_frames == 0


def test_info_tells_everything(make_board: MakeBoard, subject: Subject) -> None:
    _, line = make_board(64)
    with RemoteBoard(line) as board:
        info = board.info()
    assert (info.board, info.levels, info.level, info.resident_pages) == ("nrf52840", (4, 6, 8), 4, (0,))
    document = info.to_dict()
    assert subject.model.directory is not None
    assert document["identity"] == subject.model.directory.identity.hex()
    assert [page["size_bytes"] for page in document["pages"]] == [len(image) for image in subject.images]
    assert document["pages"][0]["place"] == "flash" and document["pages"][1]["place"] == "host"
    (given,), (taken,) = document["outputs"], document["inputs"]
    tensor = subject.model.graph.main.input_tensors()[0]
    assert taken["shape"] == list(tensor.shape) and taken["scale"] == tensor.scale
    assert taken["zero_point"] == tensor.zero_point == -3
    assert given["type"] == "INT8" and given["size_bytes"] == 24
    assert [item["levels"] for item in document["operators"]] == [[4, 6, 8]] * 2
    assert document["transfer"] is None


def test_floats_are_quantized_as_by_the_interpreter(make_board: MakeBoard, subject: Subject) -> None:
    _, line = make_board()
    x = np.random.default_rng(3).normal(size=(4, *subject.inputs.shape[1:])).astype(np.float32)
    with RemoteBoard(line) as board:
        assert np.array_equal(board.run(x), Interpreter(model=subject.model, level=4).run(x))
        with pytest.raises(UsageError, match="takes arrays of shape"):
            board.run(x[0])


def test_no_samples_give_no_outputs(make_board: MakeBoard, subject: Subject) -> None:
    _, line = make_board()
    with RemoteBoard(line) as board:
        assert board.run(subject.inputs[:0]).shape == (0, 24)  # type: ignore[union-attr]


def test_operators_have_levels_of_their_own(make_board: MakeBoard, subject: Subject) -> None:
    _, line = make_board()
    operators = [item.operator.index for _, item in nested_operators(subject.model.graph)]
    reference = Interpreter(model=subject.model, level=4)
    reference.set_level({list(reference.get_levels())[1]: 8})
    with RemoteBoard(line) as board:
        board.push(subject.model)
        board.switch(4)
        board.switch(8, operators[1])
        info = board.info()
        assert info.level is None and [row.level for row in info.operators] == [4, 8]
        assert np.array_equal(board.run(subject.inputs), reference.run(subject.inputs))
        with pytest.raises(UsageError, match=f"operator {operators[1]} has no level 5"):
            board.switch(5, operators[1])
        with pytest.raises(UsageError, match="operator 99 has no levels"):
            board.switch(8, 99)


def test_only_what_the_board_lacks_is_sent(make_board: MakeBoard, subject: Subject) -> None:
    _, line = make_board()
    with RemoteBoard(line) as board:
        board.push(subject.model)
        kinds = [step.kind for step in board.push_steps(subject.model)]
        assert kinds == [PushKind.SKIPPED] * 3
        report = board.push(subject.model)
    assert (report.payload_bytes, report.pages, report.skipped_pages, report.ready) == (0, (), (0, 1, 2), ())


def test_the_steps_of_a_push_add_up(make_board: MakeBoard, subject: Subject) -> None:
    _, line = make_board(64, empty=True)
    sizes = [len(image) for image in subject.images]
    with RemoteBoard(line) as board:
        assert board.info().level is None
        with pytest.raises(RefusedError, match="not resident"):
            board.run(subject.inputs)
        steps = list(board.push_steps(subject.model))
        assert np.array_equal(board.run(subject.inputs), subject.outputs[8])
    assert [step.level for step in steps if step.kind is PushKind.READY] == [4, 6, 8]
    assert steps[-1].done_bytes == steps[-1].total_bytes == steps[-1].payload_bytes == sum(sizes)
    data = [step.done_bytes for step in steps if step.kind is PushKind.DATA]
    assert data == sorted(data) and steps[-1].wire_bytes > sum(sizes)


def test_a_damaged_page_is_sent_again(make_board: MakeBoard, subject: Subject) -> None:
    virtual, line = make_board()
    with RemoteBoard(line) as board:
        board.push(subject.model)
        board.switch(4)
        virtual.model.damage(2, 3)
        checks = board.verify()
        assert [check.sound for check in checks] == [True, True, False]
        assert board.push(subject.model).pages == (2,)
        assert np.array_equal(board.run(subject.inputs), subject.outputs[8])
        virtual.model.damage(2, 3)
        with pytest.raises(VerificationError, match="page 2 on the board is damaged"):
            board.push(subject.model)


def test_another_model_is_refused(make_board: MakeBoard, subject: Subject) -> None:
    _, line = make_board()
    other = nested(small_network(1))
    with RemoteBoard(line) as board:
        for action in (lambda: board.push(other), lambda: board.verify(other)):
            with pytest.raises(DeviceError, match=f"the board runs model {subject.model.directory.name}"):  # type: ignore[union-attr]
                action()
        with pytest.raises(UsageError, match="not nested"):
            board.push(network())


def test_levels_that_do_not_exist_are_named(make_board: MakeBoard, subject: Subject) -> None:
    _, line = make_board()
    with RemoteBoard(line) as board:
        for action in (
            lambda: board.push(subject.model, 5),
            lambda: board.switch(5),
            lambda: board.page_out(5),
        ):
            with pytest.raises(UsageError, match="no level 5"):
                action()


def test_switching_without_the_page_changes_nothing(make_board: MakeBoard, subject: Subject) -> None:
    _, line = make_board()
    with RemoteBoard(line) as board:
        with pytest.raises(RefusedError, match="level 8 needs is not resident") as caught:
            board.switch(8)
        assert caught.value.code == ErrorCode.RESIDENT and caught.value.exit_code == ExitCode.DEVICE
        assert np.array_equal(board.run(subject.inputs), subject.outputs[4])


def test_a_page_that_does_not_fit_is_refused_with_the_numbers(
    make_board: MakeBoard, subject: Subject
) -> None:
    roomy, _ = make_board()
    size = len(subject.images[1])
    full = roomy.board.with_limits(sram_bytes=roomy.board.sram_bytes - roomy.model.free_sram() + size)
    _, line = make_board(board=full)
    with RemoteBoard(line) as board:
        with pytest.raises(
            DoesNotFitError, match=f"page 2 .level 8. has {len(subject.images[2]):,} bytes"
        ) as caught:
            board.push(subject.model)
        assert caught.value.exit_code == ExitCode.DOES_NOT_FIT
        assert np.array_equal(board.run(subject.inputs), subject.outputs[6])


def test_pages_can_come_into_flash(make_board: MakeBoard, subject: Subject) -> None:
    virtual, line = make_board(placement=Placement.FLASH, empty=True)
    with RemoteBoard(line) as board:
        board.push(subject.model)
        assert np.array_equal(board.run(subject.inputs), subject.outputs[8])
        virtual.lose_power()
        board.link.hello()
        assert board.info().resident_pages == (0, 1, 2)
        assert np.array_equal(board.run(subject.inputs), subject.outputs[8])
        assert board.page_out() == ()


def test_a_reset_keeps_sound_pages_and_a_loss_of_power_none(make_board: MakeBoard, subject: Subject) -> None:
    virtual, line = make_board()
    with RemoteBoard(line) as board:
        board.push(subject.model)
        board.reset()
        assert board.info().resident_pages == (0, 1, 2)
        virtual.model.damage(1, 0)
        board.reset()
        info = board.info()
        assert info.resident_pages == (0, 2) and info.level == 4
        virtual.lose_power()
        board.link.hello()
        assert board.info().resident_pages == (0,)
        assert np.array_equal(board.run(subject.inputs), subject.outputs[4])


def test_statistics_count_and_can_be_reset(make_board: MakeBoard, subject: Subject) -> None:
    _, line = make_board()
    with RemoteBoard(line) as board:
        board.run(subject.inputs)
        assert board.statistics().runs == 3
        board.reset_statistics()
        assert board.statistics().runs == 0


def test_of_two_hosts_the_later_one_has_the_board(make_board: MakeBoard, subject: Subject) -> None:
    _, line = make_board()
    first, second = RemoteBoard(line), RemoteBoard(line)
    second.push(subject.model)
    with pytest.raises(RefusedError, match="knows nothing of this session") as caught:
        first.switch(4)
    assert "another program" in (caught.value.hint or "")
    assert np.array_equal(second.run(subject.inputs), subject.outputs[8])


def test_progress_is_told(make_board: MakeBoard, subject: Subject) -> None:
    _, line = make_board(64)
    told: list[tuple[str, int, int]] = []
    with RemoteBoard(line) as board:
        board.push(subject.model, progress=lambda *step: told.append(step))
        board.run(subject.inputs, progress=lambda *step: told.append(step))
    total = sum(len(image) for image in subject.images)
    assert ("push", total, total) in told and told[-1] == ("inferences", 3, 3)


def test_several_inputs_follow_one_another() -> None:
    net = NetworkBuilder(2)
    a, b = net.start((1, 2, 2, 4)), net.start((1, 2, 2, 4))
    y = net.convolution(a, 4, kernel=1, name="a")
    z = net.convolution(b, 4, kernel=1, name="b")
    first, second = net.dense(net.flatten(y), 3, name="c"), net.dense(net.flatten(z), 5, name="d")
    model = nested(Model.from_bytes(net.build([first, second])))
    x = [random_inputs(model, 2, seed) for seed in (1, 2)]
    _, line = loopback(model, Board.load("nrf52840"), frame_bytes=64)
    with RemoteBoard(line) as board:
        expected = Interpreter(model=model, level=4).run(x)
        given = board.run(x)
        assert len(given) == 2 and all(np.array_equal(*pair) for pair in zip(given, expected, strict=True))
        with pytest.raises(UsageError, match="2 inputs"):
            board.run(x[0])
        with pytest.raises(UsageError, match="different numbers of samples"):
            board.run([x[0], x[1][:1]])


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"", "no answer within 5 seconds"),
        (b"login: \0", "not tflnest's firmware; it begins with 6c 6f 67"),
        (None, "everything that is sent comes back"),
    ],
)
def test_what_is_not_our_firmware_is_recognised(answer: bytes | None, text: str) -> None:
    line = LoopbackTransport(
        lambda content: line.send(content if answer is None else answer if content else b"")
    )
    with pytest.raises(DeviceError, match=text) as caught:
        RemoteBoard(line)
    assert caught.value.hint and caught.value.exit_code == ExitCode.DEVICE


def test_another_protocol_version_is_recognised(
    make_board: MakeBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    from tflnest.bridge import session

    _, line = make_board()
    request = session.Session.request
    monkeypatch.setattr(
        session.Session, "request", lambda self, *args: replace(request(self, *args), version=2)
    )
    with pytest.raises(RefusedError, match="speaks protocol version 1") as caught:
        RemoteBoard(line)
    assert caught.value.code == ErrorCode.VERSION


def test_a_board_that_falls_silent_is_given_up(make_board: MakeBoard, subject: Subject) -> None:
    _, line = make_board()
    alive = [True]
    wire = FaultyTransport(line, lambda content: content if alive[0] else b"")
    with RemoteBoard(wire) as board:
        alive[0] = False
        with pytest.raises(DeviceError, match=r"no answer to a message of type 0x02 for [5-9]"):
            board.state()
        alive[0] = True
        steps = board.push_steps(subject.model)
        next(steps)
        alive[0] = False
        with pytest.raises(DeviceError, match="gave no answer"):
            list(steps)
        alive[0] = True
        board.push(subject.model)
        assert np.array_equal(board.run(subject.inputs), subject.outputs[8])


def test_connect_says_what_it_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TFLNEST_PORT", raising=False)
    with pytest.raises(UsageError, match="no port was given"):
        connect()
    monkeypatch.setenv("TFLNEST_BAUD", "fast")
    with pytest.raises(UsageError, match="TFLNEST_BAUD is 'fast'"):
        connect("/dev/null")
    monkeypatch.delenv("TFLNEST_BAUD")
    with pytest.raises(DeviceError, match="cannot be opened") as caught:
        connect("/dev/no-such-port")
    assert "tflnest ports" in (caught.value.hint or "")
    with pytest.raises(DeviceError, match="cannot be opened") as caught:
        connect("socket://127.0.0.1:1")
    assert "nothing listens there" in (caught.value.hint or "")
