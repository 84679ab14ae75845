"""Trains networks nested, and with a width each, and prints the tables of docs/training.md.

    python -m benchmarks.training --quick
    python -m benchmarks.training --model float.keras --training train.npz --test test.npz --checkpoints runs

Run it from the project's root. `--quick` trains the digits model of the examples. Accuracy is that of the exported
file in the native engine; the float model runs in stock TensorFlow Lite. What is finished is kept in the folder of the
checkpoints, as JSON: the same command goes on after it was stopped, and prints the tables at the end.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from converters.recipe import load_recipe
from converters.sources import load_source
from converters.training import train
from converters.training.job import LEVELS, Augmentation, OptimizerOptions, TrainingJob
from converters.training.options import TrainingOptions
from tests.shared import ROOT
from tflnest.dataset import Dataset
from tflnest.evaluation import evaluate
from tflnest.files import write_file

DIGITS = ROOT / "examples" / "digits.keras"

#: Widths at which separate models are trained.
SEPARATE = (4, 2)

#: Where activations are read at few bits, the part of their range that they hold at first.
RANGE = 0.4

#: Digits that are trained on, of 1,797.
DIGITS_TRAINED = 1200


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        name: Of its files.
        title: What tables call it.
        options: Losses, and what is trained.
        short: Whether it takes the epochs of the short runs.
        levels_together: Whether it takes as many forward passes as separate short runs for all levels do together.
        follows: Whether it starts with the weights of the run `nested`.
    """

    name: str
    title: str
    options: TrainingOptions = field(default_factory=lambda: TrainingOptions(levels_per_step=2))
    short: bool = False
    levels_together: bool = False
    follows: bool = False


NESTED = Run("nested", "nested, activations at 8 bits")
BOTH = Run(
    "both",
    "nested, weights and activations",
    TrainingOptions(alpha=1.0, distillation=3.0, activations=True, levels_per_step=3, activation_range=RANGE),
    levels_together=True,
    follows=True,
)
ALONE = {
    bits: Run(
        f"alone-{bits}",
        f"{bits} bits alone, weights and activations",
        TrainingOptions(activations=True, only_level=bits, activation_range=RANGE),
        short=True,
        follows=True,
    )
    for bits in SEPARATE
}
ABLATION = (
    Run("all", "as it is", short=True),
    Run("no-alpha", "alpha = 0", TrainingOptions(alpha=0.0, levels_per_step=2), short=True),
    Run("no-teacher", "no distillation", TrainingOptions(distillation=0.0, levels_per_step=2), short=True),
    Run(
        "one-bias",
        "one bias for all levels",
        TrainingOptions(biases_per_level=False, levels_per_step=2),
        short=True,
    ),
    Run("all-levels", "all levels in each step", TrainingOptions(), short=True),
)
RUNS = (NESTED, BOTH, *ALONE.values(), *ABLATION)


