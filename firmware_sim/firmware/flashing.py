"""Puts a generated firmware onto its board: which tool does it, its command line, and what its errors mean."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from firmware_sim.board import Board
from firmware_sim.board_port import port_of
from firmware_sim.firmware.project import read_manifest
from firmware_sim.firmware.size import ELF, board_from, build
from firmware_sim.image import Image
from firmware_sim.uf2 import Drive, copy_to_drive, find_drives, uf2_file
from tflnest.errors import DeviceError, UsageError
from tflnest.progress import Progress, silent


class Tool(StrEnum):
    """What puts firmware onto a board."""

    UF2 = "uf2"
    PYOCD = "pyocd"
    OPENOCD = "openocd"
    ESPTOOL = "esptool"
    EMULATOR = "emulator"


#: The key of a profile's table [flash] without which a tool cannot be used.
KEYS = {
    Tool.UF2: "uf2_family",
    Tool.PYOCD: "pyocd_target",
    Tool.OPENOCD: "openocd_config",
    Tool.ESPTOOL: "esptool_chip",
}
_EXTRA = 'pip install "tflnest[flash]"'
_INSTALL = {
    Tool.PYOCD: _EXTRA,
    Tool.OPENOCD: "apt-get install openocd",
    Tool.ESPTOOL: _EXTRA,
}

#: Where tools lie that were installed with this Python, while its environment is not activated.
BESIDE = (str(Path(sys.executable).parent),)

#: The image that esptool makes of the firmware, beside it.
ESP_IMAGE = "build/firmware.esp.bin"

#: What tools say, and what to do then.
_HINTS = (
    (r"Target type \S+ not recognized", "install its description: pyocd pack install {target}"),
    (r"No connected debug probes|No target device available", "connect the board by USB"),
    (
        r"LIBUSB_ERROR_ACCESS|Permission denied|Access denied",
        "you may not use the USB device or port: install the udev rules of the tool, or join the group dialout",
    ),
    (
        r"Error: open failed|no device found|unable to find a matching",
        "connect the board by USB, and end other programs that use its probe",
    ),
    (r"Could not open|could not open port", "name another port with --port: tflnest ports lists them"),
    (r"Failed to connect to", "hold the button BOOT while the board is reset"),
    (
        r"No ACK|SWD/JTAG communication failure|init mode failed",
        "check the power and the wires of the board, and press its reset button",
    ),
)

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_PERCENT = re.compile(r"(\d{1,3})(?:\.\d+)? ?%")
_PYOCD_BAR = re.compile(r"\n\[(=*)[^\n]*$")
_PYOCD_BAR_WIDTH = 40
_TAIL_LINES = 8
_KEPT_BYTES = 1 << 16
_LIST_SECONDS = 60
_END_SECONDS = 5


@dataclass(frozen=True)
class FlashPlan:
    """How a firmware gets onto its board.

    Attributes:
        folder: Of the project.
        board: The board.
        tool: What does it.
        commands: The command lines that are run, in order; none for a drive and for the emulator.
        drive: The drive that the firmware is copied to; None for other tools, and where it is not looked for.
    """

    folder: Path
    board: Board
    tool: Tool
    commands: tuple[tuple[str, ...], ...] = ()
    drive: Drive | None = None

    def to_dict(self) -> dict[str, Any]:
        """For a report in JSON."""
        return {
            "folder": str(self.folder),
            "board": self.board.name,
            "tool": str(self.tool),
            "commands": [list(command) for command in self.commands],
            "drive": None if self.drive is None else str(self.drive.folder),
        }


@dataclass(frozen=True)
class FlashReport:
    """What was flashed.

    Attributes:
        plan: How.
        flash_bytes: Bytes of firmware.
        seconds: What it took, without building.
    """

    plan: FlashPlan
    flash_bytes: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """For a report in JSON."""
        return {**self.plan.to_dict(), "flash_bytes": self.flash_bytes, "seconds": self.seconds}


def tools_for(board: Board) -> tuple[Tool, ...]:
    """The tools that the profile of a board has keys for, in the order in which they are tried."""
    return tuple(tool for tool, key in KEYS.items() if board.flash is not None and getattr(board.flash, key))


def plan_flash(
    folder: str | Path,
    board: Board | None = None,
    tool: Tool | None = None,
    *,
    probe: str | None = None,
    port: str | None = None,
    dry_run: bool = False,
) -> FlashPlan:
    """Choose how to flash a generated firmware; nothing is built or written.

    Args:
        folder: Of the project.
        board: The board; the one that the firmware was generated for where it is None.
        tool: What is to do it; the first that can where it is None. That is the emulator only for boards that
            exist nowhere else.
        probe: Which debug probe; may be a part of its ID. Only one may be connected where it is None.
        port: For esptool the serial port, for UF2 the folder of the drive; both are found where it is None.
        dry_run: Look for no tool, probe or drive.

    Raises:
        UsageError: The folder holds no firmware for a board, it is made for another board, or the board cannot
            be reached so.
        DeviceError: The tool, probe or drive is not there.
    """
    path = Path(folder)
    manifest = read_manifest(path)
    if manifest["kind"] != "firmware":
        raise UsageError(f"{path}: is a component, and cannot be flashed", "link it into a firmware")
    made_for = board_from(manifest["board"])
    board = made_for if board is None else board
    _check_match(made_for, board)
    chosen = _choose(board, tool, port, dry_run)
    if probe is not None and chosen not in (Tool.PYOCD, Tool.OPENOCD):
        raise UsageError(f"{chosen} uses no debug probe", "leave out --probe, or choose another --tool")
    if port is not None and chosen not in (Tool.ESPTOOL, Tool.UF2):
        raise UsageError(f"{chosen} uses no port", "leave out --port, or choose another --tool")
    drive = _drive_for(board, port) if chosen is Tool.UF2 and not dry_run else None
    commands = _commands(path.absolute(), board, chosen, probe, port, dry_run)
    return FlashPlan(path, board, chosen, commands, drive)


def build_firmware(plan: FlashPlan, *, make: bool = True) -> Image:
    """The linked firmware of a project.

    Args:
        plan: Of which project.
        make: Build what is not up to date; otherwise take what is there.

    Raises:
        UsageError: It is not built, and is not to be.
        DoesNotFitError: The linker says that the board's memory is too small.
        TflnestError: It cannot be built.
    """
    if make:
        return build(plan.folder, plan.board)
    if not (plan.folder / ELF).is_file():
        raise UsageError(f"{plan.folder}: is not built: it has no {ELF}", "leave out --no-build")
    return Image(plan.folder / ELF)


def flash(plan: FlashPlan, image: Image, progress: Progress = silent) -> FlashReport:
    """Put a linked firmware onto its board.

    A flash that is interrupted leaves a board that needs to be flashed again; no other file or device changes.

    Args:
        plan: How; not for the emulator.
        image: The firmware.
        progress: Called with percents, or with bytes where they are known.

    Raises:
        DeviceError: The tool fails; the message has the end of what it says.
    """
    if plan.tool is Tool.EMULATOR:
        raise UsageError("an emulated board is started, not flashed", "use firmware_sim.emulator.Emulator")
    start = time.monotonic()
    if plan.drive is not None and plan.board.flash is not None:
        copy_to_drive(uf2_file(image.contents(), plan.board.flash.uf2_family), plan.drive, progress)
    for command in plan.commands:
        _execute(plan, command, progress)
    return FlashReport(plan, image.flash_bytes, time.monotonic() - start)


# ----------------------------------------------------------------------------------------------------- choosing


def _check_match(made_for: Board, board: Board) -> None:
    """Refuse to flash firmware where it cannot run."""
    ours, theirs = port_of(made_for), port_of(board)
    pairs = {
        "another core": (made_for.core, board.core),
        "its flash elsewhere": (made_for.flash_base, board.flash_base),
        "its SRAM elsewhere": (made_for.sram_base, board.sram_base),
        "another chip": (ours.chip, theirs.chip),
        "another serial port": (ours.uart_base, theirs.uart_base),
    }
    different = [text for text, (one, other) in pairs.items() if one != other]
    different += ["less flash"] if board.flash_bytes < made_for.flash_bytes else []
    different += ["less SRAM"] if board.sram_bytes < made_for.sram_bytes else []
    if different:
        raise UsageError(
            f"the firmware is made for {made_for.name}, not for {board.name}, which has {' and '.join(different)}",
            f"generate it for that board: tflnest firmware FILE --board {board.name}",
        )


def _choose(board: Board, tool: Tool | None, port: str | None, dry_run: bool) -> Tool:
    known = tools_for(board)
    if tool is Tool.EMULATOR:
        if board.emulator is None:
            raise UsageError(f"there is no emulator for the board {board.name}")
        return tool
    if tool is not None:
        if tool not in known:
            names = ", ".join([*known, *([Tool.EMULATOR] if board.emulator else [])])
            raise UsageError(
                f"the profile of {board.name} does not say how {tool} reaches the board: "
                f"its table [flash] has no {KEYS[tool]}",
                f"choose another --tool: {names}" if names else "add the key to a profile of your own",
            )
        if not dry_run and tool is not Tool.UF2:
            _program(tool)
        return tool
    if not known:
        if board.emulator is None:
            raise UsageError(
                f"the profile of {board.name} does not say how to flash it: it has no table [flash]",
                f"give a profile of your own one, with {', '.join(KEYS.values())}",
            )
        return Tool.EMULATOR
    ready = [item for item in known if _is_ready(item, board, port)]
    if ready:
        return ready[0]
    if dry_run:
        return known[0]
    raise _nothing_there(board, known)


def _is_ready(tool: Tool, board: Board, port: str | None) -> bool:
    if tool is Tool.UF2:
        return bool(_drives_of(board)) or (port is not None and Path(port).is_dir())
    return find_program(tool) is not None


def _nothing_there(board: Board, known: Sequence[Tool]) -> DeviceError:
    missing = [
        "no drive of its UF2 bootloader is mounted" if tool is Tool.UF2 else f"{tool} is not installed"
        for tool in known
    ]
    ways = [f"install {tool}: {_INSTALL[tool]}" for tool in known if tool in _INSTALL]
    if Tool.UF2 in known:
        ways.insert(0, "start the bootloader, on most boards by pressing the reset button twice")
    if board.emulator is not None:
        ways.append("or try it without the board: --tool emulator")
    return DeviceError(f"nothing here can flash {board.name}: {', '.join(missing)}", "; ".join(ways))


def find_program(tool: Tool) -> str | None:
    """Where a tool is installed: on the search path, or beside this Python; None where it is not."""
    return shutil.which(str(tool), path=os.pathsep.join([os.environ.get("PATH", os.defpath), *BESIDE]))


def _program(tool: Tool) -> str:
    found = find_program(tool)
    if found is None:
        raise DeviceError(f"{tool} is not installed", f"install it with: {_INSTALL[tool]}")
    return found


# --------------------------------------------------------------------------------------------- probes and drives


def list_probes(program: str) -> dict[str, str]:
    """The debug probes that pyOCD finds: what they are, by ID.

    Args:
        program: Path of pyOCD.

    Raises:
        DeviceError: pyOCD does not tell.
    """
    try:
        done = subprocess.run(
            [program, "json", "--probes"],
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=_LIST_SECONDS,
            check=False,
        )
        rows = json.loads(done.stdout)["boards"]
        return {str(row["unique_id"]): str(row.get("info", "")) for row in rows}
    except OSError as error:
        raise DeviceError(f"{program} cannot be started: {error.strerror or error}") from error
    except subprocess.TimeoutExpired:
        raise DeviceError(f"{program} did not list its probes within {_LIST_SECONDS} s") from None
    except (ValueError, KeyError, TypeError):
        raise DeviceError(
            f"{program} does not list its probes:\n{_tail(done.stdout + done.stderr)}", f"update it: {_EXTRA}"
        ) from None


def _probe_for(program: str, wanted: str | None) -> str:
    """The ID of the only probe, or of the only one whose ID has a part."""
    probes = list_probes(program)
    if not probes:
        raise DeviceError(
            "no debug probe is connected",
            "connect the board by USB; on Linux, a probe is seen only with the udev rules of pyOCD",
        )
    found = [item for item in probes if wanted is None or wanted.lower() in item.lower()]
    if len(found) == 1:
        return found[0]
    listed = ", ".join(f"{item} ({text})" for item, text in probes.items())
    if not found:
        raise DeviceError(f"no debug probe has the ID {wanted}", f"connected are: {listed}")
    raise DeviceError(f"{len(found)} debug probes are connected", f"name one with --probe: {listed}")


def _drives_of(board: Board) -> list[Drive]:
    prefix = "" if board.flash is None else board.flash.uf2_board
    return [drive for drive in find_drives() if drive.board_id.startswith(prefix)]


def _drive_for(board: Board, folder: str | None) -> Drive:
    prefix = "" if board.flash is None else board.flash.uf2_board
    if folder is not None:
        drive = Drive.at(folder)
        if not drive.board_id.startswith(prefix):
            raise DeviceError(f"{folder}: is the drive of the board {drive.board_id!r}, not of {prefix!r}")
        return drive
    drives = _drives_of(board)
    if len(drives) == 1:
        return drives[0]
    if drives:
        listed = ", ".join(f"{drive.folder} ({drive.model})" for drive in drives)
        raise DeviceError(
            f"{len(drives)} drives of UF2 bootloaders are mounted", f"name one with --port: {listed}"
        )
    raise DeviceError(
        f"no drive of the UF2 bootloader of {board.name} is mounted",
        "start the bootloader, on most boards by pressing the reset button twice, or name the drive with --port",
    )


# ----------------------------------------------------------------------------------------------------- commands


def _commands(
    folder: Path, board: Board, tool: Tool, probe: str | None, port: str | None, dry_run: bool
) -> tuple[tuple[str, ...], ...]:
    if tool in (Tool.UF2, Tool.EMULATOR):
        return ()
    assert board.flash is not None
    program = (find_program(tool) or str(tool)) if dry_run else _program(tool)
    elf = str(folder / ELF)
    if tool is Tool.PYOCD:
        unique = probe if dry_run else _probe_for(program, probe)
        chosen = () if unique is None else ("--uid", unique)
        return ((program, "load", "--no-wait", "--target", board.flash.pyocd_target, *chosen, elf),)
    if tool is Tool.OPENOCD:
        files = [word for name in board.flash.openocd_config.split() for word in ("-f", name)]
        chosen = () if probe is None else ("-c", f"adapter serial {_tcl_word(probe)}")
        return ((program, *files, *chosen, "-c", f"program {_tcl_word(elf)} verify reset exit"),)
    head = (program, "--chip", board.flash.esptool_chip)
    at = () if port is None else ("--port", port)
    image = str(folder / ESP_IMAGE)
    return (
        (*head, "elf2image", "--output", image, elf),
        (*head, *at, "write-flash", f"0x{board.flash.esptool_address:x}", image),
    )


def _tcl_word(text: str) -> str:
    """A word of OpenOCD's language."""
    return text if re.fullmatch(r"[\w./:+-]+", text) else re.sub(r"([^\w./:+-])", r"\\\1", text)


