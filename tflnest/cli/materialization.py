"""`tflnest materialize`."""

from __future__ import annotations

import click

from tflnest.cli import ui
from tflnest.files import check_writable
from tflnest.materialization import materialize
from tflnest.model import Model


@click.command("materialize", short_help="Write one level as a stock int8 .tflite.")
@click.argument("file", type=click.Path())
@click.option("--level", type=int, metavar="B", help="Level to write. [default: full-bit]")
@click.option(
    "-o", "--output", type=click.Path(), metavar="FILE", required=True, help="Where to write the stock model."
)
@click.option("-f", "--force", is_flag=True, help="Overwrite the output.")
@ui.output_options
def command(
    file: str, level: int | None, output: str, force: bool, output_format: str, quiet: bool, no_progress: bool
) -> None:
    """Write one level of a nested FILE as a stock int8 .tflite.

    The result has stock operators only and runs in every TensorFlow Lite runtime, with the outputs of the level.

    \b
    Example:
      tflnest materialize nested.tflite --level 6 -o six.tflite
    """
    screen = ui.screen(output_format, quiet, no_progress)
    check_writable(output, force)
    source = Model.load(file)
    model = materialize(source, level)
    model.save(output, force)
    assert source.directory is not None
    chosen = source.directory.levels[-1] if level is None else level
    size = len(model.to_bytes())
    screen.json({"input": file, "level": chosen, "output": {"path": output, "bytes": size}})
    screen.line(f"wrote {output}: level {chosen} as a stock int8 model, {ui.size(size)}")
