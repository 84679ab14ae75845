"""`tflnest train`."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tflnest.cli import ui
from tflnest.errors import StoppedError

if TYPE_CHECKING:
    from converters.training.checkpoints import EpochResult
    from converters.training.running import TrainingResult


@click.command("train", short_help="Train all levels of a model together.")
@click.argument("job", type=click.Path(), metavar="CONFIG|SCRIPT")
@click.option(
    "-o", "--output", type=click.Path(), metavar="FILE", help="The nested model. [default: that of the job]"
)
@click.option(
    "--epochs", type=click.IntRange(min=1), metavar="N", help="Passes over the data, instead of the job's."
)
@click.option(
    "--restart", is_flag=True, help="Start anew, and forget the checkpoints of a training that was stopped."
)
@click.option("-f", "--force", is_flag=True, help="Overwrite the nested model.")
@ui.output_options
def command(
    job: str,
    output: str | None,
    epochs: int | None,
    restart: bool,
    force: bool,
    output_format: str,
    quiet: bool,
    no_progress: bool,
) -> None:
    """Train a float model at all its levels, and write it as a nested file.

    A checkpoint is kept after every epoch, in a folder beside the output: the same command goes on after it was
    stopped. A SCRIPT is Python with a function job() that returns a tflnest.TrainingJob; a CONFIG is TOML, with
    paths relative to it:

    \b
      model = "model.keras"
      output = "nested.tflite"
      levels = [2, 4, 6, 8]
      epochs = 10
      [data]
      training = "training.npz"
      validation = "validation.npz"

    \b
    More keys: recipe, start, batch, seed, devices; calibration in [data];
      [optimizer]     name, rate, schedule, warmup, momentum, weight_decay
      [augmentation]  flip, shift
      [options]       alpha, distillation, biases_per_level, activations,
                      activation_range, levels_per_step, only_level

    \b
    Examples:
      tflnest train digits.toml
      KERAS_BACKEND=jax tflnest train digits.toml --epochs 20 --restart
    """
    from converters.training import train
    from converters.training.job_files import read_job

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    screen = ui.screen(output_format, quiet, no_progress)
    chosen = read_job(job)
    chosen = replace(chosen, output=Path(output or chosen.output), epochs=epochs or chosen.epochs)
    try:
        with screen.progress() as progress:
            result = train(
                chosen,
                restart=restart,
                force=force,
                progress=progress,
                report=lambda epoch: _epoch(screen, epoch),
            )
    except KeyboardInterrupt:
        kept = chosen.checkpoints.exists()
        raise StoppedError(
            "the training was stopped",
            f"the last checkpoint is in {chosen.checkpoints}; the same command goes on from it"
            if kept
            else None,
        ) from None
    screen.json({**result.to_dict(), "output": str(chosen.output)})
    _show(screen, result, chosen.output)


def _epoch(screen: ui.Screen, epoch: EpochResult) -> None:
    accuracy = ", ".join(f"{level} bits {ui.percent(top1)}" for level, top1 in epoch.accuracy.items())
    screen.note(
        f"epoch {epoch.epoch}: loss {epoch.loss:.4f}, {epoch.seconds:.0f} s"
        + (f"; {accuracy}" if accuracy else "")
    )


def _show(screen: ui.Screen, result: TrainingResult, output: Path) -> None:
    if result.resumed_after:
        screen.line(f"went on after epoch {result.resumed_after}")
    if any(top1 is not None for top1 in result.accuracy.values()):
        screen.table(
            ["level", "top-1"], [(level, ui.percent(top1)) for level, top1 in result.accuracy.items()]
        )
    for name, reason in result.flat.items():
        screen.line(f"flat: {name} ({reason})")
    screen.line(f"wrote {output}: {ui.size(len(result.model.to_bytes()))}")
