"""`tflnest eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from tflnest.accuracy_plot import write_accuracy_plot
from tflnest.cli import ui
from tflnest.evaluation import Evaluation, evaluate
from tflnest.files import check_writable
from tflnest.interpreter import ENGINES
from tflnest.progress import Progress
from tflnest.runner import STOCK_ENGINE
from tflnest.schema import require_extra


@click.command("eval", short_help="Measure the accuracy of every level.")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path())
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
    type=click.Choice(["auto", *ENGINES, STOCK_ENGINE]),
    default="auto",
    show_default=True,
    help=ui.ENGINE_HELP,
)
@click.option("--plot", type=click.Path(), metavar="PNG", help="Draw accuracy against resident bytes.")
@click.option("-f", "--force", is_flag=True, help="Overwrite the picture.")
@ui.output_options
def command(
    files: tuple[str, ...],
    plot: str | None,
    force: bool,
    output_format: str,
    quiet: bool,
    no_progress: bool,
    **options: Any,
) -> None:
    """Measure what accuracy each level of FILE keeps.

    Prints top-1 where the data has labels, and always how often a level gives the same class as the full-bit
    level, how often all its outputs are identical, and their mean difference. FILE may be nested, plain int8 or
    float; several share the data and the picture, one curve each, and their JSON is a list.

    \b
    Examples:
      tflnest eval nested.tflite --data test.npz --level all
      tflnest eval nested.tflite int8.tflite --data test.npz --plot accuracy.png
    """
    screen = ui.screen(output_format, quiet, no_progress)
    if plot is not None:
        check_writable(plot, force)
        require_extra("matplotlib", "plot", "to draw accuracy against bytes")
    with screen.progress() as progress:
        results = [
            evaluate(file, progress=_named(progress, file) if len(files) > 1 else progress, **options)
            for file in files
        ]
    if plot is not None:
        write_accuracy_plot(results, plot, force)
    documents = [result.to_dict() for result in results]
    screen.json(documents[0] if len(documents) == 1 else {"evaluations": documents})
    for number, result in enumerate(results):
        if number:
            screen.line()
        _show(screen, result)
    if plot is not None:
        screen.line(f"wrote {plot}")


def _named(progress: Progress, file: str) -> Progress:
    """Progress whose stages say which of several files they belong to."""
    return lambda stage, done, total: progress(f"{Path(file).name}, {stage}", done, total)


def _show(screen: ui.Screen, result: Evaluation) -> None:
    screen.line(f"{result.model}: {result.samples:,} samples of {result.data}, engine {result.engine}")
    if result.fallbacks:
        screen.line(f"computed by the reference kernels: {', '.join(result.fallbacks)}")
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
