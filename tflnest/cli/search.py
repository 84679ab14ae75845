"""`tflnest search`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from converters.search.backends import BACKENDS
from converters.search.budgets import BUFFERS
from converters.search.searching import Goal, Method
from converters.search.trajectory_plot import write_trajectory_plot
from tflnest.cli import ui
from tflnest.errors import BudgetError, UsageError
from tflnest.files import check_writable, write_file
from tflnest.schema import require_extra

if TYPE_CHECKING:
    from converters.search import Search
    from converters.search.comparison import Comparison
    from converters.search.costs import OperatorCycles


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
    "--plot", type=click.Path(), metavar="PNG", help="Draw every attempt by its bytes and accuracy."
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
    help="Bytes of the filters, or a share of their int8 bytes.",
)
@click.option(
    "--max-bops",
    "max_bit_operations",
    metavar="N|N%",
    help="Bit operations of an inference (multiply-accumulates times weight bits times 8), or a share of int8's.",
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
    "--widths",
    type=ui.LEVELS,
    default="2,4,6,8",
    show_default=True,
    metavar="B,B,...",
    help="Bit-widths to choose from.",
)
@click.option(
    "--single",
    is_flag=True,
    help="A model of the found widths alone: its file is small, and there is no full-bit level to page in.",
)
@click.option(
    "--goal",
    type=click.Choice([str(goal) for goal in Goal]),
    default="accuracy",
    show_default=True,
    help="What is best within the budgets: the least loss, the smallest, or the first that is found.",
)
@click.option(
    "--method",
    "methods",
    type=click.Choice([str(method) for method in Method]),
    multiple=True,
    default=[str(method) for method in Method],
    help="What proposes assignments; may be repeated. sigma and divergence are the paper's. [default: all]",
)
@click.option(
    "--preset",
    type=click.Choice(list(BUFFERS)),
    default="balanced",
    show_default=True,
    help="How near to the budgets an attempt counts as near.",
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
@click.option("--board", type=ui.BOARD, metavar="NAME|FILE", help="Also estimate the cycles on this board.")
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
    help="Where attempts run: loky is processes here; dask and ray use a cluster that is there.",
)
@click.option(
    "--cluster",
    metavar="ADDRESS",
    help="Dask scheduler or Ray cluster. [default: DASK_SCHEDULER_ADDRESS, RAY_ADDRESS]",
)
@click.option(
    "--journal",
    type=click.Path(),
    metavar="FILE",
    help="Keeps the attempts; the same command goes on with it after it was stopped.",
)
@ui.seed_option
@click.option("-f", "--force", is_flag=True, help="Overwrite the recipe, the model and the picture.")
@ui.output_options
def command(
    source: str,
    output: str | None,
    model_path: str | None,
    plot: str | None,
    epochs: int | None,
    ptq: bool,
    preset: str,
    board: str | None,
    force: bool,
    output_format: str,
    quiet: bool,
    no_progress: bool,
    **options: Any,
) -> int | None:
    """Find the width of every filter of SOURCE within budgets of accuracy and bytes.

    Groups the filters by the spread of their weights (sigma), then moves bits where the quantized weights diverge,
    until the budgets hold; uniform widths and measured losses propose assignments too. Every attempt is built and
    measured. Writes a recipe; exits with 5 where no attempt met all budgets, and says what stood in the way: the
    recipe is then that of the most accurate attempt within the bytes.

    \b
    Examples:
      tflnest search int8.tflite --data a.npz --validation b.npz --max-bytes 40%
      tflnest search int8.tflite --data a.npz --validation b.npz --plot s.png
      tflnest search model.keras --data a.npz --validation b.npz --qat-epochs 2
      tflnest search int8.tflite --data a.npz --validation b.npz --backend dask
    """
    from converters.search import search

    if ptq and epochs:
        raise UsageError("--ptq and --qat-epochs are both given", "attempts are rounded or trained")
    screen = ui.screen(output_format, quiet, no_progress)
    target = output or f"{source.rstrip('/')}.recipe.toml"
    for path in (target, model_path, plot):
        if path is not None:
            check_writable(path, force)
    if plot is not None:
        require_extra("matplotlib", "plot", "to draw the trajectory of a search")
    with screen.progress() as progress:
        result = search(
            source,
            epochs=epochs or 0,
            buffer=BUFFERS[preset],
            operator_cycles=None if board is None else _cycles_on(board),
            progress=progress,
            **options,
        )
    write_file(target, result.recipe.to_toml().encode(), force)
    if model_path is not None:
        result.model.save(model_path, force)
    if plot is not None:
        write_trajectory_plot(result.result, plot, force)
    for note in result.notes:
        screen.note(note)
    screen.json(result.to_dict())
    _show(screen, result)
    screen.line(f"wrote {', '.join(filter(None, (target, model_path, plot)))}")
    if result.result.missed:
        raise BudgetError(
            f"the budgets were not met: {'; '.join(result.result.missed)}",
            f"{_way_out(result)}; the recipe is that of the most accurate attempt within the bytes",
        )
    return None


def _cycles_on(board: str) -> OperatorCycles:
    """What estimates the cycles of a model's operators on a board."""
    from firmware_sim.board import Board
    from firmware_sim.estimate import model_costs

    profile = Board.load(board)
    return lambda model: [item.cycles for item in model_costs(model, profile)]


