"""`tflnest emulate`."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from tflnest.cli import ui
from tflnest.errors import DeviceError, ExitCode
from tflnest.version import JSON_SCHEMA_VERSION

if TYPE_CHECKING:
    from firmware_sim.emulator import Emulator
    from firmware_sim.fault import Fault

#: Seconds between two looks at the board.
POLL_S = 0.1


@click.command("emulate", short_help="Run firmware on an emulated board.")
@click.argument("firmware", type=click.Path(exists=True))
@click.option("--board", type=ui.BOARD, metavar="NAME|FILE", help="[default: the one it is linked for]")
@click.option(
    "--uart",
    type=click.Choice(["pty", "tcp", "console"]),
    default="pty",
    show_default=True,
    help="Where the serial port is: a pseudo-terminal, a TCP port, or stdout without input.",
)
@click.option("--count", is_flag=True, help="Show the instructions of each marked region.")
@ui.output_options
def command(
    firmware: str,
    board: str | None,
    uart: str,
    count: bool,
    output_format: str,
    quiet: bool,
    no_progress: bool,
) -> int:
    """Run FIRMWARE, an ELF file or a folder with one, on a board in QEMU.

    Shows where the serial port is, then every fault with its source line, until Ctrl-C or until the firmware
    ends. JSON comes as one document per line.

    \b
    Example:
      tflnest emulate build/firmware.elf
    """
    from firmware_sim.board import Board
    from firmware_sim.counting import Counter
    from firmware_sim.emulator import Emulator, Uart, board_of, find_firmware
    from firmware_sim.image import Image

    screen = ui.screen(output_format, quiet, no_progress)
    uarts: dict[str, Uart] = {"pty": "pty", "tcp": "tcp", "console": "direct"}
    image = Image(find_firmware(firmware))
    machine = Emulator(
        Board.load(board) if board else board_of(image),
        image,
        uart=uarts[uart],
        counter=Counter() if count else None,
    )
    return watch(screen, machine, is_console=uart == "console")


def watch(screen: ui.Screen, machine: Emulator, is_console: bool = False) -> ExitCode:
    """Run an emulated board and show what happens, until its firmware ends or the user ends it."""
    with machine:
        events = _Events(screen, machine, is_console)
        events.started()
        while machine.is_running:
            events.show()
            time.sleep(POLL_S)
        events.show()
        status = machine.wait()
    screen.note(f"the firmware ended with status {status}")
    return ExitCode.FAILED if status else ExitCode.OK


class _Events:
    """Shows what happens on the board."""

    def __init__(self, screen: ui.Screen, machine: Emulator, is_console: bool) -> None:
        self._screen = screen
        self._machine = machine
        self._is_console = is_console
        self._regions = 0

    def started(self) -> None:
        """Say where the serial port is."""
        machine = self._machine
        url = None if self._is_console else machine.url
        self._show(
            f"TFLNEST_PORT={url}" if url else "",
            board=machine.board.name,
            firmware=str(machine.image.path),
            port=url,
            pid=machine.pid,
        )
        self._screen.note(
            f"{machine.board.name} runs {machine.image.path} in process {machine.pid}; end it with Ctrl-C"
        )

    def show(self) -> None:
        """Show what is new."""
        machine = self._machine
        while self._is_console and (received := machine.read_some()):
            sys.stdout.buffer.write(received)
            sys.stdout.flush()
        fault = self._fault()
        if fault is not None:
            description = fault.describe(machine.board, machine.image)
            self._show(f"fault: {description}", event="fault", description=description, **vars(fault))
        regions = machine.regions()
        for region in regions[self._regions :]:
            text = f"region {region.id}: {region.instructions:,} instructions"
            self._show(text, event="region", id=region.id, instructions=region.instructions)
        self._regions = len(regions)

    def _fault(self) -> Fault | None:
        try:
            return self._machine.take_fault()
        except DeviceError:  # it may end while it is asked; how, `wait` says
            if self._machine.is_running:
                raise
            return None

    def _show(self, text: str, **document: Any) -> None:
        if self._screen.is_json:
            click.echo(json.dumps({"schema_version": JSON_SCHEMA_VERSION, **document}))
        elif text:
            click.echo(text)
        sys.stdout.flush()
