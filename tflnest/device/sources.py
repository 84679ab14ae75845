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

#: C sources and headers of the plugin for TensorFlow Lite alone.
PLUGIN = RUNTIME / "plugin"

_INCLUDE_LINE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)


#: Implementations that are for desktops alone: NAME_x86.c beside NAME.c, and the headers that those include.
HOST_SUFFIX = "_x86"


def plugin_files() -> tuple[Path, ...]:
    """The files of the plugin, and those of the runtime that it needs, sorted by name."""
    own = [path for path in PLUGIN.iterdir() if path.suffix in (".c", ".h")]
    names = {name for path in own for name in included(path.read_text(encoding="utf-8"))}
    kernels = needed_files((name for name in names if not (PLUGIN / name).exists()), host=True)
    return tuple(sorted((*own, *kernels), key=lambda path: path.name))


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