def _way_out(result: Search) -> str:
    """What would have met the budgets."""
    cheapest = result.result.cheapest
    if cheapest is None or len(cheapest.widths) == 0:
        return "raise the budgets"
    return (
        f"the smallest attempt that was accurate enough takes {cheapest.costs.bytes:,} bytes and "
        f"{cheapest.costs.bit_operations:,} bit operations: raise a budget, or train attempts (--qat-epochs)"
    )


def _against_uniform(comparison: Comparison) -> str:
    """Whether other than uniform widths pay, in words with numbers."""
    lead = (
        f"a cross-entropy {comparison.lead:.4f} ± {comparison.error:.4f} lower than uniform "
        f"{comparison.uniform[0]} bits"
    )
    if comparison.clear:
        return f"the widths of {len(comparison.challenger):,} filters pay: they have {lead}"
    tried = (
        f"the best of {comparison.challengers:,} others" if comparison.challengers > 1 else "the only other"
    )
    return (
        f"uniform widths stay: {tried}, {' '.join(map(str, comparison.challenger))}, has {lead}, which is not "
        f"clear (more than {comparison.needed:.1f} standard errors)"
    )


def _show(screen: ui.Screen, result: Search) -> None:
    found = result.result
    with_cycles = result.full.cycles is not None
    screen.table(
        [
            "proposed by",
            "accuracy",
            "drop",
            "loss",
            "bytes",
            "bit operations",
            "energy*",
            "latency*",
            *(["cycles**"] if with_cycles else []),
            "zone",
            "bits of the filters",
        ],
        [
            (
                step.phase,
                f"{step.accuracy:.2f} %",
                f"{step.drop:.2f}",
                f"{step.loss:.4f}",
                f"{step.costs.bytes:,}",
                f"{step.costs.bit_operations:,}",
                f"{step.costs.energy:.3f}",
                f"{step.costs.latency:.2f}",
                *([f"{step.costs.cycles:,.0f}"] if step.costs.cycles is not None else []),
                str(step.zone),
                " ".join(map(str, step.widths)),
            )
            for step in found.trajectory
        ],
    )
    screen.line("* of a shift-add unit against an INT8 multiplier, fitted to published figures")
    if with_cycles:
        screen.line("** of an inference on the board, estimated")
    screen.line()
    screen.table(
        ["filter", "bits", "weights", "sigma"],
        [
            (layer.name, width, f"{layer.weights:,}", f"{layer.sigma:.4g}")
            for layer, width in zip(found.layers, found.best.widths, strict=True)
        ],
    )
    screen.line()
    share = found.best.costs.bytes / max(result.full.bytes, 1)
    screen.line(
        f"{found.status}: {found.best.accuracy:.2f} %, {found.best.drop:.2f} points below int8, "
        f"{found.best.costs.bytes:,} bytes ({100 * share:.1f} % of int8), {result.mean_bits:.2f} bits per weight"
    )
    if found.comparison is not None:
        screen.line(_against_uniform(found.comparison))
    screen.line(f"{len(found.trajectory):,} attempts; the search ended because {found.ending}")
    screen.line(
        f"base page {ui.size(result.page_bytes)}, file {ui.size(len(result.model.to_bytes()))}: with biases and "
        "all else that the model needs"
    )
