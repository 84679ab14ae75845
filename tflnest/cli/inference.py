"""`tflnest run`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from tflnest.cli import ui
from tflnest.cli.connection import board_at, connection_options, take_connection
from tflnest.errors import UsageError, VerificationError

#: Most output values of a sample that are shown.
SHOWN_VALUES = 8
#: Most samples that are shown.
SHOWN_SAMPLES = 20


@click.command("run", short_help="Run the model on a board.")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    required=True,
    type=click.Path(),
    metavar="FILE",
    help="Samples: .npy, or .npz with key x. Once per input of the model.",
)
@click.option("--level", type=int, metavar="B", help="Switch there first. [default: as it is]")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N samples.")
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    metavar="NPY",
    help="Write the outputs there, .npz for several. [default: show them]",
)
@click.option("-f", "--force", is_flag=True, help="Overwrite the output.")
@click.option(
    "--compare",
    "reference",
    type=click.Path(),
    metavar="MODEL",
    help="Exit with 4 unless the outputs are those of the reference interpreter, bit by bit. [default: not]",
)
@click.option(
    "--policy",
    type=click.Choice(["static", "dynamic"]),
    help="What --compare runs: dynamic follows the controller in MODEL, as generated firmware does. [default: dynamic "
    "where MODEL has a controller]",
)
@connection_options
@ui.output_options
def command(
    inputs: tuple[str, ...],
    level: int | None,
    limit: int | None,
    output: str | None,
    force: bool,
    reference: str | None,
    policy: str | None,
    output_format: str,
    quiet: bool,
    no_progress: bool,
    **options: Any,
) -> None:
    """Run the board's model on samples. Inputs and outputs are checked end to end.

    \b
    Examples:
      tflnest run --input x.npy --port /dev/ttyACM0
      tflnest run --input x.npy --level 8 --compare nested.tflite -p COM3
    """
    from tflnest.bridge.info import BoardInfo
    from tflnest.files import check_writable

    screen = ui.screen(output_format, quiet, no_progress)
    if output:
        check_writable(output, force)
    samples = [_load(path, limit) for path in inputs]
    x = samples[0] if len(samples) == 1 else samples
    with board_at(**take_connection(options)) as board, screen.progress() as progress:
        given = board.run(x, level, progress)
        info: BoardInfo = board.info()
    outputs = list(given) if isinstance(given, tuple) else [given]
    if output:
        _save(output, outputs, force)
    different = None
    if reference:
        different = _compare(reference, x, outputs, info, policy)
    milliseconds = info.statistics.run_milliseconds
    screen.json(
        {
            "level": info.level,
            "samples": len(outputs[0]),
            "run_milliseconds": milliseconds,
            "output": output,
            "different_samples": different,
            "outputs": [value.tolist() for value in outputs] if output is None else None,
        }
    )
    _show(screen, outputs, info.level, milliseconds)
    if different:
        raise VerificationError(
            f"the outputs of {different:,} of {len(outputs[0]):,} samples are not those of the reference interpreter"
        )
    if different == 0:
        screen.line("bit-exact: all output values are those of the reference interpreter")


def _load(path: str, limit: int | None) -> NDArray[Any]:
    from tflnest.dataset import load_dataset

    return load_dataset(path).x[:limit]


def _save(path: str, outputs: list[NDArray[Any]], force: bool) -> None:
    import io

    from tflnest.files import write_file

    stream = io.BytesIO()
    if Path(path).suffix == ".npz":
        np.savez(stream, *outputs)
    elif len(outputs) > 1:
        raise UsageError(
            f"the model has {len(outputs)} outputs, and {path} takes one", "give a file that ends in .npz"
        )
    else:
        np.save(stream, outputs[0])
    write_file(path, stream.getvalue(), force)


def _compare(path: str, x: Any, outputs: list[NDArray[Any]], info: Any, policy: str | None) -> int:
    """Number of samples whose outputs are not those of the reference interpreter at the same level."""
    from tflnest.interpreter import Interpreter
    from tflnest.model import Model

    model = Model.load(path)
    if model.directory is not None and model.directory.identity != info.model.identity:
        raise UsageError(f"{path} is model {model.directory.name}, and the board runs {info.identity[:12]}")
    if info.level is None:
        raise UsageError("the operators of the board run at levels of their own", "name a level with --level")
    if policy is None:
        policy = "static" if model.controller is None else "dynamic"
    level = info.level if model.directory is not None else None
    result = Interpreter(model=model, level=level, policy=policy).run(x)
    expected = result if isinstance(result, tuple) else (result,)
    equal = np.ones(len(outputs[0]), bool)
    for given, wanted in zip(outputs, expected, strict=True):
        equal &= np.all((given == wanted).reshape(len(given), -1), axis=1)
    return int(np.sum(~equal))


def _show(screen: ui.Screen, outputs: list[NDArray[Any]], level: int | None, milliseconds: int) -> None:
    first = outputs[0].reshape(len(outputs[0]), -1)
    for number, row in enumerate(first[:SHOWN_SAMPLES]):
        more = " ..." if row.size > SHOWN_VALUES else ""
        screen.line(
            f"sample {number}: class {int(np.argmax(row))}  [{' '.join(map(str, row[:SHOWN_VALUES]))}{more}]"
        )
    if len(first) > SHOWN_SAMPLES:
        screen.line(f"... and {len(first) - SHOWN_SAMPLES:,} more")
    name = "mixed levels" if level is None else f"level {level}"
    noun = "sample" if len(first) == 1 else "samples"
    took = f"in {milliseconds:,} ms" if milliseconds else "in less than 1 ms"
    screen.line(f"{len(first):,} {noun} at {name}, the last one {took} on the board")
