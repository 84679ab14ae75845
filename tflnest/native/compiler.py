"""Builds C sources into a shared library, once per content: a per-user cache."""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tflnest.device.sources import content_key
from tflnest.errors import TflnestError, UnsupportedError

#: Names under which a C compiler is looked for, after the environment variable CC.
COMPILERS = ("cc", "gcc", "clang")

#: The kernels in plain C99, for exactly this processor.
FLAGS = ("-std=c99", "-O3", "-march=native", "-fPIC")

#: Seconds that one compiler run may take.
TIME_LIMIT = 300


@dataclass(frozen=True)
class Compiler:
    """A C compiler of this machine.

    Attributes:
        command: How it is called.
        version: First line that it prints about itself; a part of what names a build.
    """

    command: tuple[str, ...]
    version: str

    @classmethod
    def find(cls) -> Compiler:
        """The compiler of the environment variable CC, or the first that is installed.

        Raises:
            UnsupportedError: There is none.
        """
        named = os.environ.get("CC")
        candidates = [tuple(shlex.split(named))] if named else [(name,) for name in COMPILERS]
        for command in candidates:
            if command and shutil.which(command[0]):
                lines = _run([*command, "--version"]).stdout.splitlines()
                return cls(command, lines[0] if lines else "")
        looked_for = named or ", ".join(COMPILERS)
        raise UnsupportedError(
            f"the native engine needs a C compiler, and there is none (looked for {looked_for})",
            "install gcc or clang, or choose the engine reference",
        )


@dataclass(frozen=True)
class Unit:
    """Something to compile.

    Attributes:
        sources: C files.
        headers: What they include; changes to them make a new build.
        include: Folders of headers.
        text: One more C source, which lies in no file.
    """

    sources: tuple[Path, ...]
    headers: tuple[Path, ...]
    include: tuple[Path, ...]
    text: str = ""

    def key(self) -> str:
        """A name of the content: changes whenever a byte of it does."""
        return content_key(self.text, (*self.sources, *self.headers))


def shared_library(
    unit: Unit, compiler: Compiler, flags: Sequence[str] = FLAGS, prefix: str = "native"
) -> Path:
    """The compiled library, from the cache or new.

    Args:
        unit: What it is made of.
        compiler: Makes it.
        flags: Of the compiler.
        prefix: Its file name starts with this.

    Raises:
        TflnestError: The compiler fails, or nothing can be written.
    """
    named = "\0".join([unit.key(), *compiler.command, compiler.version, *flags, _processor()])
    name = f"{prefix}-{hashlib.sha256(named.encode()).hexdigest()[:24]}.so"
    folder = cache_folder()
    library = folder / name
    if library.is_file():
        return library
    try:
        with _alone(folder):
            if not library.is_file():
                with tempfile.TemporaryDirectory(dir=folder, prefix=".build-") as temporary:
                    built = Path(temporary) / name
                    _build(unit, compiler, flags, Path(temporary), built)
                    built.replace(library)
    except OSError as error:
        raise TflnestError(
            f"the native engine cannot be built in {folder}: {error.strerror or error}",
            "free some space, set XDG_CACHE_HOME to another folder, or choose the engine reference",
        ) from error
    return library


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process at a time build: the others find what it built."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/tflnest` or `~/.cache/tflnest`; a folder of the user where neither can be written.

    Raises:
        TflnestError: None of them can be written.
    """
    base = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    candidates = [Path(base) / "tflnest", Path(tempfile.gettempdir()) / f"tflnest-{os.getuid()}"]
    for folder in candidates:
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError:
            continue
        if os.access(folder, os.W_OK) and folder.stat().st_uid == os.getuid():
            return folder
    raise TflnestError(
        f"none of {', '.join(map(str, candidates))} can be written to", "set XDG_CACHE_HOME to a folder"
    )


def _build(unit: Unit, compiler: Compiler, flags: Sequence[str], folder: Path, library: Path) -> None:
    sources = list(unit.sources)
    if unit.text:
        sources.append(folder / "generated.c")
        sources[-1].write_text(unit.text, encoding="utf-8")
    include = [f"-I{path}" for path in unit.include]
    objects = [folder / f"{number}.o" for number in range(len(sources))]

    def compile_one(source: Path, target: Path) -> None:
        _run([*compiler.command, *flags, *include, "-c", str(source), "-o", str(target)])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for _ in pool.map(compile_one, sources, objects):
            pass
    _run([*compiler.command, *flags, "-shared", *map(str, objects), "-o", str(library)])


def _processor() -> str:
    """What `-march=native` depends on: a cache may be shared by machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return " ".join(os.uname())
    chosen: Iterable[str] = (
        line for line in lines if line.split(":")[0].strip() in ("model name", "flags", "Features")
    )
    return " ".join(sorted(set(chosen)))


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    shown = " ".join(command[:1])
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=TIME_LIMIT, check=False)
    except OSError as error:
        raise TflnestError(f"{shown}: cannot be started: {error.strerror or error}") from error
    except subprocess.TimeoutExpired:
        raise TflnestError(f"{shown}: still not ready after {TIME_LIMIT} s") from None
    if result.returncode:
        message = "\n".join(result.stderr.splitlines()[:12]) or f"exit status {result.returncode}"
        raise TflnestError(
            f"the native engine cannot be built; {shown} says:\n{message}", "choose the engine reference"
        )
    return result


def installed_library(folder: Path, stem: str, symbol: str, unit: Unit) -> Path | None:
    """A library that was compiled when tflnest was installed, if it is of these very sources.

    Args:
        folder: Where it would lie.
        stem: Start of its name.
        symbol: Its function that gives the key of what it was compiled from.
        unit: What it must have been compiled from.
    """
    for path in sorted(folder.glob(f"{stem}*.so")):
        try:
            key = getattr(ctypes.CDLL(str(path)), symbol)
        except (OSError, AttributeError):
            continue
        key.restype = ctypes.c_char_p
        if key() == unit.key().encode():
            return path
    return None
