from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace

import pytest

from firmware_sim.board import Board
from firmware_sim.board_port import port_files
from firmware_sim.emulator import run
from firmware_sim.toolchain import (
    INSTALL,
    WARNINGS,
    Toolchain,
    core_flags,
    link_error,
)
from tests.firmware_sim.monitor import EMULATED, SOURCES, build, require_emulator
from tests.shared import ROOT
from tflnest.errors import DoesNotFitError, ExitCode, TflnestError, UnsupportedError, UsageError

STEP = 16


def test_a_missing_compiler_is_named(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(TflnestError, match="arm-none-eabi-gcc is not installed") as caught:
        Toolchain.find()
    assert caught.value.hint.endswith(
        "apt-get install --no-install-recommends gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm"
    )


def test_a_missing_library_is_named(monkeypatch, tmp_path):
    compiler = tmp_path / "arm-none-eabi-gcc"
    compiler.write_text("#!/bin/sh\necho libc.a\n")
    compiler.chmod(0o755)
    with pytest.raises(TflnestError, match="no C library"):
        Toolchain.find(f"{tmp_path}/arm-none-eabi-")


def test_missing_tools_skip_a_test_but_not_in_continuous_integration(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    for setting, outcome in (("", pytest.skip.Exception), ("true", pytest.fail.Exception)):
        monkeypatch.setenv("CI", setting)
        with pytest.raises(
            outcome, match="arm-none-eabi-gcc and qemu-system-arm not installed: make toolchain"
        ):
            require_emulator()


def test_the_makefile_installs_what_the_hint_says():
    line = re.search(r"^TOOLCHAIN := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    packages = set(INSTALL.split()) - {"apt-get", "install", "--no-install-recommends"}
    assert len(packages) == 3 and packages <= set(line[1].split())


def test_an_unknown_core_is_refused():
    with pytest.raises(UnsupportedError, match="the core 'xtensa-lx7'"):
        core_flags("xtensa-lx7")


def test_linking_meets_the_limit_to_the_step():
    require_emulator()
    board = Board.load("stm32vldiscovery")
    toolchain = Toolchain.find()

    def link(large: int):
        return toolchain.link(
            board,
            [SOURCES / "large.c"],
            f"{build(board).path}-large",
            flags=[*WARNINGS, f"-DLARGE_BYTES={large}"],
        )

    free = board.sram_bytes - link(STEP).sram_bytes + STEP
    largest = free // STEP * STEP
    image = link(largest)
    assert board.sram_bytes - STEP < image.sram_bytes <= board.sram_bytes
    assert run(board, image).status == 1
    with pytest.raises(DoesNotFitError) as caught:
        link(largest + STEP)
    error = caught.value
    assert (error.memory, error.available_bytes) == ("sram", 8192)
    assert 0 < error.needed_bytes - error.available_bytes <= STEP
    assert f"needs {error.needed_bytes:,} bytes of SRAM, stm32vldiscovery has 8,192" in error.message
    assert error.exit_code is ExitCode.DOES_NOT_FIT


def test_flash_has_a_limit_too():
    require_emulator()
    board = Board.load("microbit").with_limits(flash_bytes=256)
    with pytest.raises(DoesNotFitError, match=r"bytes of flash, microbit has 256: [\d,]+ too many") as caught:
        Toolchain.find().link(board, [SOURCES / "monitor.c"], f"{build(Board.load('microbit')).path}-flash")
    assert caught.value.memory == "flash"


def test_errors_of_the_compiler_are_passed_on(tmp_path):
    require_emulator()
    source = tmp_path / "bad.c"
    source.write_text("int main(void) { return nothing; }\n")
    with pytest.raises(TflnestError, match=r"could not be built:(.|\n)*nothing"):
        Toolchain.find().link(Board.load("microbit"), [source], tmp_path / "bad.elf")
    assert not (tmp_path / "bad.elf").exists()
    assert type(link_error(Board.load("microbit"), "odd")) is TflnestError


def test_a_board_without_a_port_cannot_be_linked(tmp_path):
    require_emulator()
    with pytest.raises(UsageError, match="no firmware port"):
        Toolchain.find().link(Board.load("rp2040"), [SOURCES / "monitor.c"], tmp_path / "x.elf")
    odd = replace(Board.load("microbit"), core="cortex-m85")
    with pytest.raises(UnsupportedError, match="cortex-m85"):
        Toolchain.find().link(odd, [SOURCES / "monitor.c"], tmp_path / "x.elf")


@pytest.mark.parametrize("name", EMULATED)
def test_an_image_says_what_is_linked(name):
    require_emulator()
    board = Board.load(name)
    image = build(board)
    vectors = image.symbol("port_vectors")
    assert vectors.address == board.flash_base
    assert image.symbol("port_thread_stack_start").address == board.sram_base
    assert image.sections[".stack"].size == board.port.thread_stack_bytes + board.port.interrupt_stack_bytes
    assert not image.sections[".stack"].has_content
    assert 0 < image.flash_bytes < 4096
    assert image.sections[".stack"].size < image.sram_bytes <= board.stack_bytes
    line = image.locate(image.symbol("port_write").address)
    assert line.function == "port_write" and line.file.endswith("port_serial.c")
    assert image.locate(board.sram_base) is None
    assert image.function_at(board.sram_base) is None


def test_addresses_and_lines_are_those_of_binutils():
    require_emulator()
    board = Board.load("mps2-an386")
    image = build(board)
    code = image.sections[".text"]
    addresses = list(range(code.address, code.address + code.size, 2))
    command = ["arm-none-eabi-addr2line", "-e", str(image.path), *map(hex, addresses)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    known = 0
    for address, text in zip(addresses, lines, strict=True):
        text = text.split(" (")[0]
        if not text.startswith("??") and not text.endswith(":?") and "newlib" not in text:
            found = image.locate(address)
            assert found is not None and f"{found.file}:{found.line}" == text, hex(address)
            known += 1
    assert known > 100


@pytest.mark.parametrize("name", EMULATED)
def test_clang_compiles_ports_without_warnings(name, tmp_path):
    require_emulator()
    if shutil.which("clang") is None:
        pytest.skip("clang is not installed")
    board = Board.load(name)
    for file, text in port_files(board).items():
        (tmp_path / file).write_text(text)
    files = sorted(map(str, tmp_path.glob("*.c")))
    assert len(files) == 7
    command = ["clang", "--target=arm-none-eabi", "-isystem", headers_of(Toolchain.find().compiler)]
    flags = [*core_flags(board.core), "-std=c99", "-pedantic", "-O2", *WARNINGS, "-c", f"-I{tmp_path}"]
    done = subprocess.run(
        [*command, *flags, *files], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr


def headers_of(gcc: str) -> str:
    """The folder of the C library's headers."""
    done = subprocess.run(
        [gcc, "-E", "-x", "c", "-"], input="#include <string.h>", capture_output=True, text=True, check=True
    )
    return re.search(r'^# 1 "(.*)/string\.h"', done.stdout, re.MULTILINE)[1]
