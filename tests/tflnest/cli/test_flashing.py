"""`tflnest flash` with programs that pretend to be the tools, a folder that pretends to be a drive, and QEMU."""

from __future__ import annotations

import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from firmware_sim import uf2
from firmware_sim.board import PROFILES, Board
from firmware_sim.firmware import flashing
from firmware_sim.firmware.flashing import Tool, build_firmware, flash, plan_flash
from firmware_sim.firmware.generation import generate_firmware
from firmware_sim.firmware.size import ELF
from firmware_sim.image import Image
from tests.firmware_sim.monitor import require_emulator
from tests.shared import ROOT
from tflnest.errors import ExitCode, UsageError

FAMILY = 0x57755A57
BAR = "[---|---|---|---|---|---|---|---|---|----]\\n["


@pytest.fixture(scope="session")
def project(files, tmp_path_factory):
    """Firmware for the microbit, built by the verb's own means."""
    require_emulator()
    folder = tmp_path_factory.mktemp("flash") / "my firmware"
    generate_firmware(files.nested, "microbit").write(folder)
    assert build_firmware(plan_flash(folder, tool=Tool.EMULATOR)).path == folder / ELF
    return folder


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Makes programs that record their arguments; no other program is found."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(flashing, "BESIDE", ())
    mounts = tmp_path / "mounts"
    mounts.write_text("")
    monkeypatch.setattr(uf2, "MOUNTS", mounts)

    def make(name, script="", probes=("1234ABCD",)):
        rows = {"boards": [{"unique_id": probe, "info": f"Probe {probe}"} for probe in probes]}
        program = folder / name
        program.write_text(
            f"#!/bin/sh\nprintf '%s\\n' \"$*\" >> '{folder}/calls'\n"
            f"[ \"$1\" = json ] && echo '{json.dumps(rows)}' && exit\n{script or 'exit 0'}\n"
        )
        program.chmod(0o755)
        return program

    make.calls = lambda: (folder / "calls").read_text().splitlines() if (folder / "calls").exists() else []
    return make


@pytest.fixture
def profile(tmp_path):
    """A profile of the user: the microbit, with another table [flash]."""

    def write(table, name="mine"):
        text = (PROFILES / "microbit.toml").read_text()
        path = tmp_path / f"{name}.toml"
        path.write_text(re.sub(r"\[flash\]\n[^\[]*", f"[flash]\n{table}\n\n" if table else "", text))
        return path

    return write


def test_pyocd_gets_the_only_probe(project, programs, call):
    program = programs("pyocd", f"printf '{BAR}====]\\n'")
    done = call("flash", project, "--no-build")
    assert done.code == ExitCode.OK, done.err
    line = f"load --no-wait --target nrf51822 --uid 1234ABCD {project / ELF}"
    assert programs.calls() == ["json --probes", line]
    shown = done.out.splitlines()
    assert shown[0] == f"$ {program} {line}".replace(str(project / ELF), f"'{project / ELF}'")
    size = Image(project / ELF).flash_bytes
    assert re.fullmatch(rf"microbit: {size:,} B flashed in \d+\.\d s", shown[1])


def test_json_has_the_commands(project, programs, call):
    program = programs("pyocd")
    done = call("flash", project, "--no-build", "--format", "json")
    assert done.err == "" and done.json["schema_version"] == 1
    assert (done.json["board"], done.json["tool"], done.json["dry_run"]) == ("microbit", "pyocd", False)
    assert done.json["commands"][0][:2] == [str(program), "load"]
    assert done.json["flash_bytes"] == Image(project / ELF).flash_bytes


def test_firmware_is_built_first(project, programs, call, monkeypatch):
    old = os.environ["PATH"]
    programs("pyocd")
    monkeypatch.setenv("PATH", f"{old}:/usr/local/bin:/usr/bin:/bin")
    (project / ELF).unlink()
    assert call("flash", project, "--no-build").code == ExitCode.USAGE
    assert call("flash", project, "--tool", "pyocd").code == ExitCode.OK
    assert (project / ELF).is_file()


