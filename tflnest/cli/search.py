"""`tflnest search`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from converters.search.backends import BACKENDS
from converters.search.budgets import BUFFERS
from converters.search.searching import Goal, Method
from converters.search.trajectory_plot import write_trajectory_plot
from tflnest.cli import ui
from tflnest.errors import BudgetError, StoppedError, UsageError
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
    help="Training samples, scaled as in training: .npz with key x, and class numbers in y where attempts are trained.",
)
@click.option(
    "--validation",
    type=click.Path(),
    metavar="FILE",
    required=True,
    help="Labelled samples that decide, others than --data: .npz with keys x and y. A few thousand tell attempts apart.",
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
    help="Bytes of the filters in the file, or a share of their int8 bytes.",
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
    help="Train every attempt for so many epochs; needs a float SOURCE.",
)
@click.option("--ptq", is_flag=True, help="Round every attempt, without training. [default]")
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
    help="Which attempts count as near to the budgets: up to 85, 75 or 50 % of int8.",
)
@click.option(
    "--max-steps",
    type=click.IntRange(min=0),
    default=40,
    show_default=True,
    metavar="N",
    help="Steps of the second phase, at most; each measures a few attempts.",
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
    measured; other than uniform widths are taken where their lead on --validation is clear. Writes a recipe; exits
    with 5 where no attempt met all budgets, and says what stood in the way: the recipe is then that of the most
    accurate attempt within the bytes.

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
    with screen.progress() as progress, _resumable(options["journal"]):
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
            f"{_way_out(result, bool(epochs))}; the recipe is that of the most accurate attempt within the bytes",
        )
    return None


@contextmanager
def _resumable(journal: str | None) -> Iterator[None]:
    """Say of a search that the user stops how it can go on."""
    try:
        yield
    except KeyboardInterrupt:
        kept = journal is not None and Path(journal).exists()
        raise StoppedError(
            "the search was stopped; " + (f"{journal} has the attempts" if kept else "its attempts are lost"),
            "the same command goes on with them" if kept else "--journal FILE keeps them",
        ) from None


def _cycles_on(board: str) -> OperatorCycles:
    """What estimates the cycles of a model's operators on a board."""
    from firmware_sim.board import Board
    from firmware_sim.estimate import model_costs

    profile = Board.load(board)
    return lambda model: [item.cycles for item in model_costs(model, profile)]


def _way_out(result: Search, trained: bool) -> str:
    """What would have met the budgets."""
    cheapest, budgets = result.result.cheapest, result.result.budgets
    advice = "raise a budget, give more --widths, or " + (
        "train longer (--qat-epochs)" if trained else "train attempts of the float model (--qat-epochs)"
    )
    if cheapest is None:
        return advice
    costs = f"{cheapest.costs.bytes:,} bytes"
    if budgets.max_bit_operations is not None:
        costs += f" and {cheapest.costs.bit_operations:,} bit operations"
    return f"the smallest attempt that was accurate enough takes {costs}: {advice}"


def _against_uniform(comparison: Comparison) -> str:
    """Whether other than uniform widths pay, in words with numbers."""
    uniform = f"uniform {comparison.uniform[0]} bits"
    lead = f"by {abs(comparison.lead):.4f} ± {comparison.error:.4f} nats"
    if comparison.clear:
        return f"cross-entropy lower than with {uniform}: {lead}"
    tried = (
        f"the best of {comparison.challengers:,} others" if comparison.challengers > 1 else "the only other"
    )
    widths = " ".join(map(str, comparison.challenger))
    stay = f"{uniform} stay: the cross-entropy of {tried} ({widths}) is "
    if comparison.lead <= 0:
        return f"{stay}higher {lead}"
    return f"{stay}lower {lead}, and more than {comparison.needed:.1f} standard errors would be clear"


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
