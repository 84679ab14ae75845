"""Reading and writing whole files: clear errors, and nothing half-written."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from tflnest.errors import FormatError, TflnestError, UsageError

#: Largest file that is read into memory.
MAX_FILE_BYTES = 4 << 30


def read_file(path: str | Path) -> bytes:
    """Read a file into memory.

    Raises:
        FormatError: It does not exist, is a folder, cannot be read, or is larger than `MAX_FILE_BYTES`.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise FormatError(f"{path}: is a folder, a file was expected")
        if size > MAX_FILE_BYTES:
            raise FormatError(f"{path}: has {size:,} bytes, more than the {MAX_FILE_BYTES:,} that are read")
        return path.read_bytes()
    except FileNotFoundError:
        raise FormatError(f"{path}: no such file") from None
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror or error}") from error


def check_writable(path: str | Path, force: bool = False) -> None:
    """Refuse early, before long work, what `write_file` would refuse after it.

    Raises:
        UsageError: The file exists and `force` is false, or its folder does not exist or cannot be written to.
    """
    path = Path(path)
    if path.is_dir():
        raise UsageError(f"{path}: is a folder, a file name was expected")
    if path.exists() and not force:
        raise UsageError(
            f"{path}: exists already", "choose another name, or overwrite it with --force (force=True)"
        )
    if not path.parent.is_dir():
        raise UsageError(f"{path}: the folder {path.parent} does not exist", "create it first")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"{path}: the folder {path.parent} cannot be written to", "choose another place")


def write_file(path: str | Path, content: bytes, force: bool = False) -> None:
    """Write a file as a whole or not at all: to a temporary file beside it, then rename.

    Raises:
        UsageError: The file exists and `force` is false.
        TflnestError: The system could not write it (disk full, no permission); nothing is left behind.
    """
    path = Path(path)
    check_writable(path, force)
    temporary = None
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        Path(temporary).chmod(0o666 & ~umask)
        Path(temporary).replace(path)
    except BaseException as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise TflnestError(
            f"{path}: could not write {len(content):,} bytes: {error.strerror or error}",
            "nothing was changed; free some space or choose another place",
        ) from error