def test_a_dry_run_starts_nothing(project, programs, call):
    programs("pyocd", probes=())
    done = call("flash", project, "--dry-run", "--probe", "12")
    assert done.code == ExitCode.OK and "nothing was built or flashed" in done.out
    assert "pyocd load --no-wait --target nrf51822 --uid 12 " in done.out
    assert programs.calls() == []
    document = call("flash", project, "-n", "--tool", "openocd", "--format", "json").json
    assert document["dry_run"] and document["commands"][0][0] == "openocd"


@pytest.mark.parametrize(
    ("probes", "arguments", "message", "hint"),
    [
        ((), (), "no debug probe is connected", "udev"),
        (("A1", "A2"), (), "2 debug probes are connected", "--probe: A1 (Probe A1), A2 (Probe A2)"),
        (("A1", "A2"), ("--probe", "B"), "no debug probe has the ID B", "A1 (Probe A1)"),
        (("A1", "A2"), ("--probe", "a"), "2 debug probes are connected", "--probe"),
    ],
)
def test_probes_that_cannot_be_chosen(project, programs, call, probes, arguments, message, hint):
    programs("pyocd", probes=probes)
    done = call("flash", project, "--no-build", *arguments)
    assert done.code == ExitCode.DEVICE and message in done.err and hint in done.err
    assert programs.calls() == ["json --probes"]


def test_a_part_of_a_probe_is_enough(project, programs, call):
    programs("pyocd", probes=("A1", "B2"))
    assert call("flash", project, "--no-build", "--probe", "b").code == ExitCode.OK
    assert "--uid B2" in programs.calls()[-1]


def test_a_tool_that_is_another_program(project, programs, call):
    programs("pyocd").write_text("#!/bin/sh\necho what probes\n")
    done = call("flash", project, "--no-build")
    assert done.code == ExitCode.DEVICE and "does not list its probes:\nwhat probes" in done.err
    programs("pyocd").write_text("#!/no/such/interpreter\n")
    done = call("flash", project, "--no-build")
    assert done.code == ExitCode.DEVICE and "pyocd cannot be started" in done.err


@pytest.mark.parametrize(
    ("tool", "text", "hint"),
    [
        ("pyocd", "Target type nrf51822 not recognized.", "pyocd pack install nrf51822"),
        ("pyocd", "0000500 E No ACK received", "check the power and the wires"),
        ("openocd", "Error: open failed", "end other programs that use its probe"),
        ("openocd", "Error: libusb_open() failed with LIBUSB_ERROR_ACCESS", "udev rules"),
        ("openocd", "Error: something else", None),
    ],
)
def test_what_a_tool_says_is_shown(project, programs, call, tool, text, hint):
    programs(tool, f"printf '\\033[31mfirst\\033[0m\\n\\n{text}\\n' >&2\nexit 7")
    done = call("flash", project, "--no-build", "--tool", tool, "--format", "json")
    assert done.code == ExitCode.DEVICE and done.out == ""
    assert done.error["message"] == f"{tool} failed with exit status 7:\nfirst\n{text}"
    assert hint is None if done.error["hint"] is None else hint in done.error["hint"]


def test_openocd(project, programs, call):
    programs("openocd")
    done = call("flash", project, "--no-build", "--probe", "X 1")
    assert done.code == ExitCode.OK, done.err
    path = str(project / ELF).replace(" ", "\\ ")
    assert programs.calls() == [
        f"-f interface/cmsis-dap.cfg -f target/nrf51.cfg -c adapter serial X\\ 1 -c program {path} verify reset exit"
    ]


def test_esptool_makes_an_image_and_writes_it(project, programs, call, profile):
    programs("esptool", "echo 'Writing at 0x00010000... (42 %)'")
    mine = profile('esptool_chip = "esp32s3"\nesptool_address = 0x10000')
    done = call("flash", project, "--no-build", "--board", mine, "--port", "/dev/ttyUSB7")
    assert done.code == ExitCode.OK, done.err
    image = project / "build" / "firmware.esp.bin"
    assert programs.calls() == [
        f"--chip esp32s3 elf2image --output {image} {project / ELF}",
        f"--chip esp32s3 --port /dev/ttyUSB7 write-flash 0x10000 {image}",
    ]


