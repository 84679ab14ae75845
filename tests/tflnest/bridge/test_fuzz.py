"""Hostile bytes at both ends: nothing crashes, hangs, or runs on a damaged page."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firmware_sim.board import Board
from firmware_sim.virtual_board import loopback
from tests.shared import ROOT
from tests.tflnest.bridge.c_device import SOURCES, WARNINGS
from tests.tflnest.bridge.conftest import MakeBoard, Subject
from tests.tflnest.bridge.test_faults import assert_sound
from tflnest.bridge import frames
from tflnest.bridge.frames import FrameReader
from tflnest.bridge.messages import REQUESTS, WHOLE_MODEL, Message, MessageType, ModelBegin, PageData
from tflnest.bridge.remote import RemoteBoard
from tflnest.bridge.transport import FaultyTransport
from tflnest.errors import TflnestError

SLACK = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]

WORDS = st.integers(0, 2**32 - 1) | st.integers(0, 300)
PAYLOADS = st.lists(WORDS, max_size=6).map(
    lambda words: b"".join(word.to_bytes(4, "little") for word in words)
) | st.binary(max_size=80)
REQUEST_FRAMES = st.builds(
    lambda kind, payload, page, session, sequence: frames.encode(
        Message(kind, payload, page=page, session=session, sequence=sequence)
    ),
    kind=st.sampled_from(sorted(MessageType)) | st.integers(0, 127),
    payload=PAYLOADS,
    page=st.integers(0, 3) | st.sampled_from([WHOLE_MODEL, 255]),
    session=st.just(1) | st.integers(0, 3),
    sequence=st.integers(0, 65535),
)
GREETING = frames.encode(Message(MessageType.HELLO, session=1, sequence=0))


@pytest.mark.parametrize("options", [{}, {"placement": "flash", "sectors": True}], ids=["host", "sectors"])
@settings(max_examples=60, suppress_health_check=SLACK)
@given(content=st.lists(REQUEST_FRAMES | st.binary(max_size=60) | st.just(GREETING), max_size=20))
def test_a_device_survives_anything(
    make_board: MakeBoard, subject: Subject, content: list[bytes], options: dict[str, object]
) -> None:
    virtual, line = make_board(64, replace(Board.load("nrf52840"), flash_sector_bytes=64), **options)
    line.write(GREETING)
    for part in content:
        line.write(part)
        assert_sound(virtual, subject)
    for item in FrameReader(64).receive(line.read(0)):
        assert isinstance(item, Message) and item.reply
    with RemoteBoard(line) as board:
        level = board.info().level
        if level is not None:
            assert np.array_equal(board.run(subject.inputs[:1]), subject.outputs[level][:1])


MODEL_FRAMES = st.builds(
    lambda kind, payload, sequence: frames.encode(Message(kind, payload, False, WHOLE_MODEL, 1, sequence)),
    kind=st.sampled_from([MessageType.PAGE_BEGIN, MessageType.PAGE_DATA, MessageType.PAGE_END]),
    payload=st.integers(0, 8).map(lambda words: ModelBegin(bytes(32), 8 * words).pack())
    | st.binary(max_size=32).map(lambda content: PageData(0).pack() + content)
    | PAYLOADS,
    sequence=st.integers(0, 30),
)


@settings(max_examples=60, suppress_health_check=SLACK)
@given(content=st.lists(MODEL_FRAMES | REQUEST_FRAMES | st.binary(max_size=60), max_size=20))
def test_a_board_that_takes_models_survives_anything(subject: Subject, content: list[bytes]) -> None:
    _, line = loopback(None, Board.load("nrf52840"), frame_bytes=128)
    line.write(GREETING)
    for part in content:
        line.write(part)
    for item in FrameReader(128).receive(line.read(0)):
        assert isinstance(item, Message) and item.reply
    with RemoteBoard(line) as board:
        assert board.info().levels == ()
        board.push(subject.model, 4)
        assert np.array_equal(board.run(subject.inputs), subject.outputs[4])


@pytest.mark.parametrize("takes_any", [False, True])
@settings(max_examples=60, suppress_health_check=SLACK)
@given(data=st.data())
def test_a_host_survives_anything(
    make_board: MakeBoard, subject: Subject, takes_any: bool, data: st.DataObject
) -> None:
    _, line = loopback(None, Board.load("nrf52840"), frame_bytes=128) if takes_any else make_board(64)
    odds = data.draw(st.integers(2, 12))

    def corrupt(content: bytes) -> bytes:
        parts = []
        for item in FrameReader(128).receive(content):
            assert isinstance(item, Message)
            if data.draw(st.integers(0, odds)) == 0:
                item = replace(item, payload=data.draw(PAYLOADS)[:52])
            if data.draw(st.integers(0, odds)) == 0:
                item = replace(item, type=data.draw(st.sampled_from(sorted(MessageType))))
            parts.append(frames.encode(item))
        return b"".join(parts)

    try:
        board = RemoteBoard(FaultyTransport(line, incoming=corrupt))
        board.info()
        board.push(subject.model)
        board.run(subject.inputs[:1])
        board.verify(subject.model)
    except TflnestError as error:
        assert error.message
    assert line.now() < 1000


@settings(max_examples=60, suppress_health_check=SLACK)
@given(content=st.lists(st.binary(max_size=200), max_size=10))
def test_a_host_survives_noise(make_board: MakeBoard, subject: Subject, content: list[bytes]) -> None:
    _, line = make_board(64)
    noise = list(content)
    wire = FaultyTransport(line, incoming=lambda given: given + (noise.pop() if noise else b"") + b"\0")
    with RemoteBoard(wire) as board:
        board.push(subject.model)
        assert np.array_equal(board.run(subject.inputs), subject.outputs[8])


def test_payload_layouts_are_all_fuzzed() -> None:
    assert max(layout.structure().size for layout in REQUESTS.values()) <= 80


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_the_c_device_survives_under_sanitizers(compiler: str, tmp_path: Path) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    program = tmp_path / "fuzz"
    build = subprocess.run(
        [
            compiler,
            *WARNINGS,
            "-Wno-conversion",  # of the fuzzer itself
            "-g",
            "-O1",
            "-fsanitize=address,undefined",
            "-fno-sanitize-recover=all",
            "-DFUZZ_ALONE",
            f"-I{ROOT / 'tflnest/runtime/include'}",
            "-o",
            str(program),
            str(ROOT / "tests/fuzz/fuzz_protocol.c"),
            *map(str, SOURCES),
        ],
        capture_output=True,
        text=True,
    )
    if "cannot find" in build.stderr:
        pytest.skip(f"{compiler} has no sanitizers here")
    assert build.returncode == 0, build.stderr
    result = subprocess.run([str(program), "5", "4000"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    numbers = [int(word) for word in result.stdout.replace(",", "").split() if word.isdigit()]
    assert numbers[0] == 4000 and min(numbers) > 100, result.stdout