@dataclass(frozen=True)
class Bench:
    """What all trainings share.

    Attributes:
        job: Model, data and hyperparameters; epochs are those of the long run.
        short_epochs: Epochs of the short ones.
        folder: Of results and checkpoints.
    """

    job: TrainingJob
    short_epochs: int
    folder: Path

    def measure(self, run: Run) -> dict[int, float]:
        """Share of test samples that each level gets right, trained now or before."""
        path = self.folder / f"{run.name}.json"
        if not path.exists():
            result = train(self._job(run), force=True, progress=_say(run.name), report=print)
            write_file(path, json.dumps(result.to_dict(), indent=2).encode())
        return {row["level"]: row["top1"] for row in json.loads(path.read_text())["levels"]}

    def _job(self, run: Run) -> TrainingJob:
        output = self.folder / f"{run.name}.tflite"
        return replace(
            self.job,
            output=output,
            options=run.options,
            epochs=self._epochs(run),
            start=self._last_checkpoint(NESTED) if run.follows else None,
        )

    def _epochs(self, run: Run) -> int:
        if run.levels_together:
            return max(1, self.short_epochs * len(LEVELS) // (run.options.levels_per_step or len(LEVELS)))
        return self.short_epochs if run.short else self.job.epochs

    def _last_checkpoint(self, run: Run) -> Path:
        self.measure(run)
        return max((self.folder / f"{run.name}.tflite.checkpoints").glob("epoch-*.keras"))

    def float_accuracy(self) -> float:
        """Share of test samples that the float model gets right."""
        assert self.job.validation is not None
        return evaluate(load_source(self.job.model).model, self.job.validation).levels[-1].top1 or 0.0


def tables(bench: Bench, wanted: set[str]) -> Iterator[str]:
    """The lines of the tables, in Markdown; of runs that are not wanted, what is there.

    Args:
        bench: What is trained.
        wanted: Names of the runs to train where they are not finished.
    """

    def found(run: Run) -> dict[int, float] | None:
        done = run.name in wanted or (bench.folder / f"{run.name}.json").exists()
        return bench.measure(run) if done else None

    base = bench.float_accuracy()
    yield f"float model: {base:.2%} of {len(bench.job.validation or ())} test samples\n"
    yield "| training | " + " | ".join(f"{level} bits" for level in reversed(LEVELS)) + " |"
    yield "|---|" + "---:|" * len(LEVELS)
    for run in (NESTED, BOTH, *ABLATION):
        accuracy = found(run)
        if accuracy is not None:
            cells = (
                f"{accuracy[level]:.2%} ({100 * (accuracy[level] - base):+.2f})" for level in reversed(LEVELS)
            )
            yield f"| {run.title} | " + " | ".join(cells) + " |"
    both = found(BOTH)
    yield "\n| weights and activations | nested | alone | difference |\n|---|---:|---:|---:|"
    for bits, run in ALONE.items():
        alone = found(run)
        if both is not None and alone is not None:
            difference = 100 * (both[bits] - alone[bits])
            yield f"| {bits} bits | {both[bits]:.2%} | {alone[bits]:.2%} | {difference:+.2f} |"


def _say(name: str) -> Any:
    """Progress in lines, one per hundred steps."""

    def progress(stage: str, done: int, total: int) -> None:
        if done % 100 == 0 or done == total:
            print(f"{name}: {stage} {done} of {total}", flush=True)

    return progress


def _digits() -> tuple[Dataset, Dataset]:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    images = (x / 16.0).astype(np.float32).reshape(-1, 8, 8, 1)
    parts = (slice(DIGITS_TRAINED), slice(DIGITS_TRAINED, None))
    training, test = (Dataset(images[part], y[part].astype(np.int64), "digits") for part in parts)
    return training, test


def _load(path: Path) -> Dataset:
    """Samples as real numbers; whole ones stay what they are."""
    with np.load(path) as arrays:
        return Dataset(arrays["x"].astype(np.float32), arrays["y"].reshape(-1).astype(np.int64), path.name)


def _parse(arguments: list[str] | None) -> tuple[Bench, set[str]]:
    parser = argparse.ArgumentParser(description="Nested training, in tables.")
    parser.add_argument("--quick", action="store_true", help="the digits model, two epochs of each")
    parser.add_argument("--model", type=Path, help="the float model: .keras, .h5 or .tflite")
    parser.add_argument("--training", type=Path, help="labelled samples, .npz with x and y")
    parser.add_argument("--test", type=Path, help="labelled samples that are measured")
    parser.add_argument(
        "--checkpoints", type=Path, default=Path("out/training"), help="folder of the results"
    )
    parser.add_argument("--epochs", type=int, default=10, help="of the long run")
    parser.add_argument("--short-epochs", type=int, default=3, help="of the others")
    parser.add_argument("--rate", type=float, default=1e-3, help="highest learning rate")
    parser.add_argument("--runs", default=",".join(run.name for run in RUNS), help="which to train")
    options = parser.parse_args(arguments)
    if not options.quick and not (options.model and options.training and options.test):
        parser.error("give --quick, or --model, --training and --test")
    training, test = _digits() if options.quick else (_load(options.training), _load(options.test))
    options.checkpoints.mkdir(parents=True, exist_ok=True)
    job = TrainingJob(
        model=DIGITS if options.quick else options.model,
        data=training,
        validation=test,
        output=options.checkpoints / "nested.tflite",
        recipe=load_recipe(None).with_options(levels=LEVELS),
        epochs=2 if options.quick else options.epochs,
        optimizer=OptimizerOptions(rate=options.rate),
        augmentation=Augmentation(shift=1) if options.quick else Augmentation(flip=True, shift=4),
    )
    return Bench(job, 1 if options.quick else options.short_epochs, options.checkpoints), set(
        options.runs.split(",")
    )


def main(arguments: list[str] | None = None) -> None:
    """Train what is missing, and print the tables."""
    bench, wanted = _parse(arguments)
    for run in RUNS:
        if run.name in wanted:
            bench.measure(run)
    print("\n".join(tables(bench, wanted)))


if __name__ == "__main__":
    main()
