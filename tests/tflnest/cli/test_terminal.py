"""The installed command as a process: terminals, pipes, encodings, interrupts, full disks, missing extras."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from tests.shared import ROOT
from tests.tflnest.cli.conftest import BOARD
from tflnest.files import write_file

SCRIPT = Path(sys.executable).with_name("tflnest")
BLOCKER = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ImportError(name)
sys.meta_path.insert(0, Blocker())
from tflnest.cli import main
main(sys.argv[1:])
"""


def command(*arguments: object) -> list[str]:
    """The installed script, or the module where it is not installed."""
    head = [str(SCRIPT)] if SCRIPT.exists() else [sys.executable, "-m", "tflnest"]
    return [*head, *map(str, arguments)]


def execute(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **options.pop("env", {})}
    return subprocess.run(
        command(*arguments),
        capture_output=True,
        encoding=options.pop("encoding", "utf-8"),
        env=environment,
        cwd=ROOT,
        check=False,
        timeout=100,
        **options,
    )


def on_terminal(*arguments: object, columns: int = 80, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Run on a pseudo terminal; returns the exit code and everything that it showed."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    clean = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "COLUMNS")}
    process = subprocess.Popen(
        command(*arguments),
        stdin=follower,
        stdout=follower,
        stderr=follower,
        cwd=ROOT,
        env={**clean, "TERM": "xterm", **(env or {})},
    )
    os.close(follower)
    shown = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        shown += part
    os.close(leader)
    return process.wait(), shown.decode().replace("\r\n", "\n")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--version"], 0),
        (["boards"], 0),
        ([], 2),
        (["conver"], 2),
        (["inspect", "missing.tflite"], 1),
        (["simulate", "{nested}", "--board", BOARD, "--sram", "3KiB"], 5),
        (["compare", "{nested}", "{int8}", "--level-a", "4", "--exact"], 4),
    ],
)
def test_exit_codes_of_the_installed_command(arguments, code, files):
    done = execute(*(word.format(**vars(files)) for word in arguments))
    assert done.returncode == code
    assert "Traceback" not in done.stderr