@pytest.mark.parametrize(
    ("said", "percent"),
    [
        ("(5 %)\r(42 %)", 42),
        ("Writing at 0x1000 [==>   ]  99.5% 12/13 bytes", 99),
        ("Erase\n[---|----]\n[" + "=" * 10, 25),
        ("x\n[" + "=" * 40 + "]\n", 100),
        ("halted due to breakpoint", None),
    ],
)
def test_progress_is_what_the_tool_says(said, percent):
    assert flashing._percent(said) == percent


# ------------------------------------------------------------------------------------------------------ drives


@pytest.fixture
def drive(tmp_path, programs):
    def mount(name="DRIVE", board="Mine-v1"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "INFO_UF2.TXT").write_text(f"UF2 Bootloader\nModel: {name}\nBoard-ID: {board}\n")
        with (tmp_path / "mounts").open("a") as mounts:
            mounts.write(f"/dev/sda {folder} vfat rw 0 0\n")
        return folder

    return mount


def test_a_drive_gets_the_firmware(project, call, profile, drive):
    folder = drive()
    drive("OTHER", "Other-v1")
    mine = profile(f'uf2_family = {FAMILY}\nuf2_board = "Mine"')
    done = call("flash", project, "--no-build", "--board", mine)
    assert done.code == ExitCode.OK, done.err
    assert done.out.startswith(f"firmware.uf2 is copied to {folder}\n")
    data = (folder / "firmware.uf2").read_bytes()
    flashed = {}
    for at in range(0, len(data), 512):
        address, size = struct.unpack_from("<2I", data, at + 12)
        assert struct.unpack_from("<I", data, at + 28) == (FAMILY,)
        flashed |= {address + n: byte for n, byte in enumerate(data[at + 32 : at + 32 + size])}
    for address, content in Image(project / ELF).contents():
        assert bytes(flashed[address + n] for n in range(len(content))) == content


@pytest.mark.parametrize(
    ("mounted", "arguments", "message", "hint"),
    [
        ([], ("--tool", "uf2"), "no drive of the UF2 bootloader of mine", "reset button twice"),
        ([], (), "nothing here can flash mine: no drive of its UF2 bootloader", "reset button twice"),
        (["A", "B"], (), "2 drives of UF2 bootloaders are mounted", "--port: "),
        ([], ("--port", "{folder}"), "is not the drive of a UF2 bootloader", "start the bootloader"),
        (["A"], ("--port", "{wrong}"), "is the drive of the board 'Wrong', not of 'Mine'", ""),
    ],
)
def test_drives_that_cannot_be_chosen(
    project, call, profile, drive, tmp_path, mounted, arguments, message, hint
):
    for name in mounted:
        drive(name)
    wrong = drive("WRONG", "Wrong")
    mine = profile(f'uf2_family = {FAMILY}\nuf2_board = "Mine"')
    words = [word.format(folder=tmp_path, wrong=wrong) for word in arguments]
    done = call("flash", project, "--no-build", "--board", mine, *words)
    assert done.code == ExitCode.DEVICE and message in done.err and hint in done.err


# --------------------------------------------------------------------------------------------- choices, refusals


def test_nothing_is_installed(project, programs, call):
    done = call("flash", project)
    assert done.code == ExitCode.DEVICE
    assert "nothing here can flash microbit: pyocd is not installed, openocd is not installed" in done.err
    assert 'pip install "tflnest[flash]"' in done.err and "--tool emulator" in done.err
    done = call("flash", project, "--tool", "pyocd")
    assert done.code == ExitCode.DEVICE and "pyocd is not installed" in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--tool", "esptool"), "has no esptool_chip"),
        (("--board", "rp2040"), "there is no firmware port for the board rp2040"),
        (("--board", "netduinoplus2"), "which has another core and its flash elsewhere and another chip"),
        (("--tool", "emulator", "--probe", "1"), "emulator uses no debug probe"),
        (("--tool", "pyocd", "--port", "1"), "pyocd uses no port"),
        (("--tool", "jlink"), "'jlink' is not one of"),
    ],
)
def test_what_makes_no_sense(project, programs, call, arguments, message):
    done = call("flash", project, "--dry-run", *arguments)
    assert done.code == ExitCode.USAGE and message in done.err


