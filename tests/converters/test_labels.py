"""Labelled samples that a classifier is trained on, or judged by."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.labels import check_labels, check_scale
from tflnest.dataset import Dataset
from tflnest.errors import UsageError
from tflnest.model import Model


@pytest.fixture(scope="module")
def model() -> Model:
    return Model.load(Path(__file__).resolve().parents[1] / "data" / "digits_float.tflite")


@pytest.fixture(scope="module")
def digits() -> Any:
    x, y = pytest.importorskip("sklearn.datasets").load_digits(return_X_y=True)
    return [((x[:1200] / 16).astype(np.float32).reshape(-1, 8, 8, 1), y[:1200].astype(np.int64))]


def test_labels_are_class_numbers(model: Model, digits: Any) -> None:
    x, y = digits[0]
    np.testing.assert_array_equal(check_labels(Dataset(x, y), model), y)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "digits has no labels"),
        (np.full(1200, 3), "digits: all 1,200 samples have the class 3"),
        (np.arange(1200), r"the labels lie in 0\.\.1199, and the model has the classes 0\.\.9"),
        (np.arange(1200) % 2 - 1, r"the labels lie in -1\.\.0"),
    ],
)
def test_labels_that_nothing_can_be_learned_from_are_refused(
    model: Model, digits: Any, y: Any, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        check_labels(Dataset(digits[0][0], y, "digits"), model)


def test_samples_on_another_scale_are_refused_with_the_right_one(model: Model, digits: Any) -> None:
    pytest.importorskip("ai_edge_litert", reason="the litert extra is not installed")
    x, y = digits[0]
    check_scale(Dataset(x, y), model)
    with pytest.raises(UsageError, match=r"and \d+% where their values are multiplied by 255"):
        check_scale(Dataset(x / np.float32(255), y), model)
    with pytest.raises(UsageError, match=r"plus 128"):
        check_scale(Dataset(x - np.float32(128), y), model)


def test_samples_of_an_untrained_task_are_taken(model: Model, digits: Any) -> None:
    pytest.importorskip("ai_edge_litert", reason="the litert extra is not installed")
    x, y = digits[0]
    check_scale(Dataset(x, np.random.default_rng(0).permutation(y)), model)