def test_the_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "tflnest", "--version"], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.startswith("tflnest, version ")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_any_encoding_will_do(encoding, files):
    done = execute(
        "inspect",
        files.nested,
        "--board",
        BOARD,
        "-v",
        env={"PYTHONIOENCODING": encoding},
        encoding=encoding,
    )
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.isascii() == (encoding != "utf-8")
    failed = execute(
        "inspect", "ŝtelo.tflite", env={"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}, encoding=encoding
    )
    assert failed.returncode == 1 and "telo.tflite: no such file" in failed.stderr


@pytest.mark.parametrize("verb", ["inspect", "simulate"])
def test_output_fits_a_terminal_of_80_columns(verb, files, tmp_path):
    shutil.copy(files.nested, tmp_path / "n.tflite")
    code, shown = on_terminal(
        verb, tmp_path / "n.tflite", "--board", BOARD, env={"PYTHONPATH": str(ROOT), "NO_COLOR": "1"}
    )
    assert code == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    assert max(map(len, plain.splitlines())) <= 80
    assert "CRC-32" in plain or "switch" in plain


def test_colours_only_where_they_are_wanted():
    code, shown = on_terminal("inspect", "missing.tflite")
    assert code == 1 and "\x1b[1;31merror:" in shown
    code, shown = on_terminal("inspect", "missing.tflite", env={"NO_COLOR": "1"})
    assert code == 1 and "31m" not in shown and "error:" in shown
    assert "\x1b" not in execute("inspect", "missing.tflite").stderr


def test_a_closed_pipe_ends_quietly(files):
    process = subprocess.Popen(
        command("inspect", files.nested, "-v"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    )
    process.stdout.close()
    stderr = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 1 and stderr == b""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_full_disk_under_stdout_is_an_error():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command("boards", "--format", "json"),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            check=False,
        )
    assert done.returncode == 1
    assert "cannot write the result: No space left" in json.loads(done.stderr)["error"]["message"]


def test_a_closed_stdout_is_no_error():
    done = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", *command("boards")], stderr=subprocess.PIPE, cwd=ROOT, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("cache", ["that of the user", "empty"])
def test_a_full_disk_leaves_nothing_behind(files, tmp_path, tmp_path_factory, cache):
    """Also where the native engine is not built yet, and cannot be: the reference engine takes its place."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2048, 2048))

    output = tmp_path / "out.tflite"
    environment = {"XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))} if cache == "empty" else {}
    done = execute("convert", files.int8, "-o", output, "-q", preexec_fn=limit, env=environment)
    assert done.returncode == 1
    assert f"error: {output}: could not write " in done.stderr and "nothing was changed" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_failed_overwrite_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"old")
    monkeypatch.setattr(
        "tflnest.files.os.fsync", lambda _descriptor: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        write_file(path, b"new", force=True)
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_ctrl_c_stops_with_130(files, tmp_path):
    """The process is stopped once it is known to be at work: progress lines say so."""
    output = tmp_path / "out.tflite"
    loop = f"""
import sys, time
from tflnest.cli import main
import tflnest.cli.ui, converters.conversion as home
def slow(*args, progress, **options):
    print("at work", file=sys.stderr, flush=True)
    time.sleep(60)
home.convert = slow
main(["convert", {str(files.int8)!r}, "-o", {str(output)!r}])
"""
    process = subprocess.Popen(
        [sys.executable, "-c", loop], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stderr.readline() == "at work\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert (out, err.strip()) == ("", "error: interrupted")
    assert list(tmp_path.iterdir()) == []


def test_progress_is_plain_lines_without_a_terminal(capsys):
    from tflnest.cli import ui

    lines = ui._Lines(ui.error_console())
    lines._start = time.monotonic() - 10
    for done in range(101):
        lines.update("work", done, 100)
    shown = capsys.readouterr().err.splitlines()
    assert shown[0] == "work: 0 of 100 (0%)" and len(shown) == 11
    assert all(line.startswith("work: ") and "\x1b" not in line for line in shown)


def test_plain_lines_go_on_where_more_work_is_found(capsys):
    from tflnest.cli import ui

    lines = ui._Lines(ui.error_console())
    lines._start = time.monotonic() - 10
    for done, total in ((0, 1), (1, 1), (1, 3), (2, 3), (3, 3)):
        lines.update("work", done, total)
    assert [line.split(" (")[0] for line in capsys.readouterr().err.splitlines()] == [
        "work: 0 of 1", "work: 1 of 1", "work: 1 of 3", "work: 2 of 3", "work: 3 of 3",
    ]  # fmt: skip


def test_short_work_shows_no_progress(capsys):
    from tflnest.cli import ui

    with ui.Screen().progress() as progress:
        for done in range(11):
            progress("work", done, 10)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("options", [{"quiet": True}, {"show_progress": False}, {"output_format": "json"}])
def test_progress_can_be_switched_off(options, capsys):
    from tflnest.cli import ui
    from tflnest.progress import silent

    with ui.Screen(**options).progress() as progress:
        assert progress is silent


@pytest.mark.parametrize(
    ("arguments", "blocked", "message"),
    [
        (["convert", "examples/digits.keras", "-n"], {"tensorflow"}, "tflnest[keras]"),
        (
            ["simulate", "{nested}", "--board", BOARD, "--plot", "{folder}/plot.png"],
            {"matplotlib"},
            "tflnest[plot]",
        ),
        (["inspect", "{nested}"], {"ai_edge_litert", "tflite_runtime", "tensorflow"}, "ai-edge-litert"),
    ],
)
def test_a_missing_package_is_named_with_its_extra(arguments, blocked, message, files):
    words = [word.format(**vars(files)) for word in arguments]
    done = subprocess.run(
        [sys.executable, "-c", BLOCKER.format(blocked=blocked), *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 1 and done.stdout == ""
    assert message in done.stderr and "Traceback" not in done.stderr


def test_a_tflite_file_needs_no_extra(files, tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            BLOCKER.format(blocked={"tensorflow", "matplotlib", "serial", "cobs", "sklearn"}),
            *("convert", str(files.int8), "-o", str(tmp_path / "out.tflite"), "-q"),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_stock_engine_is_silent(files):
    done = execute("eval", files.int8, "--data", files.data, "--engine", "litert")
    assert done.returncode == 0 and done.stderr == ""


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["co"], {"convert", "compare", "completion"}),
        (["convert", "--sch"], {"--scheme"}),
        (["convert", "--scheme", ""], {"bucket", "compensated"}),
        (["convert", "--recipe", "uni"], {"uniform"}),
        (["simulate", "x.tflite", "--board", "nrf"], {"nrf52840"}),
        (["boards", "mps"], {"mps2-an385", "mps2-an386", "mps2-an500", "mps3-an547"}),
    ],
)
def test_bash_completes(words, expected, tmp_path):
    # The script calls the program by its name, so one of that name goes first on the path.
    program = tmp_path / "tflnest"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m tflnest "$@"\n')
    program.chmod(0o755)
    quoted = " ".join(f"'{word}'" for word in ["tflnest", *words])
    script = f"""
compopt() {{ :; }}
eval "$(tflnest completion bash)"
COMP_WORDS=({quoted}); COMP_CWORD={len(words)}
_tflnest_completion tflnest
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )
    assert set(done.stdout.split()) == expected


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_have_a_script(shell):
    done = execute("completion", shell)
    assert done.returncode == 0 and "_TFLNEST_COMPLETE" in done.stdout