def test_a_board_without_flash_methods(project, programs, call, profile):
    mine = profile("")
    assert "$ tflnest emulate " in call("flash", project, "-n", "--board", mine).out
    mine.write_text(mine.read_text().split("[emulator]")[0])
    done = call("flash", project, "--board", mine)
    assert done.code == ExitCode.USAGE and "has no table [flash]" in done.err
    done = call("flash", project, "--board", mine, "--tool", "emulator")
    assert done.code == ExitCode.USAGE and "there is no emulator for the board mine" in done.err


def test_a_smaller_board_is_refused(project, programs, call, profile):
    mine = profile('pyocd_target = "nrf51822"')
    mine.write_text(mine.read_text().replace("sram_bytes = 16_384", "sram_bytes = 8_192"))
    done = call("flash", project, "-n", "--board", mine)
    assert done.code == ExitCode.USAGE and "which has less SRAM" in done.err


def test_folders_that_hold_no_firmware(files, call, tmp_path):
    done = call("flash", tmp_path)
    assert done.code == ExitCode.USAGE and "is no firmware that tflnest made" in done.err
    generate_firmware(files.nested, "microbit", component=True).write(tmp_path / "component")
    done = call("flash", tmp_path / "component")
    assert done.code == ExitCode.USAGE and "is a component, and cannot be flashed" in done.err


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("x = 1", "unknown key 'x'"),
        ("", None),
        ('uf2_board = "A"', "names no way to flash the board"),
        ('pyocd_target = "a"\nuf2_board = "A"', "has uf2_board, and lacks uf2_family"),
        ("pyocd_target = 5", "pyocd_target is 5, expected str"),
        ("uf2_family = 0x1_0000_0000", "uf2_family is 4294967296, expected 0 to"),
    ],
)
def test_tables_that_are_not_valid(profile, table, message):
    if message is None:
        assert Board.load(profile(table)).flash is None
        return
    with pytest.raises(UsageError, match=re.escape(message)):
        Board.load(profile(table))


# --------------------------------------------------------------------------------------- emulator and interrupts


def process(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "tflnest", "flash", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        **options,
    )


def test_the_emulated_board_is_started(project):
    with process(project, "--tool", "emulator", "--format", "json") as running:
        try:
            started = json.loads(running.stdout.readline())
            assert started["board"] == "microbit" and started["port"].startswith("/dev/")
            done = subprocess.run(
                [sys.executable, "-m", "tflnest", "info", "--port", started["port"], "--format", "json"],
                capture_output=True,
                text=True,
                cwd=ROOT,
                check=True,
            )
            assert "microbit" in done.stdout
            running.send_signal(signal.SIGINT)
            assert running.wait(timeout=30) == ExitCode.INTERRUPTED
        finally:
            running.kill()
    assert not Path(f"/proc/{started['pid']}").exists()


def test_an_interrupt_ends_the_tool(project, programs, tmp_path):
    # More than a pipe holds, so that the verb is known to read when the number of the process appears.
    fill = "n=0; while [ $n -lt 4000 ]; do echo 'a line of thirty-two characters.'; n=$((n+1)); done"
    programs("pyocd", f"{fill}\necho $$ > '{tmp_path}/pid'\nexec /bin/sleep 60")
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin"}
    with process(project, "--no-build", "--tool", "pyocd", env=environment) as running:
        try:
            while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
                assert running.poll() is None, running.stderr.read()
                time.sleep(0.02)
            running.send_signal(signal.SIGINT)
            _, errors = running.communicate(timeout=30)
        finally:
            running.kill()
    assert running.returncode == ExitCode.INTERRUPTED
    assert "the flash of microbit may be incomplete: flash it again" in errors
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


def test_the_library_leaves_the_emulator_to_others(project):
    plan = plan_flash(project, tool=Tool.EMULATOR)
    with pytest.raises(UsageError, match="started, not flashed"):
        flash(plan, Image(project / ELF))
