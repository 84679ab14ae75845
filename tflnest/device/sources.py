"""Which C sources of the runtime a set of kernels needs."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

RUNTIME = Path(__file__).resolve().parent.parent / "runtime"

#: Public headers, included as "tflnest/NAME.h".
INCLUDE = RUNTIME / "include"

#: C sources and the headers that only they include.
SOURCE = RUNTIME / "src"

#: C sources and headers that read nested operators: what the plugin and the component below have in common.
NESTED = RUNTIME / "nested"

#: C sources and headers of the plugin for TensorFlow Lite alone.
PLUGIN = RUNTIME / "plugin"

#: C and C++ sources and headers of the component for TensorFlow Lite Micro alone.
TFLM = RUNTIME / "tflm"

_INCLUDE_LINE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


#: Implementations that are for desktops alone: NAME_x86.c beside NAME.c, and the headers that those include.
HOST_SUFFIX = "_x86"


def plugin_files() -> tuple[Path, ...]:
    """The files of the plugin, and those of the runtime that it needs, sorted by name."""
    return _with_needed(PLUGIN)


def component_files() -> dict[str, Path]:
    """The files of the component for TensorFlow Lite Micro, by where they lie in its folder.

    That folder is the only one that must be searched for headers, beside those of TFLM. Sources are C99 (`.c`) and
    C++17 (`.cc`). What is for other processors compiles to nothing.

    Returns:
        Path of each file by its name in the folder: "tflnest_tflm.cc", "tflnest/tflnest_conv.h" and so on.
    """
    return {
        (f"tflnest/{path.name}" if path.parent == INCLUDE / "tflnest" else path.name): path
        for path in _with_needed(TFLM)
    }


def _with_needed(folder: Path) -> tuple[Path, ...]:
    """The files of a folder, those of `NESTED`, and those of the runtime that they include, sorted by name."""
    own = [path for base in (folder, NESTED) for path in base.iterdir() if path.suffix in (".c", ".cc", ".h")]
    names = {name for path in own for name in included(path.read_text(encoding="utf-8"))}
    kernels = names - {path.name for path in own} - {name for name in names if name.startswith("tensorflow/")}
    return tuple(sorted((*own, *needed_files(kernels, host=True)), key=lambda path: path.name))


def needed_files(headers: Iterable[str], host: bool = False) -> tuple[Path, ...]:
    """The files of the runtime that implement some headers, those files' own headers included.

    A header NAME.h is implemented by NAME.c where there is one.

    Args:
        headers: As they are included: "tflnest/tflnest_conv.h".
        host: Whether implementations for desktops belong to it. Sources include them for such processors only.

    Returns:
        Paths of headers and sources, sorted by name.

    Raises:
        FileNotFoundError: A header is not there.
    """
    found: set[Path] = set()
    waiting = list(headers)
    while waiting:
        name = waiting.pop()
        if Path(name).stem.endswith(HOST_SUFFIX) and not host:
            continue
        header = next((base / name for base in (INCLUDE, SOURCE) if (base / name).is_file()), None)
        if header is None:
            raise FileNotFoundError(f"the runtime has no header {name}")
        if header in found:
            continue
        implementations = [SOURCE / f"{header.stem}.c"]
        if host:
            implementations.append(SOURCE / f"{header.stem}{HOST_SUFFIX}.c")
        for path in (header, *implementations):
            if path.is_file():
                found.add(path)
                waiting.extend(included(path.read_text(encoding="utf-8")))
    return tuple(sorted(found, key=lambda path: path.name))


def included(text: str) -> list[str]:
    """The headers of the project that a C source includes."""
    return _INCLUDE_LINE.findall(text)


def content_key(text: str, files: Iterable[Path]) -> str:
    """A name of the content of a C source and some files: changes whenever a byte of it does."""
    digest = hashlib.sha256(text.encode())
    for path in sorted(files, key=lambda item: item.name):
        digest.update(f"{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:32]
