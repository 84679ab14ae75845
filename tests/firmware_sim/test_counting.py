from __future__ import annotations

import shutil
import subprocess

import pytest

from firmware_sim import counting
from firmware_sim.board import Board
from firmware_sim.counting import Counter, Region
from firmware_sim.emulator import run
from firmware_sim.qemu import capabilities, find_qemu
from firmware_sim.toolchain import Toolchain
from tests.firmware_sim.monitor import EMULATED, build, require_emulator, started
from tflnest.errors import DeviceError, FormatError, TflnestError, UsageError

REGION = 7
#: Per turn a load, a store, a subtraction and a branch; then the call of the function and its return, each with
#: what prepares it, and the call of port_mark_stop: see firmware/monitor.c.
PER_TURN, AROUND = 4, 5


@pytest.fixture(autouse=True)
def tools():
    require_emulator()


@pytest.mark.parametrize("name", EMULATED)
def test_counts_are_those_of_the_loop_and_the_same_again(name):
    with started(Board.load(name), counter=Counter(memory=True)) as monitor:
        monitor.boot()
        for turns in (1, 250, 250, 1000):
            monitor.ask("c", turns)
        regions = monitor.machine.regions()
    assert regions == [
        Region(REGION, PER_TURN * turns + AROUND, turns, turns) for turns in (1, 250, 250, 1000)
    ]


def test_interrupts_do_not_count():
    turns = 1 << 24
    with started(Board.load("mps2-an386"), counter=Counter(), timeout_s=60.0) as monitor:
        monitor.boot()
        before = monitor.ask("m")
        monitor.ask("c", turns)
        assert monitor.ask("m") - before > 1, "no tick came in between"
        assert monitor.machine.regions() == [Region(REGION, PER_TURN * turns + AROUND, 0, 0)]


@pytest.mark.parametrize("name", ["microbit", "mps2-an386", "mps3-an547"])
def test_both_ways_count_the_same(name):
    board = Board.load(name)
    with started(board, counter=Counter(method="icount")) as monitor:
        monitor.boot()
        for turns in (1, 250, 1000):
            monitor.ask("c", turns)
        assert monitor.echo(b"still alive") == b"still alive"
    regions = monitor.machine.regions()
    assert [region.id for region in regions] == [REGION] * 3
    for region, turns in zip(regions, (1, 250, 1000), strict=True):
        # A tick of the clock may come in between: a handler is less than thirty instructions.
        assert 0 <= region.instructions - (PER_TURN * turns + AROUND) < 30


def test_qemus_own_count_has_no_loads():
    with pytest.raises(UsageError, match="no loads and stores"):
        Counter(memory=True, method="icount")


@pytest.mark.parametrize(
    ("version", "has_plugins", "method"),
    [((7, 2), True, "plugin"), ((8, 2), True, "plugin"), ((9, 0), True, "icount"), ((7, 2), False, "icount")],
)
def test_the_way_is_chosen_by_what_qemu_takes(monkeypatch, version, has_plugins, method):
    monkeypatch.setattr(counting, "capabilities", lambda path: (version, has_plugins))
    assert Counter().method == method


def test_what_qemu_can_do_is_asked(tmp_path):
    (major, minor), has_plugins = capabilities(find_qemu())
    assert major >= 6 and minor >= 0 and isinstance(has_plugins, bool)
    odd = tmp_path / "odd"
    odd.write_text("#!/bin/sh\necho nothing\n")
    odd.chmod(0o755)
    with pytest.raises(DeviceError, match="does not tell its version"):
        capabilities(str(odd))


@pytest.mark.parametrize("method", ["plugin", "icount"])
def test_regions_may_nest_and_those_without_an_end_are_not_told(method):
    board = Board.load("microbit")
    finished = run(board, build(board, "regions.c"), counter=Counter(method=method))
    outer = [region.instructions for region in finished.regions if region.id == 0]
    inner = [region.instructions for region in finished.regions if region.id == 1023]
    assert [region.id for region in finished.regions] == [1023, 1023, 0]
    # A mark costs what calls it, two instructions, and nothing itself; an empty region has the call of its end.
    assert inner == [2 + 3, 2]
    assert outer == [2 * 2 + sum(inner) + 2]


def test_firmware_without_marks_is_refused(tmp_path):
    source = tmp_path / "plain.c"
    source.write_text("void port_reset_handler(void);\nvoid port_reset_handler(void)\n{\n}\n")
    script = tmp_path / "plain.ld"
    script.write_text("SECTIONS { .text 0 : { *(.text) } }\n")
    output = tmp_path / "plain.elf"
    command = [
        Toolchain.find().compiler,
        "-nostdlib",
        "-Wl,-e,port_reset_handler",
        f"-T{script}",
        str(source),
    ]
    subprocess.run([*command, "-o", str(output)], check=True, capture_output=True)
    with pytest.raises(FormatError, match="no symbol port_mark_start"):
        run(Board.load("mps2-an385"), output, counter=Counter())


def test_the_plugin_is_compiled_once(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = counting.plugin()
    assert path.parent == tmp_path / "tflnest"
    assert [item.name for item in path.parent.iterdir()] == [path.name]
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CC", raising=False)
    assert counting.plugin() == path
    path.unlink()
    with pytest.raises(TflnestError, match="C compiler on this computer") as caught:
        counting.plugin()
    assert "gcc or clang" in (caught.value.hint or "")


def test_the_plugin_compiles_without_warnings(tmp_path):
    flags = ("-std=c99", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-shared", "-fPIC")
    for compiler in filter(shutil.which, ("gcc", "clang")):
        command = [compiler, *flags, str(counting.SOURCE), "-o", str(tmp_path / "plugin.so")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
