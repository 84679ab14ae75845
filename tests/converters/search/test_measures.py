"""Attempts: what is built and measured depends on nothing but the assignment, the data and the seed."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from converters.recipe import parse_recipe
from converters.search.measures import (
    RoundedAccuracy,
    TrainedAccuracy,
    class_probabilities,
    recipe_for,
    score,
)
from converters.search.trials import Score
from tflnest.dataset import Dataset
from tflnest.errors import TflnestError
from tflnest.model import Model

SOURCE = Path(__file__).resolve().parents[2] / "data" / "digits_float.tflite"


def filters(model: Model) -> list[str]:
    return [
        model.graph.main.tensors[operator.inputs[1]].name
        for operator in model.graph.main.operators
        if operator.name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
    ]


NAMES = tuple(filters(Model.load(SOURCE)))


@pytest.fixture(scope="module")
def data():
    x, y = pytest.importorskip("sklearn.datasets").load_digits(return_X_y=True)
    images = (x / 16.0).astype(np.float32).reshape(-1, 8, 8, 1)
    return [
        Dataset(images[part], y[part].astype(np.int64), "digits")
        for part in (slice(0, 96), slice(1200, 1300))
    ]


def test_a_recipe_names_every_filter_and_can_be_written_down():
    recipe = recipe_for(("a(b", "c"), (3, 8))
    assert [rule.levels for rule in recipe.rules] == [(3, 8), None, None]
    assert [rule.flat for rule in recipe.rules] == [False, True, True]
    assert parse_recipe(recipe.to_toml()) == recipe
    assert recipe_for(("a", "b"), (2, 4), single=True).levels == (3,)


def test_outputs_become_class_probabilities_that_sum_to_1():
    outputs = np.array([[127, -128, -128], [0, -1, -127]], np.int8)
    real = Model.load(SOURCE)
    shares = class_probabilities(real, outputs.astype(np.float32))
    np.testing.assert_allclose(shares.sum(axis=1), 1.0)
    assert (shares > 0).all() and shares.argmax(axis=1).tolist() == [0, 0]


@pytest.mark.parametrize("single", [True, False])
def test_rounded_attempts_have_the_widths_and_repeat(data, single):
    measure = RoundedAccuracy(SOURCE.read_bytes(), NAMES, *data, single=single, seed=1)
    widths = tuple(4 if number % 2 else 2 for number in range(len(NAMES)))
    model = measure.build(widths)
    assert len(model.directory.levels) == (1 if single else 2)
    assert measure(widths) == score(model, data[1])
    full = measure.build((8,) * len(NAMES))
    assert full.directory is None and score(full, data[1]).accuracy > 90


def test_a_journal_belongs_to_model_data_options_and_seed(data):
    measure = RoundedAccuracy(b"model", ("a",), *data)
    others = [
        replace(measure, source=b"other"),
        replace(measure, names=("b",)),
        replace(measure, validation=data[0]),
        replace(measure, calibration=data[1]),
        replace(measure, single=True),
        replace(measure, seed=1),
        TrainedAccuracy(b"model", ("a",), *data, epochs=1),
        TrainedAccuracy(b"model", ("a",), *data, epochs=2),
    ]
    assert len({item.key() for item in (measure, *others)}) == len(others) + 1
    assert measure.key() == RoundedAccuracy(b"model", ("a",), *data).key()


@pytest.mark.keras
@pytest.mark.slow
def test_trained_attempts_repeat_and_diverging_ones_are_known(data, monkeypatch):
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    pytest.importorskip("keras", reason="the keras extra is not installed")
    measure = TrainedAccuracy(SOURCE.read_bytes(), NAMES, *data, epochs=1, batch=32, single=True, seed=3)
    widths = (4,) * len(NAMES)
    model = measure.build(widths)
    assert len(model.directory.levels) == 1
    assert score(model, data[1]).accuracy > 80
    assert model.to_bytes() == measure.build(widths).to_bytes()
    diverging = replace(measure, rate=1e30)
    assert diverging(widths) == Score(0.0, np.full(len(data[1]), 1e9, np.float32))
    monkeypatch.setattr(TrainedAccuracy, "_trained", lambda self, widths: None)
    with pytest.raises(TflnestError, match=r"the widths 4 .* diverged"):
        diverging.build(widths)
