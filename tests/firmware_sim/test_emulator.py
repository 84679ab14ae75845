from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from firmware_sim.board import Board
from firmware_sim.emulator import Emulator, run
from tests.firmware_sim.monitor import (
    EMULATED,
    SOURCES,
    Monitor,
    build,
    require_emulator,
    started,
)
from tests.shared import ROOT
from tflnest.errors import DeviceError, ExitCode, FormatError, UsageError

NO_FAULT = (0,) * 7
BUS_FAULT, MEMORY_FAULT, HARD_FAULT = 5, 4, 3
PRECISE, ADDRESS_VALID = 0x0200, 0x8000
MEMORY_DATA, MEMORY_ADDRESS_VALID = 0x02, 0x80
KIB = 1024


def limited(name: str) -> Board:
    """A board; where the protection unit sets the limit, one with an odd size."""
    board = Board.load(name)
    return board.with_limits(sram_bytes=20 * KIB + 96) if board.port.has_mpu else board


@pytest.fixture(params=EMULATED)
def board(request) -> Board:
    require_emulator()
    return limited(request.param)


@pytest.fixture
def microbit() -> Board:
    require_emulator()
    return Board.load("microbit")


def test_boot_echo_reset_and_faults(board):
    with started(board) as monitor:
        assert monitor.boot() == NO_FAULT
        data = os.urandom(KIB)
        assert monitor.echo(data) == data
        assert monitor.ask("o") == 0

        monitor.send("k")
        peak, size = monitor.word(), monitor.word()
        assert 0 < peak < size == board.port.thread_stack_bytes

        monitor.send("r")
        assert monitor.boot() == NO_FAULT
        monitor.machine.reset()
        assert monitor.boot() == NO_FAULT
        assert monitor.machine.take_fault() is None
        check_last_word_and_the_one_beyond(board, monitor)
        check_stack_overflow(board, monitor)
        assert monitor.echo(data) == data


def check_last_word_and_the_one_beyond(board: Board, monitor: Monitor) -> None:
    end = board.sram_base + board.sram_bytes
    line = next(
        number
        for number, text in enumerate((SOURCES / "monitor.c").read_text().splitlines(), 1)
        if "0x12345678u; /* may fault */" in text
    )
    # With a limited SRAM, static data ends well below its end: the last word is free.
    assert monitor.ask("s", end - 4) == 0x12345678
    monitor.send("s", end)
    exception, cfsr, _, address, *_ = monitor.boot()
    fault = monitor.machine.take_fault()
    text = fault.describe(board, monitor.machine.image)
    if board.core == "cortex-m0":
        assert (exception, cfsr, address) == (HARD_FAULT, 0, 0)
    elif board.port.has_mpu:
        assert (exception, cfsr, address) == (MEMORY_FAULT, MEMORY_DATA | MEMORY_ADDRESS_VALID, end)
    else:
        assert (exception, cfsr, address) == (BUS_FAULT, PRECISE | ADDRESS_VALID, end)
    assert not fault.is_stack_overflow(board)
    assert text.endswith(f"monitor.c:{line}") and text.startswith(fault.name)
    assert address == 0 or f"at address 0x{end:08x} (the SRAM ends at 0x{end:08x})" in text
    assert monitor.machine.take_fault() is None


def check_stack_overflow(board: Board, monitor: Monitor) -> None:
    monitor.send("f")
    monitor.boot()
    fault = monitor.machine.take_fault()
    assert fault.is_stack_overflow(board)
    assert "stack overflow" in fault.describe(board, monitor.machine.image)
    assert fault.sp < board.sram_base + board.port.thread_stack_bytes


def test_input_after_idle_time_arrives_and_the_clock_counts_milliseconds(board):
    with started(board) as monitor:
        monitor.boot()
        time.sleep(0.2)
        before, start = monitor.ask("m"), time.monotonic()
        assert monitor.ask("b", 120) == 0
        after, end = monitor.ask("m"), time.monotonic()
        assert 120 <= after - before <= (end - start) * 1000 + 60


