"""Whole files are read and written, or nothing is."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tflnest import files
from tflnest.errors import FormatError, TflnestError, UsageError
from tflnest.files import check_writable, read_file, write_file


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "a.bin"
    write_file(path, b"content")
    assert read_file(path) == b"content"
    assert read_file(str(path)) == b"content"
    assert [item.name for item in tmp_path.iterdir()] == ["a.bin"]


def test_new_files_have_ordinary_permissions(tmp_path):
    umask = os.umask(0o027)
    try:
        write_file(tmp_path / "a", b"")
    finally:
        os.umask(umask)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_files_are_overwritten_only_when_forced(tmp_path):
    path = tmp_path / "a"
    write_file(path, b"old")
    for call in (lambda: write_file(path, b"new"), lambda: check_writable(path)):
        with pytest.raises(UsageError, match="a: exists already") as caught:
            call()
        assert "--force" in caught.value.hint
    assert read_file(path) == b"old"
    check_writable(path, force=True)
    write_file(path, b"new", force=True)
    assert read_file(path) == b"new"


def test_what_cannot_be_written_is_refused_early(tmp_path):
    with pytest.raises(UsageError, match=r"the folder .*missing does not exist"):
        check_writable(tmp_path / "missing" / "a")
    with pytest.raises(UsageError, match="is a folder, a file name was expected"):
        check_writable(tmp_path, force=True)


def test_a_failed_write_leaves_nothing_and_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a"
    write_file(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(TflnestError, match="could not write 3 bytes: No space left on device") as caught:
        write_file(path, b"new", force=True)
    assert "nothing was changed" in caught.value.hint
    monkeypatch.undo()
    assert read_file(path) == b"old"
    assert [item.name for item in tmp_path.iterdir()] == ["a"]


def test_what_cannot_be_read(tmp_path, monkeypatch):
    with pytest.raises(FormatError, match="nothing: no such file"):
        read_file(tmp_path / "nothing")
    with pytest.raises(FormatError, match="is a folder, a file was expected"):
        read_file(tmp_path)
    path = tmp_path / "a"
    write_file(path, b"12345")
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 4)
    with pytest.raises(FormatError, match="has 5 bytes, more than the 4 that are read"):
        read_file(path)
    monkeypatch.undo()

    def refuse(self: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(FormatError, match="cannot be read: Permission denied"):
        read_file(path)
