"""How verbs reach a board: which port, how fast, what is recorded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from tflnest.cli import ui

if TYPE_CHECKING:
    from tflnest.bridge.remote import RemoteBoard


def connection_options(command: ui.Command) -> ui.Command:
    """Decorator: the port and what belongs to it; they arrive as `connection`."""
    options = (
        click.option(
            "-p",
            "--port",
            metavar="PORT|URL|auto",
            help="Serial port, socket://HOST:PORT, rfc2217://HOST:PORT, or auto: the only board that answers. "
            "[default: TFLNEST_PORT]",
        ),
        click.option(
            "-b",
            "--baud",
            type=click.IntRange(min=1),
            metavar="N",
            help="Bits per second. [default: TFLNEST_BAUD, or 115200]",
        ),
        click.option(
            "--timeout",
            type=click.FloatRange(min=0.1),
            default=5.0,
            show_default=True,
            metavar="S",
            help="Seconds without an answer after which the board is given up.",
        ),
        click.option(
            "--trace",
            type=click.Path(),
            metavar="FILE",
            help="Record all bytes on the line with their times.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def take_connection(options: dict[str, Any]) -> dict[str, Any]:
    """The connection's options out of those of a verb."""
    return {name: options.pop(name) for name in ("port", "baud", "timeout", "trace")}


@contextmanager
def board_at(port: str | None, baud: int | None, timeout: float, trace: str | None) -> Iterator[RemoteBoard]:
    """The board that the options name; the line is free again afterwards, and the trace complete.

    Raises:
        UsageError: No port was given, or the trace exists.
        DeviceError: No board of ours answers.
    """
    from tflnest.bridge.remote import connect
    from tflnest.bridge.trace import FileTrace

    with connect(port, baud=baud, timeout=timeout, trace=FileTrace(trace) if trace else None) as board:
        yield board
