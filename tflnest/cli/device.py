"""`tflnest device`."""

from __future__ import annotations

import json
import os
import sys

import click

from tflnest.cli import ui
from tflnest.cli.boards import board_options, load_board
from tflnest.version import JSON_SCHEMA_VERSION


@click.command("device", short_help="Be a board: try everything without hardware.")
@click.argument("file", type=click.Path(), required=False)
@click.option(
    "--board",
    type=ui.BOARD,
    metavar="NAME|FILE",
    required=True,
    help="A name of `tflnest boards`, or a profile.",
)
@board_options
@click.option(
    "--uart",
    type=click.Choice(["pty", "tcp"]),
    default="pty",
    show_default=True,
    help="Where its port is: a pseudo-terminal, or a TCP port of this machine.",
)
@click.option(
    "--tcp-port", type=click.IntRange(0, 65535), default=0, metavar="N", help="[default: any free one]"
)
@click.option("--frame", type=ui.SIZE, default=1024, show_default=True, metavar="SIZE", help="Largest frame.")
@click.option("--window", type=ui.SIZE, metavar="SIZE", help="Receive buffer. [default: two frames]")
@click.option(
    "--pages",
    "placement",
    type=click.Choice(["flash", "sectors", "sram", "host"]),
    default="host",
    show_default=True,
    help="Where lower-bit pages rest; flash: they are there from the start; sectors: they come into flash.",
)
@click.option("--empty", is_flag=True, help="Start without any page, not even the base page.")
@click.option(
    "--line-baud", type=click.IntRange(min=300), metavar="N", help="Be as slow as such a line. [default: not]"
)
@click.option(
    "--faults",
    metavar="LIST",
    default="",
    help="Bad line, in both directions: drop=P,flip=P,duplicate=P,seed=N with probabilities per frame. [default: none]",
)
@click.option(
    "--seconds", type=click.FloatRange(min=0), metavar="S", help="End after so long. [default: Ctrl-C]"
)
@ui.output_options
def command(
    file: str | None,
    board: str,
    sram: str | None,
    flash: str | None,
    uart: str,
    tcp_port: int,
    frame: int,
    window: int | None,
    placement: str,
    empty: bool,
    line_baud: int | None,
    faults: str,
    seconds: float | None,
    output_format: str,
    quiet: bool,
    no_progress: bool,
) -> None:
    """Be a board with the model FILE in it, at a serial port of its own, until Ctrl-C.

    It has the SRAM and the flash of the board, refuses what does not fit, and computes what the reference
    interpreter computes, only from the pages that it holds. Without FILE it takes any model that is pushed.

    \b
    Examples:
      tflnest device nested.tflite --board stm32vldiscovery
      tflnest device --board mps2-an386
    """
    from firmware_sim.virtual_board import VirtualBoard, VirtualPort, parse_faults
    from tflnest.model import Model

    screen = ui.screen(output_format, quiet, no_progress)
    line = parse_faults(faults)
    sectors = placement == "sectors"
    virtual = VirtualBoard(
        Model.load(file) if file is not None else None,
        load_board(board, sram, flash),
        "flash" if sectors else placement,
        empty,
        frame,
        window,
        sectors=sectors,
    )
    port = VirtualPort(virtual, tcp_port if uart == "tcp" else None, line_baud, line, line)
    try:
        if screen.is_json:
            document = {"board": virtual.board.name, "model": file, "port": port.url, "pid": os.getpid()}
            click.echo(json.dumps({"schema_version": JSON_SCHEMA_VERSION, **document}))
        else:
            click.echo(f"TFLNEST_PORT={port.url}")
        sys.stdout.flush()
        ending = "; end it with Ctrl-C" if seconds is None else ""
        content = "any model" if file is None else file
        screen.note(
            f"{virtual.board.name} with {content}, {virtual.model.free_sram():,} B of SRAM free{ending}"
        )
        port.serve(seconds)
    finally:
        port.close()
