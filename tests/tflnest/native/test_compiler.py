"""Building the runtime, once per content."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import tflnest.native.compiler as module
import tflnest.native.library as runtime
from tflnest.device import functions
from tflnest.errors import TflnestError, UnsupportedError
from tflnest.native.compiler import Compiler, Unit, cache_folder, shared_library
from tflnest.native.dispatch import DISPATCH_PATH, dispatch

FLAGS = ("-std=c99", "-O1", "-fPIC")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tflnest"


def unit(tmp_path: Path, body: str = "return ANSWER;") -> Unit:
    (tmp_path / "answer.h").write_text("#define ANSWER 42\n")
    source = tmp_path / "answer.c"
    source.write_text(f'#include "answer.h"\nint answer(void) {{ {body} }}\n')
    return Unit((source,), (tmp_path / "answer.h",), (tmp_path,), "int twice(int x) { return 2 * x; }\n")


def test_a_library_is_built_once(tmp_path: Path, cache: Path, compiler: Compiler) -> None:
    library = shared_library(unit(tmp_path), compiler, FLAGS)
    assert library.parent == cache
    loaded = ctypes.CDLL(str(library))
    assert (loaded.answer(), loaded.twice(4)) == (42, 8)
    before = library.stat().st_mtime_ns
    assert shared_library(unit(tmp_path), compiler, FLAGS) == library
    assert library.stat().st_mtime_ns == before
    assert [path.name for path in cache.iterdir()] == [library.name], "nothing temporary is left"


def test_every_byte_counts(tmp_path: Path, cache: Path, compiler: Compiler) -> None:
    first = unit(tmp_path)
    names = {shared_library(first, compiler, FLAGS).name}
    (tmp_path / "answer.h").write_text("#define ANSWER 43\n")
    names.add(shared_library(first, compiler, FLAGS).name)
    names.add(shared_library(Unit(first.sources, first.headers, first.include), compiler, FLAGS).name)
    names.add(shared_library(first, compiler, (*FLAGS, "-g")).name)
    names.add(shared_library(first, Compiler(compiler.command, "another version"), FLAGS).name)
    assert len(names) == 5


def test_several_may_build_at_the_same_time(tmp_path: Path, cache: Path, compiler: Compiler) -> None:
    wanted = unit(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        built = set(pool.map(lambda _: shared_library(wanted, compiler, FLAGS), range(4)))
    assert len(built) == 1
    assert list(cache.iterdir()) == list(built)


def test_what_the_compiler_says_is_shown(tmp_path: Path, cache: Path, compiler: Compiler) -> None:
    with pytest.raises(TflnestError, match="cannot be built") as caught:
        shared_library(unit(tmp_path, "return QUESTION;"), compiler, FLAGS)
    assert "QUESTION" in caught.value.message
    assert caught.value.hint == "choose the engine reference"
    assert list(cache.iterdir()) == []


def test_without_a_compiler_the_hint_names_another_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UnsupportedError, match="needs a C compiler, and there is none") as caught:
        Compiler.find()
    assert caught.value.hint == "install gcc or clang, or choose the engine reference"
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(UnsupportedError, match="looked for no-such-compiler"):
        Compiler.find()


def test_the_environment_names_the_compiler(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, compiler: Compiler
) -> None:
    monkeypatch.setenv("CC", f"{compiler.command[0]} -DEXTRA")
    assert Compiler.find().command == (compiler.command[0], "-DEXTRA")


def test_a_compiler_that_cannot_be_started_is_an_error(tmp_path: Path, cache: Path) -> None:
    program = tmp_path / "compiler"
    program.write_text("no program\n")
    program.chmod(0o755)
    with pytest.raises(TflnestError, match="cannot be started"):
        shared_library(unit(tmp_path), Compiler((str(program),), ""), FLAGS)


def test_a_cache_that_cannot_be_written_gives_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(module.tempfile, "gettempdir", lambda: str(tmp_path))
    assert cache_folder() == tmp_path / f"tflnest-{os.getuid()}"
    monkeypatch.setattr(module.tempfile, "gettempdir", lambda: str(tmp_path / "file"))
    with pytest.raises(TflnestError, match="can be written to"):
        cache_folder()


def test_a_cache_that_is_full_says_so_and_keeps_nothing(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, compiler: Compiler
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "_build", full)
    with pytest.raises(TflnestError, match=f"cannot be built in {cache}: No space left") as caught:
        shared_library(unit(tmp_path), compiler, FLAGS)
    assert "XDG_CACHE_HOME" in (caught.value.hint or "")
    assert list(cache.iterdir()) == []


def test_importing_the_engine_builds_nothing(tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "PATH": ""}
    code = "import tflnest.interpreter, tflnest.native.engine"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert not list(tmp_path.iterdir())


def test_the_file_for_installs_is_what_python_generates() -> None:
    text = DISPATCH_PATH.read_text(encoding="ascii")
    assert text == dispatch(functions()), "run python -m tflnest.native.dispatch"


def test_an_installed_runtime_is_used_where_there_is_no_compiler(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, compiler: Compiler
) -> None:
    whole = runtime.unit()
    installed = tmp_path / "_runtime.cpython.so"
    monkeypatch.setattr(runtime, "__file__", str(tmp_path / "library.py"))
    assert runtime.installed() is None
    (tmp_path / "_runtime.broken.so").write_bytes(b"no library")
    built = shared_library(unit(tmp_path), compiler, FLAGS)
    (tmp_path / "_runtime.foreign.so").write_bytes(built.read_bytes())
    assert runtime.installed() is None, "one has no key, the other is no library"
    flags = ("-std=c99", "-O0", "-fPIC")
    other = shared_library(whole, compiler, (*flags, '-DTFLNEST_KEY="of another version"'))
    installed.write_bytes(other.read_bytes())
    assert runtime.installed() is None
    installed.unlink()
    right = shared_library(whole, compiler, (*flags, f'-DTFLNEST_KEY="{whole.key()}"'))
    installed = tmp_path / "_runtime.right.so"
    installed.write_bytes(right.read_bytes())
    assert runtime.installed() == installed
    monkeypatch.setenv("CC", "no-such-compiler")
    runtime._load.cache_clear()
    try:
        assert runtime.library().path == installed
    finally:
        runtime._load.cache_clear()