def test_bytes_that_nobody_takes_are_counted(microbit):
    with started(microbit) as monitor:
        monitor.boot()
        excess = 10
        monitor.send("d", excess)
        monitor.machine.write(bytes(microbit.port.ring_bytes + excess))
        assert monitor.word() == 0
        for _ in range(microbit.port.ring_bytes):
            assert monitor.word() == 0xFFFFFFFF  # zero is no command
        assert monitor.ask("o") == excess


@pytest.mark.parametrize("name", ["stm32vldiscovery", "netduinoplus2"])
def test_bytes_wait_in_the_receiver_of_an_stm32_until_there_is_room(name):
    require_emulator()
    board = Board.load(name)
    with started(board) as monitor:
        monitor.boot()
        count = 3 * board.port.ring_bytes
        monitor.send("b", 100)  # it takes nothing meanwhile
        monitor.machine.write(bytes(count))
        assert monitor.word() == 0
        assert [monitor.word() for _ in range(count)] == [0xFFFFFFFF] * count  # zero is no command
        assert monitor.ask("o") == 0


def test_a_lockup_ends_with_its_place(microbit):
    image = build(microbit, "lockup.c")
    with Emulator(microbit, image) as machine, pytest.raises(DeviceError, match="Lockup") as caught:
        machine.wait()
    assert "microbit died: Lockup" in caught.value.message and "lockup.c:" in caught.value.message
    assert caught.value.exit_code is ExitCode.DEVICE


def test_silence_and_death_are_told_apart(microbit):
    with started(microbit, timeout_s=5.0) as monitor:
        monitor.boot()
        with pytest.raises(DeviceError, match=r"sent 0 of 1 bytes within 0.2 s"):
            monitor.machine.read(1, timeout_s=0.2)
        with pytest.raises(DeviceError, match=r"did not end within 0.2 s"):
            monitor.machine.wait(timeout_s=0.2)
        os.kill(monitor.machine.pid, signal.SIGKILL)
        with pytest.raises(DeviceError, match="microbit died"):
            monitor.machine.read(1)
        with pytest.raises(DeviceError, match="microbit died"):
            monitor.machine.reset()


def test_firmware_that_ends_tells_its_status(microbit):
    with started(microbit) as monitor:
        monitor.boot()
        monitor.send("x", 42)
        assert monitor.machine.wait() == 42
        with pytest.raises(DeviceError, match="ended with status 42"):
            monitor.machine.read(1)
    data = b"x" + (7).to_bytes(4, "little")
    finished = run(microbit, build(microbit), data=data)
    assert (finished.status, finished.output) == (7, b"boot" + bytes(28))


def test_several_boards_at_once():
    require_emulator()
    boards = [Board.load(name) for name in ("microbit", "mps2-an386", "microbit")]
    with started(boards[0]) as first, started(boards[1]) as second, started(boards[2]) as third:
        for number, monitor in enumerate((first, second, third)):
            monitor.boot()
            assert monitor.echo(bytes([number]) * 100) == bytes([number]) * 100
        assert len({monitor.machine.pid for monitor in (first, second, third)}) == 3


