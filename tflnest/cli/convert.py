"""`tflnest convert`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from converters import rounding
from converters.recipe import DEFAULT_PRESET, Keep, presets
from tflnest.cli import ui
from tflnest.nesting import Scheme

if TYPE_CHECKING:
    from converters.conversion import Conversion

#: The rounding methods of each scheme, its default first.
METHODS = "; ".join(f"{scheme}: {', '.join(rounding.names(scheme))}" for scheme in Scheme)

#: Filters whose errors are listed where nobody asks for all.
WORST = 10


@click.command("convert", short_help="Turn a model into a nested .tflite.")
@click.argument("source", type=click.Path())
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    metavar="FILE",
    help="The nested file. [default: SOURCE with .nested.tflite]",
)
@click.option(
    "--levels",
    type=ui.LEVELS,
    metavar="B,B,...",
    help="Increasing bit-widths, for example 6,8. [default: the recipe's, 4,6,8]",
)
@click.option(
    "--scheme",
    type=click.Choice([str(scheme) for scheme in Scheme]),
    help="How weights are divided. [default: the recipe's, bucket]",
)
@click.option(
    "--rounding",
    type=click.Choice(rounding.names()),
    metavar="METHOD",
    help=f"How weights are rounded. {METHODS}. [default: the scheme's first]",
)
@click.option(
    "--keep",
    type=click.Choice([str(item) for item in Keep]),
    help="full-bit: the top level is the int8 source. base: all levels rounded together, for the lowest one. "
    "[default: the recipe's; without one, base for chains below 4 bits with calibration data, else full-bit]",
)
@click.option(
    "--base-bits",
    type=click.FloatRange(1, 8),
    metavar="B",
    help="Mean bits per weight of the lowest level; sensitive filters get more. [default: as uniform]",
)
@click.option(
    "--base-bytes",
    type=ui.SIZE,
    metavar="SIZE",
    help="The same budget in bytes of all filters, for example 64KiB.",
)
@click.option(
    "--calibration",
    type=click.Path(),
    metavar="FILE",
    help="Training samples: .npz with key x, or .npy; samples first. Float models need them.",
)
@click.option(
    "--recipe",
    type=ui.RECIPE,
    metavar="FILE|PRESET",
    default=DEFAULT_PRESET,
    show_default=True,
    help=f"Which filters nest, and how: a TOML file, or a preset: {', '.join(presets())}.",
)
@ui.seed_option
@click.option("-f", "--force", is_flag=True, help="Overwrite the output.")
@click.option("-n", "--dry-run", is_flag=True, help="Do everything but write.")
@click.option(
    "-v", "--verbose", is_flag=True, help="List every filter: its errors, and why it nests or stays flat."
)
@ui.output_options
def command(source: str, output: str | None, verbose: bool, **options: Any) -> None:
    """Turn SOURCE into one .tflite that holds it at several bit-widths.

    SOURCE is a Keras model (.keras, .h5), a SavedModel folder, a float .tflite or an int8 .tflite. Float models
    become full-integer int8 first, which takes calibration data. The full-bit weights are those of the int8
    model, bit for bit, unless the rounding is joint (--keep base) or hierarchical.

    \b
    Examples:
      tflnest convert model_int8.tflite -o nested.tflite --levels 4,6,8
      tflnest convert model.keras -o nested.tflite --calibration train.npz
      tflnest convert model_int8.tflite --recipe nestquant --levels 6,8
    """
    from converters.conversion import convert

    screen = ui.screen(options.pop("output_format"), options.pop("quiet"), options.pop("no_progress"))
    target = output or default_output(source)
    with screen.progress() as progress:
        result = convert(source, target, progress=progress, **options)
    screen.json(result.to_dict())
    _show(screen, result, target, verbose)


def default_output(source: str) -> str:
    """`model.h5` -> `model.nested.tflite`."""
    from converters.sources import SUFFIXES

    path = Path(source)
    name = path.stem if path.suffix.lower() in SUFFIXES else path.name
    return str(path.parent / f"{name or 'model'}.nested.tflite")


def _show(screen: ui.Screen, result: Conversion, target: str, verbose: bool) -> None:
    int8, nested = len(result.int8.to_bytes()), len(result.model.to_bytes())
    kind = result.source_kind.replace("_", " ")
    screen.line(f"source  {ui.size(result.source_bytes):>14}  {result.source} ({kind})")
    screen.line(f"int8    {ui.size(int8):>14}")
    screen.line(f"nested  {ui.size(nested):>14}  {100 * nested / int8:.1f} % of int8; all levels in one file")
    screen.line()
    screen.table(
        ["level", "bits per weight", "page", "resident"],
        [
            (
                row["level"],
                f"{row['bits_per_weight']:.2f}",
                ui.size(row["page_bytes"]),
                ui.size(row["resident_bytes"]),
            )
            for row in result.to_dict()["levels"]
        ],
    )
    screen.line()
    reasons = Counter(item.reason.removeprefix("recipe: ") for item in result.filters if not item.levels)
    flat = "; ".join(f"{count} {reason}" for reason, count in reasons.items())
    screen.line(f"{result.nested} of {len(result.filters)} filters nest" + (f" ({flat})" if flat else ""))
    if result.nested:
        _show_errors(screen, result, None if verbose else WORST)
    if verbose:
        _show_filters(screen, result)
    for note in result.notes:
        screen.note(note)
    screen.line(f"wrote {target}" if result.output else f"dry run: {target} was not written")


def _show_errors(screen: ui.Screen, result: Conversion, limit: int | None) -> None:
    """The filters that cost most, the worst first."""
    nested = sorted((item for item in result.filters if item.levels), key=lambda item: -item.cost)
    hurt = sum(item.hurts for item in nested)
    kind = "weights" if result.errors_of == "weights" else f"outputs, on {result.errors_of}"
    measured = any(item.loss is not None for item in nested)
    screen.line()
    screen.line(
        f"relative error of {kind}; * marks the {hurt} of {len(nested)} that make up half of the loss"
    )
    screen.table(
        [
            "filter",
            "",
            "levels",
            *(f"at {level}" for level in result.levels),
            *(["loss"] if measured else []),
        ],
        [
            (
                item.name,
                "*" if item.hurts else "",
                ",".join(map(str, item.levels)),
                *(f"{100 * item.errors[level]:.1f} %" for level in result.levels),
                *(["-" if item.loss is None else f"{item.loss:.3g}"] if measured else []),
            )
            for item in nested[:limit]
        ],
        left=("filter",),
    )
    if limit is not None and len(nested) > limit:
        screen.line(f"and {len(nested) - limit} more with less loss: see --verbose")


def _show_filters(screen: ui.Screen, result: Conversion) -> None:
    screen.line()
    screen.table(
        ["filter", "operator", "weights", "levels", "why"],
        [
            (
                item.name,
                item.operator,
                f"{item.weights:,}",
                ",".join(map(str, item.levels)) or "flat",
                item.reason,
            )
            for item in result.filters
        ],
        left=("filter", "operator", "why"),
    )
    screen.line()
