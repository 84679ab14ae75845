"""`search`: from a model, data and budgets to a recipe, and to the model that it makes."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converters.conversion import float_steps
from converters.folding import fix_batch
from converters.planning import plan_nesting
from converters.quantization import quantize
from converters.recipe import Recipe, load_recipe
from converters.search.budgets import Budgets
from converters.search.layers import Layer, describe_layers, int8_bytes, mean_bits
from converters.search.measures import RoundedAccuracy, TrainedAccuracy, recipe_for
from converters.search.searching import CHOICES, MAX_STEPS, SearchResult, search_widths
from converters.search.trials import Trials
from converters.sources import Source, load_source
from tflnest.dataset import Dataset, load_dataset
from tflnest.errors import FormatError, UsageError
from tflnest.model import Model
from tflnest.progress import Progress, silent


@dataclass(frozen=True)
class Search:
    """The result of `search`.

    Attributes:
        result: Widths, budgets, trajectory.
        recipe: Makes the model with `convert`.
        model: The model of the best assignment, nested: the searched widths, and 8 bits above them.
    """

    result: SearchResult
    recipe: Recipe
    model: Model

    @property
    def mean_bits(self) -> float:
        """Bits per searched weight at the lowest level."""
        return mean_bits(self.result.layers, self.result.best.widths)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**self.result.to_dict(), "mean_bits": self.mean_bits, "recipe": self.recipe.to_toml()}


def search(
    source: str | Path,
    calibration: str | Path | Dataset,
    validation: str | Path | Dataset,
    *,
    max_drop: float = 1.0,
    max_bytes: int | str = "75%",
    max_bit_operations: int | None = None,
    buffer: float | None = None,
    epochs: int = 0,
    recipe: str | Path | Recipe | None = "uniform",
    max_steps: int = MAX_STEPS,
    jobs: int = 1,
    backend: str = "loky",
    journal: str | Path | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> Search:
    """Find a width for every filter under budgets of accuracy and cost.

    Args:
        source: `.keras`, `.h5`, SavedModel folder, float or int8 `.tflite`.
        calibration: Samples for rounding; labelled ones where `epochs` asks for training.
        validation: Labelled samples that decide, others than those.
        max_drop: Points of accuracy that may be lost against the int8 model.
        max_bytes: Bytes of the searched filters, or a share of their int8 bytes ("40%").
        max_bit_operations: Multiply-accumulates times weight bits times 8; None for no limit.
        buffer: Share of the int8 costs up to which an attempt counts as near; None for 0.75.
        epochs: Length of the training of each attempt; 0 rounds without training.
        recipe: Says which filters may nest; those that stay flat are not searched.
        max_steps: Steps of the second phase.
        jobs: Attempts that are measured at a time; -1 for one per core.
        backend: "loky" (processes), "threading", "dask" or "ray".
        journal: File that keeps the attempts, so that the search can go on after it was stopped.
        seed: For everything that is drawn at random.
        progress: Told of every attempt.

    Raises:
        BudgetError: No assignment can meet the budgets of cost.
        UsageError: An argument makes no sense, or training is asked of an int8 source.
        FormatError: Model or data are not sound, or the validation data has no labels.
    """
    tune = load_dataset(calibration) if isinstance(calibration, str | Path) else calibration
    check = load_dataset(validation) if isinstance(validation, str | Path) else validation
    _check_labels(check, tune, epochs)
    loaded = load_source(source)
    if epochs and not loaded.is_float:
        raise UsageError(
            f"{loaded.path}: training starts from float weights, and this model is int8",
            "search without training (--ptq), or start from the float model",
        )
    chosen = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    layers = _layers(loaded, tune, chosen)
    limit = _bytes(max_bytes, int8_bytes(layers))
    budgets = Budgets(max_drop, limit, max_bit_operations)
    if buffer is not None:
        budgets = Budgets(max_drop, limit, max_bit_operations, cost_buffer=buffer)
    names = tuple(layer.name for layer in layers)
    with tempfile.TemporaryDirectory() as folder:
        # Attempts run in processes of their own: they read TFLite, which takes no TensorFlow.
        path = Path(folder) / "source.tflite"
        loaded.model.save(path)
        measure: RoundedAccuracy | TrainedAccuracy
        if epochs:
            measure = TrainedAccuracy(path, names, tune, check, epochs, seed=seed)
        else:
            measure = RoundedAccuracy(path, names, tune, check, seed)
        trials = Trials(measure, jobs=jobs, backend=backend, journal=journal, progress=progress)
        result = search_widths(layers, budgets, trials, max_steps=max_steps)
        model = measure.build(result.best.widths)
    return Search(result, recipe_for(names, result.best.widths), model)


def _check_labels(validation: Dataset, calibration: Dataset, epochs: int) -> None:
    for data, needed in ((validation, True), (calibration, epochs > 0)):
        labels = data.labels()
        if needed and labels is None:
            raise FormatError(
                f"{data.name}: has no labels", "write it with numpy.savez(path, x=samples, y=class_numbers)"
            )
        if needed and labels is not None and labels.min() == labels.max():
            raise FormatError(f"{data.name}: all {len(labels):,} samples have the class {int(labels[0])}")


def _layers(source: Source, data: Dataset, recipe: Recipe) -> list[Layer]:
    model = fix_batch(source.model)
    weights = None
    if source.is_float:
        quantized = quantize(model, data)
        model, weights = quantized.model, float_steps(quantized)
    return describe_layers(model.graph.main, plan_nesting(model.graph, recipe), CHOICES, weights)


def _bytes(budget: int | str, full: int) -> int:
    """A budget in bytes; "40%" is a share of the int8 bytes.

    Raises:
        UsageError: It is neither.
    """
    text = str(budget).strip()
    try:
        if text.endswith("%"):
            return int(full * float(text[:-1]) / 100)
        return int(text)
    except ValueError:
        raise UsageError(
            f"the budget {text!r} is no number of bytes", "write bytes, or a share of the int8 model: 40%"
        ) from None
