"""A small Keras model, its data, and its nested network."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

DIGITS = Path(__file__).resolve().parents[3] / "examples" / "digits.keras"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.keras)


@pytest.fixture(scope="session")
def digits() -> tuple[Any, Any]:
    """Handwritten digits as ((x, y) of training, (x, y) of test)."""
    pytest.importorskip("keras", reason="the keras extra is not installed")
    datasets = pytest.importorskip("sklearn.datasets")
    x, y = datasets.load_digits(return_X_y=True)
    images = (x / 16.0).astype(np.float32).reshape(-1, 8, 8, 1)
    return (images[:1200], y[:1200].astype(np.int64)), (images[1200:], y[1200:].astype(np.int64))


@pytest.fixture(scope="session")
def make_network(digits: tuple[Any, Any]) -> Callable[..., Any]:
    """Makes nested networks of the digits model: make_network(levels, **options)."""
    from dataclasses import replace

    from converters.recipe import load_recipe
    from converters.training import TrainingOptions, nest_for_training
    from tflnest.dataset import Dataset

    def make(levels: tuple[int, ...] = (2, 4, 6, 8), model: Any = DIGITS, **options: Any) -> Any:
        recipe = replace(load_recipe(None), levels=levels)
        data = Dataset(digits[0][0][:64], name="calibration")
        return nest_for_training(model, recipe, calibration=data, options=TrainingOptions(**options))

    return make
