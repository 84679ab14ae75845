from __future__ import annotations

import errno
import struct

import numpy as np
import pytest

from firmware_sim import uf2
from firmware_sim.uf2 import Drive, copy_to_drive, find_drives, uf2_file
from tflnest.errors import DeviceError

INFO = "UF2 Bootloader v3.0\r\nModel: Some Board\r\nBoard-ID: Some-F4-v1\r\n"
FAMILY = 0x57755A57


def blocks(data: bytes) -> list[tuple[int, ...]]:
    """The fields of every block, by the offsets of the specification."""
    assert len(data) % 512 == 0
    return [
        (*struct.unpack_from("<8I", data, at), data[at + 32 : at + 288], *struct.unpack_from("<I", data, at + 508))
        for at in range(0, len(data), 512)
    ]  # fmt: skip


@pytest.fixture
def drive(tmp_path):
    folder = tmp_path / "some drive"
    folder.mkdir()
    (folder / "INFO_UF2.TXT").write_text(INFO)
    return Drive.at(folder)


def test_every_byte_arrives_where_it_belongs():
    rng = np.random.default_rng(0)
    pieces = [
        (address, rng.bytes(size))
        for address, size in ((0x08004010, 1000), (0x08004400, 1), (0x08010000, 256))
    ]
    made = blocks(uf2_file(pieces, FAMILY))
    flash = {}
    for number, row in enumerate(made):
        first, second, flags, address, size, index, count, family, payload, last = row
        assert (first, second, last) == (0x0A324655, 0x9E5D5157, 0x0AB16F30)
        assert (flags, size, family) == (0x2000, 256, FAMILY)
        assert (index, count) == (number, len(made)) and address % 256 == 0
        flash |= {address + offset: byte for offset, byte in enumerate(payload)}
    told = {address + offset: byte for address, data in pieces for offset, byte in enumerate(data)}
    assert {address: flash[address] for address in told} == told
    assert not any(byte for address, byte in flash.items() if address not in told)
    assert [row[3] for row in made] == [0x08004000 + 256 * n for n in range(5)] + [0x08010000]


def test_no_firmware_is_no_file():
    assert uf2_file([], FAMILY) == b""


def test_drives_are_found_by_their_file(drive, tmp_path, monkeypatch):
    other = tmp_path / "no drive"
    other.mkdir()
    names = [str(folder).replace(" ", "\\040") for folder in (drive.folder, other, drive.folder, "/proc")]
    mounts = tmp_path / "mounts"
    mounts.write_text("".join(f"/dev/sd{n} {name} vfat rw 0 0\n" for n, name in enumerate(names)))
    monkeypatch.setattr(uf2, "MOUNTS", mounts)
    assert find_drives() == [drive]
    assert (drive.model, drive.board_id) == ("Some Board", "Some-F4-v1")
    monkeypatch.setattr(uf2, "MOUNTS", tmp_path / "missing")
    monkeypatch.setattr(uf2, "VOLUMES", tmp_path)
    assert find_drives() == [drive]
    with pytest.raises(DeviceError, match="is not the drive of a UF2 bootloader"):
        Drive.at(other)


def test_a_copy_is_whole_and_tells_its_progress(drive):
    seen = []
    data = bytes(512 * 200)
    copy_to_drive(data, drive, lambda *step: seen.append(step))
    assert (drive.folder / "firmware.uf2").read_bytes() == data
    assert seen[-1] == ("writing firmware", len(data), len(data)) and len(seen) == 4


def failing(*, goes_away: bool, drive: Drive):
    def fsync(_descriptor: int) -> None:
        if goes_away:
            (drive.folder / "INFO_UF2.TXT").unlink()
        raise OSError(errno.EIO, "Input/output error")

    return fsync


def test_a_board_that_starts_at_once_has_taken_everything(drive, monkeypatch):
    monkeypatch.setattr(uf2.os, "fsync", failing(goes_away=True, drive=drive))
    copy_to_drive(bytes(512), drive)
    assert not (drive.folder / "INFO_UF2.TXT").exists()


def test_a_drive_that_fails_is_an_error(drive, monkeypatch):
    monkeypatch.setattr(uf2.os, "fsync", failing(goes_away=False, drive=drive))
    with pytest.raises(DeviceError, match="took 512 of 512 bytes: Input/output error") as caught:
        copy_to_drive(bytes(512), drive)
    assert "start the bootloader again" in caught.value.hint
    (drive.folder / "firmware.uf2").unlink()
    (drive.folder / "firmware.uf2").mkdir()
    with pytest.raises(DeviceError, match="took 0 of 512 bytes"):
        copy_to_drive(bytes(512), drive)
