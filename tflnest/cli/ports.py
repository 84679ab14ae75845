"""`tflnest ports`."""

from __future__ import annotations

from dataclasses import asdict

import click

from tflnest.cli import ui


@click.command("ports", short_help="List the serial ports.")
@ui.output_options
def command(output_format: str, quiet: bool, no_progress: bool) -> None:
    """List the serial ports of this machine, with what is known of them.

    Nothing is opened. `--port auto` tries those that name a vendor.

    \b
    Examples:
      tflnest ports
      tflnest ports --format json
    """
    from tflnest.bridge.ports import list_ports

    screen = ui.screen(output_format, quiet, no_progress)
    ports = list_ports()
    screen.json({"ports": [{**asdict(port), "vendor": port.vendor or None} for port in ports]})
    if not ports:
        screen.line("no serial ports")
        return
    screen.table(
        ["port", "vendor", "USB", "description"],
        [
            (
                port.url,
                port.vendor or "-",
                f"{port.vendor_id:04x}:{port.product_id or 0:04x}" if port.vendor_id is not None else "-",
                port.description,
            )
            for port in ports
        ],
        left=("port", "vendor", "USB", "description"),
    )
