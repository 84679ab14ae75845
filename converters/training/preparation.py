"""What a nested training starts from: the float graph, first scales, and which filter nests how."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from converters.activations import ActivationPlan, plan_activations
from converters.affine import Affine
from converters.calibration import Range, collect_ranges
from converters.folding import fix_batch
from converters.planning import PlannedFilter, plan_nesting
from converters.quantization import WEIGHTED, check_quantizable, quantize_with
from converters.recipe import Recipe, parse_recipe
from converters.sources import load_source
from tflnest.dataset import Dataset
from tflnest.errors import TflnestError, UsageError
from tflnest.graph import Operator, Subgraph
from tflnest.model import Model
from tflnest.nesting import Scheme

#: Reads a Keras archive where TensorFlow can be had, and writes the float `.tflite`.
_CONVERT = (
    "import sys; from converters.sources import load_source; load_source(sys.argv[1]).model.save(sys.argv[2])"
)


@dataclass(frozen=True)
class Preparation:
    """What a nested training starts from.

    Attributes:
        model: The float model, batch 1.
        ranges: What calibration saw, by tensor index.
        recipe: Levels and rules.
    """

    model: Model
    ranges: Mapping[int, Range]
    recipe: Recipe

    @property
    def subgraph(self) -> Subgraph:
        """The graph that is trained."""
        return self.model.graph.main

    @cached_property
    def activations(self) -> ActivationPlan:
        """Quantization of every activation before training."""
        return plan_activations(self.subgraph, self.ranges)

    @cached_property
    def filters(self) -> Mapping[int, PlannedFilter]:
        """How the filter of each operator nests, by the operator's index in the float graph."""
        int8 = quantize_with(self.model, self.activations).model.graph
        plans = {index: plan for plan in plan_nesting(int8, self.recipe) for index in plan.operators}
        pairs = zip(_weighted(self.subgraph), _weighted(int8.main), strict=True)
        return {before.index: plans[after.index] for before, after in pairs if after.index in plans}

    def to_dict(self) -> dict[str, Any]:
        """For the configuration of a saved network; JSON can hold it."""
        return {
            "model": base64.b64encode(self.model.to_bytes()).decode("ascii"),
            "ranges": [[index, seen.low, seen.high] for index, seen in self.ranges.items()],
            "recipe": self.recipe.to_toml(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preparation:
        """Invert `to_dict`."""
        model = Model.from_bytes(base64.b64decode(values["model"]), "a saved training")
        ranges = {int(index): Range(low, high) for index, low, high in values["ranges"]}
        return cls(model, ranges, parse_recipe(values["recipe"], "a saved training"))


def prepare_training(model: Any, recipe: Recipe, data: Dataset) -> Preparation:
    """Read a model, calibrate it, and check that it can be trained.

    Args:
        model: A built Keras model, or the path of one, of a SavedModel or of a float `.tflite`.
        recipe: Levels and rules; of scheme `bucket`.
        data: Calibration samples.

    Raises:
        UsageError: The model is int8 already, or the recipe uses the compensated scheme.
        UnsupportedError: It has an operator that can't be quantized.
        FormatError: The data does not fit the model.
    """
    if recipe.scheme is not Scheme.BUCKET:
        raise UsageError(
            f"training nests by the scheme bucket, the recipe asks for {recipe.scheme}",
            'leave the scheme out of the recipe, or set scheme = "bucket"',
        )
    fixed = fix_batch(_float_model(model))
    check_quantizable(fixed)
    return Preparation(fixed, collect_ranges(fixed, data), recipe)


def activation_plan(preparation: Preparation, trained: Mapping[int, float]) -> ActivationPlan:
    """The quantization of activations with trained scales.

    Args:
        preparation: Zero points and groups come from it.
        trained: Scale by group.
    """
    plan = preparation.activations
    parameters = {
        index: Affine(trained[plan.groups[index]], affine.zero_point)
        if plan.groups[index] in trained
        else affine
        for index, affine in plan.parameters.items()
    }
    return ActivationPlan(parameters, plan.requantized, plan.groups, plan.fixed)


def _weighted(subgraph: Subgraph) -> list[Operator]:
    return [operator for operator in subgraph.operators if operator.name in WEIGHTED]


def _float_model(model: Any) -> Model:
    if isinstance(model, str | Path):
        source = load_source(model)
        if not source.is_float:
            raise UsageError(
                f"{source.path}: training starts from float weights, and this model is int8",
                "give the Keras model or the float .tflite that it was made from",
            )
        return source.model
    if not hasattr(model, "save") or not hasattr(model, "layers"):
        raise UsageError(f"a {type(model).__name__} is no Keras model", "give a keras.Model or a path")
    with tempfile.TemporaryDirectory() as folder:
        archive, converted = Path(folder) / "model.keras", Path(folder) / "model.tflite"
        model.save(archive)
        if _keras_backend() == "tensorflow":
            return load_source(archive).model
        environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
        result = subprocess.run(
            [sys.executable, "-c", _CONVERT, str(archive), str(converted)],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode != 0 or not converted.exists():
            reason = (result.stderr.strip().splitlines() or ["no message"])[-1]
            raise TflnestError(
                f"the model could not be turned into TFLite: {reason}",
                "TensorFlow does this, next to the Keras backend that trains: pip install 'tflnest[keras]'",
            )
        return Model.load(converted)


def _keras_backend() -> str:
    import keras

    return str(keras.backend.backend())
