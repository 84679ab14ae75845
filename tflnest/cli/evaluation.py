"""`tflnest eval`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from tflnest.accuracy_plot import write_accuracy_plot
from tflnest.cli import ui
from tflnest.cli.widths import millions, show_widths
from tflnest.errors import UsageError
from tflnest.evaluation import Evaluation, LevelAccuracy, PolicyAccuracy, evaluate
from tflnest.files import check_writable
from tflnest.interpreter import ENGINES
from tflnest.margin import Calibration
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
@click.option(
    "--policy",
    metavar="POLICY",
    help="static, dynamic (the controller in the file chooses), margin:T, margin:T:LEVEL or margin:auto. "
    "[default: all levels, and dynamic where the file has a controller]",
)
@click.option(
    "--max-drop",
    type=float,
    metavar="POINTS",
    help="margin:auto: accuracy that may be lost. [default: no limit]",
)
@click.option(
    "--max-bops",
    metavar="N%",
    help="margin:auto: mean bit operations, of those at full-bit. [default: no limit]",
)
@click.option(
    "--calibration",
    type=click.Path(),
    metavar="FILE",
    help="margin:auto: data to choose the threshold on. [default: the data]",
)
@click.option(
    "--widths",
    type=click.Path(),
    metavar="NPZ",
    help="Write there what every operator ran with, input by input.",
)
@click.option("--plot", type=click.Path(), metavar="PNG", help="Draw accuracy against resident bytes.")
@click.option("-f", "--force", is_flag=True, help="Overwrite the picture and the widths.")
@ui.output_options
def command(
    files: tuple[str, ...],
    widths: str | None,
    plot: str | None,
    force: bool,
    max_bops: str | None,
    output_format: str,
    quiet: bool,
    no_progress: bool,
    **options: Any,
) -> None:
    """Measure what accuracy each level of FILE keeps.

    Prints top-1 where the data has labels, and always how often a level gives the same class as the full-bit
    level, how often all its outputs are identical, and their mean difference. FILE may be nested, plain int8 or
    float; several share the data and the picture, one curve each, and their JSON is a list.

    A policy decides for each input. dynamic: the controller in the file chooses widths for every operator.
    margin:0.2: the lowest level runs, and the one of --level (full-bit) again where the largest output exceeds the
    second by less than 0.2; margin:auto chooses that threshold, for --max-drop or for --max-bops. Their report has
    mean bit operations, the widths of every operator, and what is paged.

    \b
    Examples:
      tflnest eval nested.tflite --data test.npz --level all
      tflnest eval nested.tflite int8.tflite --data test.npz --plot accuracy.png
      tflnest eval nested.tflite --data x.npz --policy margin:auto --max-drop 0.5
    """
    options["max_cost"] = None if max_bops is None else _share(max_bops)
    screen = ui.screen(output_format, quiet, no_progress)
    if widths is not None:
        check_writable(widths, force)
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
    if widths is not None:
        _write_widths(results, widths, force)
    documents = [result.to_dict() for result in results]
    screen.json(documents[0] if len(documents) == 1 else {"evaluations": documents})
    for number, result in enumerate(results):
        if number:
            screen.line()
        _show(screen, result)
    for path in (widths, plot):
        if path is not None:
            screen.line(f"wrote {path}")


def _write_widths(results: list[Evaluation], path: str, force: bool) -> None:
    """The widths of the only policy that ran."""
    policies = [result.policy for result in results if result.policy is not None]
    if len(policies) != 1:
        raise UsageError(
            f"--widths writes those of one policy, and {len(policies)} ran",
            "name one file, and a policy with --policy",
        )
    policies[0].widths.save(path, force)


def _named(progress: Progress, file: str) -> Progress:
    """Progress whose stages say which of several files they belong to."""
    return lambda stage, done, total: progress(f"{Path(file).name}, {stage}", done, total)


def _share(text: str) -> float:
    """A share of the full-bit level's bit operations: "60%"."""
    try:
        share = float(text.removesuffix("%")) / 100
    except ValueError:
        share = 0.0
    if not text.endswith("%") or not 0 < share < math.inf:
        raise UsageError(f"--max-bops {text} is no share", "give a percentage, as 60%")
    return share


def _show(screen: ui.Screen, result: Evaluation) -> None:
    screen.line(f"{result.model}: {result.samples:,} samples of {result.data}, engine {result.engine}")
    if result.fallbacks:
        screen.line(f"computed by the reference kernels: {', '.join(result.fallbacks)}")
    screen.line()
    rows: list[LevelAccuracy | PolicyAccuracy] = [*result.levels]
    rows += [] if result.policy is None else [result.policy]
    screen.table(
        ["level", "top-1", "agreement", "identical", "mean diff", "resident", "bit ops", "ms/sample"],
        [
            (
                row.policy if isinstance(row, PolicyAccuracy) else row.level,
                ui.percent(row.top1),
                ui.percent(row.agreement),
                ui.percent(row.identical),
                f"{row.mean_difference:.3f}",
                "-" if row.resident_bytes is None else ui.size(row.resident_bytes),
                "-" if row.bit_operations is None else millions(row.bit_operations),
                f"{1000 * row.seconds / result.samples:.2f}",
            )
            for row in rows
        ],
    )
    if result.calibration is not None:
        _show_calibration(screen, result.calibration)
    if result.policy is not None:
        _show_policy(screen, result.policy)


def _show_calibration(screen: ui.Screen, found: Calibration) -> None:
    screen.line()
    screen.line(
        f"{found.policy} was calibrated: a drop of {found.drop:.2f} points there, {ui.percent(found.repeated)} run "
        f"twice, {ui.percent(found.cost)} of the full-bit level's bit operations"
    )


def _show_policy(screen: ui.Screen, row: PolicyAccuracy) -> None:
    shifts = row.narrowed_activations + row.narrowed_weights
    screen.line()
    screen.line(f"mean of an input under the policy {row.policy}")
    lines = [
        ("bit operations", millions(row.bit_operations)),
        ("run twice", ui.percent(row.repeated)),
        ("paged in", f"{ui.size(round(row.paged_bytes))}"),
        (
            "transitions",
            f"{shifts:,.0f} shifts ({row.narrowed_activations:,.0f} activations, {row.narrowed_weights:,.0f} weights) "
            f"instead of {row.requantization_macs:,.0f} multiply-accumulates",
        ),
    ]
    if row.limited:
        lines.append(("limited", f"{ui.percent(row.limited)} of the choices, by the level that is set"))
    screen.facts(lines)
    show_widths(screen, row.operators)
