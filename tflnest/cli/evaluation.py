"""`tflnest eval`."""

from __future__ import annotations

from typing import Any

import click

from tflnest.cli import ui
from tflnest.evaluation import Evaluation, evaluate


@click.command("eval", short_help="Measure the accuracy of every level.")
@click.argument("file", type=click.Path())
@click.option(
    "--data",
    type=click.Path(),
    metavar="FILE",
    required=True,
    help="Samples: .npz with key x (labels in y), or .npy.",
)
@click.option("--level", default="all", show_default=True, metavar="B|all", help="One level, or all.")
@click.option("--limit", type=int, metavar="N", help="Only the first N samples.")
@click.option(
    "--engine",
    type=click.Choice(["auto", "reference", "litert"]),
    default="auto",
    show_default=True,
    help="reference: bit-exact with TFLM; litert: stock TensorFlow Lite; auto: litert for float models.",
)
@ui.output_options
def command(file: str, output_format: str, quiet: bool, no_progress: bool, **options: Any) -> None:
    """Measure what accuracy each level of FILE keeps.

    Prints top-1 where the data has labels, and always how often a level gives the same class as the full-bit
    level, how often all its outputs are identical, and their mean difference. FILE may be nested, plain int8 or
    float.

    \b
    Example:
      tflnest eval nested.tflite --data test.npz --level all
    """
    screen = ui.screen(output_format, quiet, no_progress)
    with screen.progress() as progress:
        result = evaluate(file, progress=progress, **options)
    screen.json(result.to_dict())
    _show(screen, result)


def _show(screen: ui.Screen, result: Evaluation) -> None:
    screen.line(f"{result.model}: {result.samples:,} samples of {result.data}, engine {result.engine}")
    screen.line()
    screen.table(
        ["level", "top-1", "agreement", "identical", "mean diff", "resident", "ms/sample"],
        [
            (
                row.level,
                ui.percent(row.top1),
                ui.percent(row.agreement),
                ui.percent(row.identical),
                f"{row.mean_difference:.3f}",
                "-" if row.resident_bytes is None else ui.size(row.resident_bytes),
                f"{1000 * row.seconds / result.samples:.2f}",
            )
            for row in result.levels
        ],
    )
