"""`tflnest search`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from converters.search.budgets import BUFFERS
from converters.search.trials import BACKENDS
from tflnest.cli import ui
from tflnest.errors import BudgetError, UsageError
from tflnest.files import check_writable, write_file

if TYPE_CHECKING:
    from converters.search import Search


@click.command("search", short_help="Find a width for every filter under budgets.")
@click.argument("source", type=click.Path())
@click.option(
    "--data",
    "calibration",
    type=click.Path(),
    metavar="FILE",
    required=True,
    help="Training samples: .npz with key x, and labels in y where attempts are trained.",
)
@click.option(
    "--validation",
    type=click.Path(),
    metavar="FILE",
    required=True,
    help="Labelled samples that decide, others than --data.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    metavar="FILE",
    help="The recipe, which convert takes. [default: SOURCE with .recipe.toml]",
)
@click.option(
    "--model", "model_path", type=click.Path(), metavar="FILE", help="Also write the model that was found."
)
@click.option(
    "--max-drop",
    type=click.FloatRange(min=0),
    default=1.0,
    show_default=True,
    metavar="POINTS",
    help="Accuracy that may be lost against int8.",
)
@click.option(
    "--max-bytes",
    default="75%",
    show_default=True,
    metavar="N|N%",
    help="Bytes of the searched filters, or a share of their int8 bytes.",
)
@click.option(
    "--max-bops",
    "max_bit_operations",
    type=click.IntRange(min=1),
    metavar="N",
    help="Bit operations of an inference: multiply-accumulates times weight bits times 8.",
)
@click.option(
    "--qat-epochs",
    "epochs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Train every attempt for so many epochs.",
)
@click.option("--ptq", is_flag=True, help="Round every attempt jointly, without training. [default]")
@click.option(
    "--preset",
    type=click.Choice(list(BUFFERS)),
    default="balanced",
    show_default=True,
    help="How near to the budgets an attempt must come before it is refined.",
)
@click.option(
    "--max-steps",
    type=click.IntRange(min=0),
    default=40,
    show_default=True,
    metavar="N",
    help="Steps of the second phase.",
)
@click.option(
    "--recipe",
    type=ui.RECIPE,
    default="uniform",
    show_default=True,
    metavar="FILE|PRESET",
    help="Which filters may nest; the others are not searched.",
)
@click.option(
    "--jobs",
    type=int,
    default=1,
    show_default=True,
    metavar="N",
    help="Attempts at a time; -1 for one per core.",
)
@click.option(
    "--backend",
    type=click.Choice(BACKENDS),
    default="loky",
    show_default=True,
    help="Where attempts run; dask and ray use the cluster that is there.",
)
@click.option(
    "--journal",
    type=click.Path(),
    metavar="FILE",
    help="Keeps the attempts; the same command goes on with it after it was stopped.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="For all that is drawn at random.",
)
@click.option("-f", "--force", is_flag=True, help="Overwrite the recipe and the model.")
@ui.output_options
def command(
    source: str,
    output: str | None,
    model_path: str | None,
    epochs: int | None,
    ptq: bool,
    preset: str,
    force: bool,
    output_format: str,
    quiet: bool,
    no_progress: bool,
    **options: Any,
) -> int | None:
    """Find the width of every filter of SOURCE within budgets of accuracy and bytes.

    Groups the filters by the spread of their weights (sigma), then moves bits where the quantized weights diverge,
    until the budgets hold. Every attempt is built and measured. Writes a recipe; exits with 5 where no attempt met
    all budgets, and says what stood in the way: the recipe is then that of the nearest attempt.

    \b
    Examples:
      tflnest search int8.tflite --data a.npz --validation b.npz --max-bytes 40%
      tflnest search model.keras --data a.npz --validation b.npz --qat-epochs 2
    """
    from converters.search import search

    if ptq and epochs:
        raise UsageError("--ptq and --qat-epochs are both given", "attempts are rounded or trained")
    screen = ui.screen(output_format, quiet, no_progress)
    target = output or f"{source.rstrip('/')}.recipe.toml"
    check_writable(target, force)
    if model_path is not None:
        check_writable(model_path, force)
    with screen.progress() as progress:
        result = search(source, epochs=epochs or 0, buffer=BUFFERS[preset], progress=progress, **options)
    write_file(target, result.recipe.to_toml().encode(), force)
    if model_path is not None:
        result.model.save(model_path, force)
    screen.json(result.to_dict())
    _show(screen, result)
    screen.line(f"wrote {target}" + (f" and {model_path}" if model_path is not None else ""))
    if result.result.missed:
        raise BudgetError(
            f"the budgets were not met: {'; '.join(result.result.missed)}",
            "raise that budget, or let attempts be trained (--qat-epochs); the recipe is the nearest attempt's",
        )
    return None


def _show(screen: ui.Screen, result: Search) -> None:
    found = result.result
    screen.table(
        ["phase", "accuracy", "drop", "bytes", "bit operations", "zone", "bits of the filters"],
        [
            (
                step.phase,
                f"{step.accuracy:.2f} %",
                f"{step.drop:.2f}",
                f"{step.costs.bytes:,}",
                f"{step.costs.bit_operations:,}",
                str(step.zone),
                " ".join(map(str, step.widths)),
            )
            for step in found.trajectory
        ],
    )
    screen.line()
    screen.table(
        ["filter", "bits", "weights", "sigma"],
        [
            (layer.name, width, f"{layer.weights:,}", f"{layer.sigma:.4g}")
            for layer, width in zip(found.layers, found.best.widths, strict=True)
        ],
    )
    screen.line()
    screen.line(
        f"{found.status}: {found.best.accuracy:.2f} %, {found.best.drop:.2f} points below int8, "
        f"{found.best.costs.bytes:,} bytes, {result.mean_bits:.2f} bits per weight"
    )