def _execute(plan: FlashPlan, command: Sequence[str], progress: Progress) -> None:
    """Run a tool, and follow its progress."""
    try:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    except OSError as error:
        raise DeviceError(f"{command[0]} cannot be started: {error.strerror or error}") from error
    assert process.stdout is not None
    said = b""
    try:
        while part := os.read(process.stdout.fileno(), 4096):
            said = (said + part)[-_KEPT_BYTES:]
            share = _percent(said.decode("utf-8", "replace"))
            if share is not None:
                progress("writing firmware", share, 100)
        status = process.wait()
    except BaseException:
        _end(process)
        raise
    finally:
        process.stdout.close()
    if status:
        text = _tail(said.decode("utf-8", "replace"))
        raise DeviceError(f"{plan.tool} failed with exit status {status}:\n{text}", _hint(plan, text))


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _percent(text: str) -> int | None:
    """How far a tool says that it is; None where it does not say. pyOCD draws a bar where nobody looks."""
    bar = _PYOCD_BAR.search(text)
    if bar:
        return min(100, 100 * len(bar[1]) // _PYOCD_BAR_WIDTH)
    last = _PERCENT.findall(text[-200:])
    return min(100, int(last[-1])) if last else None


def _tail(text: str) -> str:
    lines = [line.rstrip() for line in re.split(r"[\r\n]+", _ESCAPES.sub("", text)) if line.strip()]
    return "\n".join(lines[-_TAIL_LINES:]) or "(it says nothing)"


def _hint(plan: FlashPlan, text: str) -> str | None:
    target = "" if plan.board.flash is None else plan.board.flash.pyocd_target
    for pattern, hint in _HINTS:
        if re.search(pattern, text):
            return hint.format(target=target)
    return None