@pytest.mark.parametrize("uart", ["pty", "tcp"])
def test_another_program_finds_the_serial_port(microbit, uart):
    serial = pytest.importorskip("serial")
    with started(microbit, uart=uart) as monitor:
        for _ in range(2):  # it may close the port and come back
            with serial.serial_for_url(monitor.machine.url, timeout=10) as port:
                port.write(b"r")
                while not port.read_until(b"boot").endswith(b"boot"):
                    pass
                assert port.read(28) == bytes(28)
        if uart == "tcp":
            with pytest.raises(UsageError, match="one client"):
                monitor.machine.write(b"r")


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def within_time(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def test_nothing_stays_behind(microbit):
    with pytest.raises(ValueError, match="on purpose"), started(microbit) as monitor:
        pid = monitor.machine.pid
        raise ValueError("on purpose")
    assert not alive(pid)
    monitor.machine.close()


def test_the_emulator_ends_with_the_program_that_started_it(microbit, tmp_path):
    script = (
        "import sys, time\nfrom firmware_sim.board import Board\nfrom firmware_sim.emulator import Emulator\n"
        f"with Emulator(Board.load('microbit'), {str(build(microbit).path)!r}) as machine:\n"
        "    print(machine.pid, flush=True)\n    time.sleep(60)\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        env=environment,
    ) as process:
        pid = int(process.stdout.readline())
        assert alive(pid) and list(tmp_path.iterdir())
        process.kill()
    assert within_time(lambda: not alive(pid) and not list(tmp_path.iterdir()))


def test_a_memory_file_is_loaded(microbit, tmp_path):
    path = tmp_path / "a,b.bin"
    path.write_bytes(b"abcd" * 4)
    with started(microbit, blobs={0x20000: path}) as monitor:
        monitor.boot()
        assert monitor.ask("l", 0x20000) == int.from_bytes(b"abcd", "little")
        assert monitor.machine.memory(0x20004, 6) == b"abcdab"


def test_a_missing_emulator_is_named(monkeypatch, microbit):
    image = build(microbit)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(DeviceError, match="qemu-system-arm is not installed") as caught, started(microbit):
        pass
    assert "apt-get install --no-install-recommends qemu-system-arm" in caught.value.hint
    assert caught.value.exit_code is ExitCode.DEVICE
    assert image.path.exists()


def test_what_cannot_be_emulated(tmp_path, microbit):
    image = build(microbit)
    with pytest.raises(UsageError, match="no emulator for the board rp2040"):
        Emulator(Board.load("rp2040"), image)
    with pytest.raises(FormatError, match="no such file"):
        Emulator(microbit, tmp_path / "none.elf")
    (tmp_path / "bad.elf").write_bytes(b"no elf file")
    with pytest.raises(FormatError, match="is not an ELF file"):
        Emulator(microbit, tmp_path / "bad.elf")
    with pytest.raises(FormatError, match="expected ARM"):
        Emulator(microbit, sys.executable)


def test_the_emulator_takes_options_and_refuses_a_machine_that_it_does_not_have(microbit):
    from dataclasses import replace

    from firmware_sim.board import Emulation

    large = Emulation("microbit", f"-global nrf51-soc.sram-size={64 * KIB}")
    with Emulator(replace(microbit, sram_bytes=64 * KIB, emulator=large), build(microbit)) as machine:
        assert len(machine.memory(microbit.sram_base + 63 * KIB, KIB)) == KIB
    odd = replace(microbit, emulator=Emulation("no-such-machine"))
    with (
        pytest.raises(DeviceError, match=r"does not start the board microbit: .*unsupported machine type"),
        Emulator(odd, build(microbit)),
    ):
        pass


def test_an_idle_board_sleeps(microbit):
    with started(microbit) as monitor:
        monitor.boot()
        ticks = os.sysconf("SC_CLK_TCK")

        def seconds() -> float:
            fields = Path(f"/proc/{monitor.machine.pid}/stat").read_text().rsplit(")", 1)[1].split()
            return (int(fields[11]) + int(fields[12])) / ticks

        before = seconds()
        time.sleep(0.5)
        assert seconds() - before < 0.2


def test_the_example_of_the_documentation_runs(microbit, tmp_path, monkeypatch, capsys):
    code = re.search(r"```python\n(.*?)```", (ROOT / "PORTS.md").read_text(), re.DOTALL)[1]
    shutil.copy(SOURCES / "greet.c", tmp_path / "main.c")
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    answer, regions = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"b'hello' /dev/pts/\d+", answer)
    assert regions.startswith("[Region(id=1, instructions=")
