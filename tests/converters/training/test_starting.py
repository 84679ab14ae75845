"""A training that starts from a converted model starts with its outputs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.conversion import convert
from converters.recipe import Keep, load_recipe
from tflnest.dataset import Dataset
from tflnest.errors import UsageError
from tflnest.materialization import materialize
from tflnest.model import Model
from tflnest.runner import Runner

SOURCE = Path(__file__).resolve().parents[2] / "data" / "digits_float.tflite"


def converted(levels: tuple[int, ...], calibration: Dataset) -> tuple[Any, Model]:
    """An untrained network, and the model that rounding makes of the same source."""
    from converters.training import nest_for_training

    recipe = replace(load_recipe("uniform"), levels=levels).with_options(keep=Keep.BASE)
    network = nest_for_training(SOURCE, recipe, calibration=calibration)
    return network, convert(SOURCE, recipe=recipe, calibration=calibration).model


@pytest.fixture(scope="module")
def calibration(digits: Any) -> Dataset:
    return Dataset(digits[0][0][:64], name="calibration")


def run(model: Model, level: int, x: Any) -> Any:
    return Runner(model, level).run(Dataset(x).inputs_for(model.graph.main.input_tensors()[0]))[0]


def filters(model: Model) -> list[Any]:
    """Codes of the filters at the full-bit level."""
    main = materialize(model).graph.main
    return [
        main.tensors[operator.inputs[1]].data
        for operator in main.operators
        if operator.name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
    ]


def test_one_level_starts_with_the_codes_and_outputs_of_rounding(calibration: Dataset, digits: Any) -> None:
    from converters.training.starting import start_from

    network, model = converted((3,), calibration)
    x = digits[1][0][:200]
    before = run(network.to_nested(), 3, x)
    start_from(network, model)
    started = network.to_nested()
    wanted, own = run(model, 3, x), run(started, 3, x)
    assert np.abs(own.astype(int) - wanted).max() <= 1 < np.abs(before.astype(int) - wanted).max()
    for first, second in zip(filters(model), filters(started), strict=True):
        np.testing.assert_array_equal(first, second)


def test_every_level_gets_its_biases(calibration: Dataset, digits: Any) -> None:
    from converters.training.starting import start_from

    network, model = converted((3, 8), calibration)
    start_from(network, model)
    x = digits[1][0][:200]
    for level in (3, 8):
        classes = [run(item, level, x).argmax(1) for item in (model, network.to_nested())]
        assert np.mean(classes[0] == classes[1]) > 0.97, level


def test_other_levels_are_refused(calibration: Dataset) -> None:
    from converters.training.starting import start_from

    network, _ = converted((3, 8), calibration)
    _, other = converted((4, 8), calibration)
    with pytest.raises(UsageError, match="has the levels 3, 8, the converted model 4, 8"):
        start_from(network, other)
