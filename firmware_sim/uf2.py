"""UF2: firmware as a file that is copied onto the drive of a board's bootloader.

The format is Microsoft's: https://github.com/microsoft/uf2.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tflnest.errors import DeviceError, TflnestError
from tflnest.files import read_file
from tflnest.progress import Progress, silent

#: Bytes of a block of the file.
BLOCK_BYTES = 512
#: Bytes of firmware in a block; bootloaders take blocks only at multiples of it.
PAYLOAD_BYTES = 256

FIRST_MAGIC = 0x0A324655
SECOND_MAGIC = 0x9E5D5157
LAST_MAGIC = 0x0AB16F30
#: Says that the block names a family of chips.
FAMILY_FLAG = 0x2000

#: The file that a bootloader's drive has, and the name under which firmware is copied there.
INFO = "INFO_UF2.TXT"
FIRMWARE = "firmware.uf2"

MOUNTS = Path("/proc/self/mounts")
#: Where drives appear on systems without `MOUNTS`.
VOLUMES = Path("/Volumes")

_BLOCK = struct.Struct("<8I476sI")
_OCTAL = re.compile(r"\\([0-7]{3})")
_CHUNK_BYTES = 64 * BLOCK_BYTES


def uf2_file(contents: Iterable[tuple[int, bytes]], family: int) -> bytes:
    """Firmware in UF2.

    Args:
        contents: Pieces with their addresses in flash.
        family: Number of the chip's family.

    Returns:
        One block for each 256 bytes of flash that hold anything; what lies between pieces is zero.
    """
    pages: dict[int, bytearray] = {}
    for address, data in contents:
        done = 0
        while done < len(data):
            offset = (address + done) % PAYLOAD_BYTES
            part = data[done : done + PAYLOAD_BYTES - offset]
            page = pages.setdefault(address + done - offset, bytearray(PAYLOAD_BYTES))
            page[offset : offset + len(part)] = part
            done += len(part)
    blocks = []
    for number, (address, page) in enumerate(sorted(pages.items())):
        header = (FIRST_MAGIC, SECOND_MAGIC, FAMILY_FLAG, address, PAYLOAD_BYTES, number, len(pages), family)
        blocks.append(_BLOCK.pack(*header, bytes(page), LAST_MAGIC))
    return b"".join(blocks)


@dataclass(frozen=True)
class Drive:
    """The drive of a bootloader.

    Attributes:
        folder: Where it is mounted.
        model: What it calls the board, for people.
        board_id: What it calls the board, for programs.
    """

    folder: Path
    model: str
    board_id: str

    @classmethod
    def at(cls, folder: str | Path) -> Drive:
        """The drive that is mounted at a folder.

        Raises:
            DeviceError: There is none.
        """
        path = Path(folder)
        try:
            text = read_file(path / INFO).decode("utf-8", "replace")
        except TflnestError:
            raise DeviceError(
                f"{path}: is not the drive of a UF2 bootloader: it has no {INFO}",
                "start the bootloader, on most boards by pressing the reset button twice",
            ) from None
        rows = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        return cls(path, rows.get("Model", "").strip(), rows.get("Board-ID", "").strip())


def find_drives() -> list[Drive]:
    """The drives of bootloaders that are mounted now."""
    return [Drive.at(folder) for folder in _mounted() if _is_file(folder / INFO)]


def _mounted() -> list[Path]:
    """Folders where something is mounted."""
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return sorted(VOLUMES.glob("*"))
    # Blanks within names are written as octal numbers.
    names = [line.split(" ")[1] for line in lines if line.count(" ") > 1]
    return sorted({Path(_OCTAL.sub(lambda match: chr(int(match[1], 8)), name)) for name in names})


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # drives of others may not be looked into
        return False


def copy_to_drive(data: bytes, drive: Drive, progress: Progress = silent) -> None:
    """Copy a UF2 file onto a drive. The board flashes what arrives, and starts it after the last block.

    Args:
        data: The file.
        drive: The drive.
        progress: Called with the bytes that are written.

    Raises:
        DeviceError: The drive does not take the file.
    """
    path, done = drive.folder / FIRMWARE, 0
    try:
        with path.open("wb", buffering=0) as stream:
            while done < len(data):
                done += stream.write(data[done : done + _CHUNK_BYTES]) or 0
                progress("writing firmware", done, len(data))
            os.fsync(stream.fileno())
    except OSError as error:
        # The board starts what it has as soon as it is complete, and its drive goes away under our hands.
        if done == len(data) and not _is_file(drive.folder / INFO):
            return
        raise DeviceError(
            f"{path}: took {done:,} of {len(data):,} bytes: {error.strerror or error}",
            "start the bootloader again, and flash again",
        ) from error
