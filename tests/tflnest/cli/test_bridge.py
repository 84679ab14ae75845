"""The verbs that talk to a board, against a virtual one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from firmware_sim.board import Board
from firmware_sim.virtual_board import VirtualBoard, VirtualPort
from tests.models import nested, network
from tests.shared import ROOT
from tests.tflnest.cli.conftest import BOARD
from tflnest.bridge.push import PushReport
from tflnest.bridge.remote import connect
from tflnest.cli.pushing import summary
from tflnest.model import Model


@pytest.fixture
def port(files):
    virtual = VirtualBoard(Model.load(files.nested), Board.load(BOARD), frame_bytes=256)
    with VirtualPort(virtual, tcp_port=0) as served:
        yield served


@pytest.fixture
def at(port, call):
    """Runs a verb with the port of the board."""
    return lambda *arguments: call(*arguments, "--port", port.url)


def test_a_session_from_the_first_level_to_the_last(at, files, tmp_path):
    x = str(files.data)
    run = ("run", "--input", x, "--limit", "3", "--compare", files.nested)
    assert "bit-exact" in at(*run).out
    done = at("push", files.nested, "--level", "6")
    assert done.code == 0
    assert "part-bit model ready after 840 bytes: level 6" in done.out
    assert "pages 1: 840 B (" in done.out and "B on the wire) in " in done.out
    assert "level 6" in at(*run).out
    assert "full-bit model ready after 840 bytes: level 8" in at("push", files.nested).out
    assert "nothing was sent" in at("push", files.nested).out
    done = at(*run, "--level", "8", "-o", tmp_path / "y.npy")
    assert "bit-exact" in done.out and np.load(tmp_path / "y.npy").shape == (3, 10)
    assert at("verify", files.nested).out.count("sound") == 3
    assert "runs at level 6" in at("switch", "6").out
    assert at("switch", "8", "--operator", "0").code == 0
    assert at("info", "--format", "json").json["level"] is None
    assert "pages 2, 1 given up: 1,680 B of SRAM" in at("page-out").out
    assert "no page was given up" in at("page-out").out
    document = at("info", "--format", "json").json
    assert document["resident_pages"] == [0] and document["level"] == 4
    assert document["statistics"]["runs"] >= 9


def test_a_board_without_a_model_takes_any(call, files):
    virtual = VirtualBoard(None, Board.load(BOARD), frame_bytes=256)
    run = ("run", "--input", str(files.data), "--limit", "2")
    with VirtualPort(virtual, tcp_port=0) as port:
        assert "none; takes any of up to" in call("info", "--port", port.url).out
        for verb in (run, ("page-out",)):
            done = call(*verb, "--port", port.url)
            assert done.code == 3 and "the board has no model" in done.err
        done = call("push", files.nested, "--level", "4", "--port", port.url)
        assert done.code == 0 and "has arrived with its base page" in done.out
        assert "part-bit model ready after" in done.out and "\nmodel: " in done.out
        assert "bit-exact" in call(*run, "--compare", files.nested, "--port", port.url).out
        assert "\npages 1, 2: 1,680 B" in call("push", files.nested, "--port", port.url).out
        assert "none" not in call("info", "--port", port.url).out.splitlines()[3]


def test_json_has_what_the_text_has(at, files):
    report = at("push", files.nested, "--format", "json").json
    assert report["payload_bytes"] == 1680 and report["wire_bytes"] < 2100
    assert report["ready"][-1] == {"level": 8, "payload_bytes": 1680}
    result = at(
        "run", "--input", files.data, "--limit", "2", "--compare", files.nested, "--format", "json"
    ).json
    assert result["different_samples"] == 0 and len(result["outputs"][0]) == 2


def test_a_dry_run_opens_no_port(call, files, tmp_path):
    done = call("push", files.nested, "--dry-run", "--port", "/dev/nonsense", "--trace", tmp_path / "t")
    assert done.code == 0 and "nothing was sent" in done.out and "0.35 s at 115,200 baud" in done.out
    assert (
        call("push", files.nested, "--dry-run", "--level", "4", "--format", "json").json["payload_bytes"]
        == 2368
    )
    assert not (tmp_path / "t").exists()


def test_outputs_that_differ_are_exit_code_4(at, files, port, tmp_path):
    done = at("run", "--input", files.data, "--limit", "3", "--compare", files.int8)
    assert done.code == 4 and "are not those of the reference interpreter" in done.err


def test_a_damaged_page_is_exit_code_4(at, files, port):
    at("push", files.nested)
    port.virtual.model.damage(2, 7)
    done = at("verify")
    assert done.code == 4 and "DAMAGED" in done.out and "page 2 on the board is damaged" in done.err


def test_no_room_is_exit_code_5(call, files):
    model = Model.load(files.nested)
    roomy = VirtualBoard(model, Board.load(BOARD), frame_bytes=64)
    sram = roomy.board.sram_bytes - roomy.model.free_sram() + 100
    small = VirtualBoard(model, roomy.board.with_limits(sram_bytes=sram), frame_bytes=64)
    with VirtualPort(small, tcp_port=0) as served:
        done = call("push", files.nested, "--port", served.url)
    assert done.code == 5
    assert "page 1 (level 6) has 840 bytes, and the board has room for" in done.err


def test_the_port_is_exit_code_3(call, files):
    done = call("info", "--port", "/dev/nonsense")
    assert done.code == 3 and "/dev/nonsense: cannot be opened" in done.err and "hint:" in done.err
    done = call("info", "--port", "socket://127.0.0.1:1", "--format", "json")
    assert done.error["exit_code"] == 3


def test_another_model_is_exit_code_3(at, tmp_path):
    nested(network(9)).save(tmp_path / "other.tflite")
    done = at("push", tmp_path / "other.tflite")
    assert done.code == 3 and "the board runs model" in done.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("push", "{int8}"),
        ("push", "{nested}", "--level", "5"),
        ("switch", "5"),
        ("switch", "8", "--operator", "77"),
        ("page-out", "--level", "5"),
        ("run", "--input", "{data}", "--input", "{data}"),
        ("run", "--input", "{data}", "--level", "5"),
        ("run", "--input", "{data}", "-o", "{nested}"),
        ("info", "--trace", "{nested}"),
        ("monitor", "--replay", "{nested}", "--trace", "x"),
    ],
)
def test_what_makes_no_sense_is_exit_code_2(at, files, arguments):
    done = at(*(word.format(**vars(files)) for word in arguments))
    assert done.code == 2 and "error:" in done.err, done


def test_no_port_at_all_is_exit_code_2(call, monkeypatch):
    monkeypatch.delenv("TFLNEST_PORT", raising=False)
    done = call("info")
    assert done.code == 2 and "TFLNEST_PORT" in done.err


def test_a_trace_can_be_recorded_and_played(at, call, files, tmp_path):
    path = tmp_path / "push.trace"
    assert at("push", files.nested, "--trace", path).code == 0
    model = Model.load(files.nested)
    with VirtualPort(VirtualBoard(model, Board.load(BOARD), frame_bytes=256), tcp_port=0) as fresh:
        done = call("monitor", "--replay", path, "--port", fresh.url)
        assert done.code == 0 and "identical" in done.out
        assert call("monitor", "--replay", path, "--port", fresh.url, "--timeout", "0.5").code == 4


def test_monitor_shows_a_line_per_look(at):
    done = at("monitor", "--count", "3", "--interval", "0.05", "--reset")
    assert done.code == 0 and len(done.out.splitlines()) == 3
    assert "level 4  pages 0  free " in done.out
    lines = at("monitor", "--count", "2", "--interval", "0.05", "--format", "json").out.splitlines()
    assert [json.loads(line)["level"] for line in lines] == [4, 4]


def _start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tflnest", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


def test_a_virtual_board_needs_no_file_and_has_flash_sectors(files):
    for arguments, pages in (
        (("--board", BOARD), 0),
        ((files.nested, "--board", BOARD, "--pages", "sectors"), 3),
    ):
        process = _start("device", *arguments, "--uart", "tcp", "--format", "json")
        try:
            with connect(json.loads(process.stdout.readline())["port"], timeout=20) as board:
                assert len(board.info().pages) == pages
                board.push(Model.load(files.nested))
                expected = ["flash", "flash", "flash"] if pages else ["flash", "host", "host"]
                assert [page["place"] for page in board.info().to_dict()["pages"]] == expected
        finally:
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 130
            process.stdout.close()
            process.stderr.close()


@pytest.mark.parametrize("uart", ["pty", "tcp"])
def test_a_virtual_board_serves_until_it_is_interrupted(files, uart):
    if uart == "pty" and os.name != "posix":
        pytest.skip("no pseudo-terminals")
    process = _start("device", files.nested, "--board", BOARD, "--uart", uart, "--format", "json")
    try:
        document = json.loads(process.stdout.readline())
        assert document["pid"] == process.pid and document["board"] == BOARD
        with connect(document["port"], timeout=20) as board:
            assert board.push(Model.load(files.nested)).pages == (1, 2)
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        process.stdout.close()
        process.stderr.close()


def test_an_interrupted_push_goes_on_later(files):
    model = Model.load(files.nested)
    virtual = VirtualBoard(model, Board.load(BOARD), frame_bytes=64, window_bytes=0)
    # So slow that the push is still under way when it is interrupted.
    with VirtualPort(virtual, tcp_port=0, baud=9600) as port:
        process = _start("push", files.nested, "--port", port.url, "--timeout", "20")
        deadline = time.monotonic() + 30
        while virtual.transfer.offset < 100 and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert "interrupted" in process.stderr.read()
        process.stdout.close()
        process.stderr.close()
        assert virtual.model.level() == 4
    with VirtualPort(virtual, tcp_port=0) as port, connect(port.url) as board:
        report = board.push(model)
        assert report.resumed_bytes >= 100 and board.info().level == 8


@pytest.mark.parametrize(("repeats", "end"), [(0, ""), (1, ", 1 repeat"), (1200, ", 1,200 repeats")])
def test_the_summary_of_a_push_counts_what_was_sent_again(repeats, end):
    report = PushReport(8, 840, 900, 0.5, None, repeats, (1,), (), 0, ())
    assert summary(report) == "pages 1: 840 B (900 B on the wire) in 0.50 s, 1,680 B/s" + end
