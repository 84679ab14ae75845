from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from firmware_sim.board import Board
from tests.firmware_sim.monitor import build, require_emulator
from tests.shared import ROOT
from tflnest.errors import ExitCode


@pytest.fixture
def microbit() -> Board:
    require_emulator()
    return Board.load("microbit")


@contextmanager
def emulated(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """The verb in a process of its own, killed in the end."""
    command = [sys.executable, "-m", "tflnest", "emulate", *map(str, arguments)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def document(process: subprocess.Popen[str]) -> dict[str, Any]:
    return json.loads(process.stdout.readline())


def test_a_session_until_it_is_interrupted(microbit):
    image = build(microbit)
    end = microbit.sram_base + microbit.sram_bytes
    with emulated(image.path, "--format", "json") as process:
        started = document(process)
        assert started["schema_version"] == 1 and started["board"] == "microbit"
        assert Path(f"/proc/{started['pid']}").exists()
        with Path(started["port"]).open("r+b", buffering=0) as port:
            assert port.read(1) == b"b"  # of "boot": it listens
            port.write(b"s" + end.to_bytes(4, "little"))
            fault = document(process)
        assert (fault["event"], fault["exception"]) == ("fault", 3)
        assert "monitor.c:" in fault["description"]
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == ExitCode.INTERRUPTED
    assert not Path(f"/proc/{started['pid']}").exists()


def test_regions_are_counted(microbit, call):
    path = build(microbit, "regions.c").path
    done = call("emulate", path, "--count", "--uart", "tcp")
    assert done.code == ExitCode.OK
    first, *rest = done.out.splitlines()
    assert first.startswith("TFLNEST_PORT=socket://127.0.0.1:")
    assert rest[0] == "region 1023: 5 instructions" and rest[-1].startswith("region 0: ")
    assert "ended with status 0" in done.err


def test_the_console_shows_what_the_board_sends(microbit, capfdbinary):
    from tflnest.cli import run

    assert run(["emulate", str(build(microbit, "hello.c").path), "--uart", "console"]) == ExitCode.FAILED
    captured = capfdbinary.readouterr()
    assert captured.out == b"hello\n"
    assert b"ended with status 3" in captured.err


def test_a_dead_board_is_an_error(microbit, call):
    done = call("emulate", build(microbit, "lockup.c").path)
    assert done.code == ExitCode.DEVICE
    assert "Lockup" in done.err and "lockup.c:" in done.err


def test_a_folder_with_one_firmware_is_enough(microbit, call, tmp_path):
    assert "holds no .elf file" in call("emulate", tmp_path).err
    (tmp_path / "Makefile").touch()
    assert f"build it first: make -C {tmp_path}" in call("emulate", tmp_path).err
    (tmp_path / "build").mkdir()
    shutil.copy(build(microbit, "regions.c").path, tmp_path / "build" / "firmware.elf")
    assert call("emulate", tmp_path).code == ExitCode.OK
    shutil.copy(build(microbit, "regions.c").path, tmp_path / "other.elf")
    done = call("emulate", tmp_path)
    assert done.code == ExitCode.USAGE and "holds several .elf files" in done.err


def test_firmware_of_others_needs_a_board(microbit, call, tmp_path):
    stripped = tmp_path / "x.elf"
    command = ["arm-none-eabi-objcopy", "-R", ".tflnest.board", build(microbit, "regions.c").path, stripped]
    subprocess.run(command, check=True)
    done = call("emulate", stripped)
    assert done.code == ExitCode.USAGE
    assert "does not say which board it is for" in done.err and "--board" in done.err
    assert call("emulate", stripped, "--board", "microbit").code == ExitCode.OK
