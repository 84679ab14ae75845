"""`tflnest compare`."""

from __future__ import annotations

from typing import Any

import click

from tflnest.cli import ui
from tflnest.comparison import Comparison, compare
from tflnest.errors import VerificationError
from tflnest.interpreter import ENGINES
from tflnest.runner import STOCK_ENGINE


@click.command("compare", short_help="Check two models for equal outputs, bit by bit.")
@click.argument("first", metavar="A", type=click.Path())
@click.argument("second", metavar="B", type=click.Path())
@click.option(
    "--data",
    type=click.Path(),
    metavar="FILE",
    help="Samples: .npz with key x, or .npy. [default: random ones]",
)
@click.option(
    "--level-a", "first_level", type=int, metavar="B", help="Level of A, if nested. [default: full-bit]"
)
@click.option(
    "--level-b", "second_level", type=int, metavar="B", help="Level of B, if nested. [default: full-bit]"
)
@click.option(
    "--limit", type=int, metavar="N", help="Only the first N samples. [default: all, or 32 random ones]"
)
@click.option(
    "--engine",
    type=click.Choice(["auto", *ENGINES, STOCK_ENGINE]),
    default="auto",
    show_default=True,
    help=ui.ENGINE_HELP,
)
@ui.seed_option
@click.option("--exact", is_flag=True, help="Exit with 4 unless the outputs are equal bit by bit.")
@ui.output_options
def command(
    first: str, second: str, exact: bool, output_format: str, quiet: bool, no_progress: bool, **options: Any
) -> None:
    """Run models A and B on the same samples and compare their outputs bit by bit.

    \b
    Example:
      tflnest compare model_int8.tflite nested.tflite --data test.npz --exact
    """
    screen = ui.screen(output_format, quiet, no_progress)
    with screen.progress() as progress:
        result = compare(first, second, progress=progress, **options)
    screen.json(result.to_dict())
    _show(screen, result)
    if exact and not result.bit_exact:
        raise VerificationError(
            f"the outputs differ in {result.samples - result.identical_samples:,} of {result.samples:,} samples"
        )


def _show(screen: ui.Screen, result: Comparison) -> None:
    screen.line(f"A  {result.first}")
    screen.line(f"B  {result.second}")
    screen.line(f"{result.samples:,} samples of {result.data}, {result.outputs:,} output values each")
    screen.line()
    if result.bit_exact:
        screen.line("bit-exact: all output values are equal")
        return
    screen.line(f"identical samples    {result.identical_samples:,} of {result.samples:,}")
    screen.line(f"different values     {result.different_values:,} of {result.samples * result.outputs:,}")
    screen.line(f"largest difference   {result.largest_difference:g}")
    screen.line(f"same class           {ui.percent(result.agreement)}")
    if result.first_difference is not None:
        where = result.first_difference
        screen.line(
            f"first difference     sample {where.sample}, output {where.output}, value {where.position}: "
            f"{where.first:g} and {where.second:g}"
        )
