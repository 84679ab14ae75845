"""Training with nested integers, in Keras 3 on any of its backends.

The network that is trained is the deployed one: the float `.tflite` graph of a model (batch normalization
folded, activations fused), rebuilt from `keras.ops`, with every filter and activation quantized in the forward
pass as the integer engines will quantize it at the level that runs.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from converters.recipe import Recipe, load_recipe
from converters.training.controller_options import ControllerOptions
from converters.training.job import Augmentation, OptimizerOptions, TrainingJob
from converters.training.options import TrainingOptions
from tflnest.dataset import Dataset, load_dataset
from tflnest.files import check_writable
from tflnest.progress import Progress, silent
from tflnest.schema import require_extra

if TYPE_CHECKING:
    from converters.training.checkpoints import EpochResult
    from converters.training.dynamic import DynamicNetwork
    from converters.training.network import NestedNetwork
    from converters.training.running import TrainingResult

__all__ = [
    "Augmentation",
    "ControllerOptions",
    "OptimizerOptions",
    "TrainingJob",
    "TrainingOptions",
    "add_controller",
    "nest_for_training",
    "train",
]


def nest_for_training(
    model: Any,
    recipe: str | Path | Recipe | None = None,
    *,
    calibration: str | Path | Dataset,
    options: TrainingOptions | None = None,
) -> NestedNetwork:
    """A Keras model that trains all levels of a model together.

    Compile and fit it as any Keras model; its loss adds the losses of the part-bit levels. `save_nested` writes
    the trained model as a nested `.tflite`.

        network = tflnest.nest_for_training(model, calibration="calibration.npz")
        network.compile(keras.optimizers.Adam(1e-4), "sparse_categorical_crossentropy", metrics=["accuracy"])
        network.fit(x, y, epochs=10)
        network.save_nested("nested.tflite")

    Args:
        model: A built Keras model, or a path: `.keras`, `.h5`, SavedModel folder or float `.tflite`.
        recipe: Recipe, preset name or path of a TOML file; None for the default preset. Base widths that a
            recipe would find by sensitivity are uniform here.
        calibration: Samples as the model was trained on; they give the first scales of the activations.
        options: Losses and what else is trained; None for the defaults.

    Raises:
        UsageError: The model or the recipe makes no sense for training.
        UnsupportedError: The model has an operator that can't be trained; the message names it.
        FormatError: The calibration data does not fit the model.
        MissingExtraError: Keras is not installed.
    """
    require_extra("keras", "keras", "to train")
    from converters.training.network import NestedNetwork
    from converters.training.preparation import prepare_training

    data = load_dataset(calibration) if isinstance(calibration, str | Path) else calibration
    chosen = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    return NestedNetwork(prepare_training(model, chosen, data), options or TrainingOptions())


def add_controller(
    network: NestedNetwork,
    options: ControllerOptions | None = None,
    *,
    calibration: str | Path | Dataset,
) -> DynamicNetwork:
    """A network whose widths a controller chooses for each input, as a Keras model.

        dynamic = tflnest.add_controller(network, calibration="calibration.npz")
        dynamic.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
        dynamic.fit(x, y, epochs=2)
        dynamic.save_nested("dynamic.tflite")

    Args:
        network: What `nest_for_training` made, trained. It is frozen, and part of the result; with
            `train_network` it goes on training.
        options: What there is to choose from, and losses; None for the defaults.
        calibration: Samples as the network was trained on; they give the scales of the controller's features.

    Raises:
        UsageError: The options don't fit the network.
        FormatError: The calibration data does not fit the network.
    """
    require_extra("keras", "keras", "to train")
    from converters.training.controller import PooledFeatures
    from converters.training.dynamic import DynamicNetwork
    from converters.training.stem import find_stem, pooled_features

    data = load_dataset(calibration) if isinstance(calibration, str | Path) else calibration
    chosen = options or ControllerOptions()
    samples = data.inputs_for(network.preparation.subgraph.input_tensors()[0])
    pooled = pooled_features(network, find_stem(network, chosen.stem), samples)
    model = DynamicNetwork(network, chosen, PooledFeatures.of(pooled))
    model.calibrate(samples)
    return model


def train(
    job: TrainingJob | str | Path,
    *,
    restart: bool = False,
    force: bool = False,
    progress: Progress = silent,
    report: Callable[[EpochResult], None] = lambda epoch: None,
) -> TrainingResult:
    """Train all levels of a model together and write the nested file, or go on with a training that was stopped.

        tflnest.train(tflnest.TrainingJob(model="model.keras", data=dataset, output="nested.tflite"))

    After every epoch a checkpoint is kept beside the output. A training that was stopped and goes on gives the same
    weights as one that was not.

    Args:
        job: What to train, or a file that says so: see `converters.training.job_files`.
        restart: Forget the checkpoints of an earlier call.
        force: Overwrite the output.
        progress: Told after each step.
        report: Told after each epoch.

    Raises:
        UsageError: The output exists, or model, data or options make no sense for training.
        UnsupportedError: The model has an operator that can't be trained; the message names it.
        FormatError: The data does not fit the model, or the checkpoints belong to another training.
        TflnestError: The training diverged; the last good checkpoint stays.
        MissingExtraError: Keras is not installed.
    """
    require_extra("keras", "keras", "to train")
    if not isinstance(job, TrainingJob):
        from converters.training.job_files import read_job

        job = read_job(job)
    check_writable(job.output, force)
    from converters.training.running import run_job

    result = run_job(job, restart=restart, progress=progress, report=report)
    result.model.save(job.output, force)
    return result
