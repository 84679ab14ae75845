"""What a whole training is made of: model, data, levels, and how it runs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from converters.recipe import Recipe, load_recipe
from converters.training.options import TrainingOptions
from tflnest.dataset import Dataset
from tflnest.errors import UsageError
from tflnest.nesting import MASTER_BITS

#: Levels where nothing else is said: all that the paper trains together.
LEVELS = (2, 4, 6, MASTER_BITS)

#: Samples that give the first scales of the activations.
CALIBRATION_SAMPLES = 512


def default_options() -> TrainingOptions:
    """Losses of all levels, two of which run in a step."""
    return TrainingOptions(levels_per_step=2)


class OptimizerName(StrEnum):
    """Optimizers that a configuration can name."""

    ADAM = "adam"
    ADAMW = "adamw"
    SGD = "sgd"


class Schedule(StrEnum):
    """How the learning rate goes on after it has risen."""

    COSINE = "cosine"
    CONSTANT = "constant"


@dataclass(frozen=True)
class OptimizerOptions:
    """An optimizer and its learning rate.

    Attributes:
        name: "adam", "adamw" or "sgd" (with Nesterov momentum).
        rate: Highest learning rate, > 0.
        schedule: "cosine" (down to 0 at the end) or "constant".
        warmup: Steps in which the rate rises from 0.
        momentum: Of "sgd", 0 to 1.
        weight_decay: Of "adamw", 0 or more.

    Raises:
        UsageError: A name is unknown, or a number out of its range.
    """

    name: str = OptimizerName.ADAM
    rate: float = 1e-3
    schedule: str = Schedule.COSINE
    warmup: int = 100
    momentum: float = 0.9
    weight_decay: float = 0.004

    def __post_init__(self) -> None:
        for value, kind, where in (
            (self.name, OptimizerName, "optimizer"),
            (self.schedule, Schedule, "schedule"),
        ):
            if value not in list(kind):
                raise UsageError(f"there is no {where} {value!r}", f"choices are {', '.join(kind)}")
        if not (math.isfinite(self.rate) and self.rate > 0):
            raise UsageError(f"the learning rate is {self.rate}, more than 0 was expected")
        if self.warmup < 0 or not 0 <= self.momentum < 1 or not self.weight_decay >= 0:
            raise UsageError(
                f"warmup is {self.warmup}, momentum {self.momentum}, weight_decay {self.weight_decay}",
                "warmup and weight_decay are 0 or more, momentum lies from 0 to below 1",
            )


@dataclass(frozen=True)
class Augmentation:
    """What is done to images at random while they are trained on.

    Attributes:
        flip: Mirror half of them left to right.
        shift: Pixels by which they are moved at most, in each direction.

    Raises:
        UsageError: The shift is negative.
    """

    flip: bool = False
    shift: int = 0

    def __post_init__(self) -> None:
        if self.shift < 0:
            raise UsageError(f"shift is {self.shift} pixels, 0 or more was expected")

    @property
    def is_none(self) -> bool:
        """Whether samples stay as they are."""
        return not self.flip and not self.shift


@dataclass(frozen=True)
class TrainingJob:
    """A whole training, from a float model to a nested file.

    Attributes:
        model: A built Keras model, or the path of one, of a SavedModel or of a float `.tflite`.
        data: Labelled samples; or what Keras' `fit` takes as `x`, with a length: a `PyDataset` or a `tf.data.Dataset`.
        output: The nested `.tflite` to write. Checkpoints lie beside it, in a folder of its name.
        recipe: Levels and rules.
        validation: Labelled samples that are not trained on; None to measure nothing.
        calibration: Samples that give the first scales of the activations; None for the first of `data`.
        start: A checkpoint of another training of this model at these levels, to take the weights from.
        epochs: Passes over the data.
        batch: Samples per step.
        optimizer: Optimizer and learning rate.
        options: Losses, and what is trained.
        augmentation: What is done to samples.
        seed: For all that is drawn at random.
        devices: Devices that share each batch (JAX only).

    Raises:
        UsageError: A number is out of its range, or calibration is missing.
    """

    model: Any
    data: Any
    output: Path
    recipe: Recipe = field(default_factory=lambda: load_recipe(None).with_options(levels=LEVELS))
    validation: Dataset | None = None
    calibration: Dataset | None = None
    start: Path | None = None
    epochs: int = 10
    batch: int = 128
    optimizer: OptimizerOptions = OptimizerOptions()
    options: TrainingOptions = field(default_factory=default_options)
    augmentation: Augmentation = Augmentation()
    seed: int = 0
    devices: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "output", Path(self.output))
        for name in ("epochs", "batch", "devices"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}, 1 or more was expected")
        if self.seed < 0:
            raise UsageError(f"seed is {self.seed}, 0 or more was expected")
        if self.batch % self.devices:
            raise UsageError(
                f"a batch of {self.batch} samples cannot be shared evenly by {self.devices} devices",
                f"choose a multiple of {self.devices}",
            )
        if not isinstance(self.data, Dataset) and self.calibration is None:
            raise UsageError(
                f"data is a {type(self.data).__name__}, and there are no calibration samples",
                "give some samples as calibration, a tflnest Dataset",
            )

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.output.with_name(f"{self.output.name}.checkpoints")

    def calibration_samples(self) -> Dataset:
        """Samples that give the first scales of the activations."""
        chosen = self.data if self.calibration is None else self.calibration
        assert isinstance(chosen, Dataset)
        return chosen.limited(CALIBRATION_SAMPLES) if self.calibration is None else chosen
