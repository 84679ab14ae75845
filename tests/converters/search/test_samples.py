"""Samples that a search can't use are refused before anything is measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from converters.search.samples import check_samples
from tests.models import network
from tflnest.dataset import Dataset
from tflnest.errors import FormatError, UsageError
from tflnest.interpreter import Interpreter
from tflnest.model import Model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Path]:
    path = tmp_path_factory.mktemp("samples") / "model.tflite"
    network().save(path)
    return Model.load(path), path


def samples(count: int, seed: int, path: Path) -> Dataset:
    x = np.random.default_rng(seed).uniform(-5, 5, (count, 8, 8, 3)).astype(np.float32)
    classes = Interpreter(path).run(x).reshape(count, -1).argmax(1)
    return Dataset(x, classes.astype(np.int64), f"set {seed}")


def test_good_samples_leave_no_note(model: tuple[Model, Path]) -> None:
    loaded, path = model
    assert check_samples(samples(40, 0, path), samples(60, 1, path), loaded, trained=True) == []


def test_samples_of_both_sets_are_told(model: tuple[Model, Path]) -> None:
    loaded, path = model
    first, second = samples(40, 0, path), samples(60, 1, path)
    mixed = Dataset(
        np.concatenate([second.x, first.x[:10]]), np.concatenate([second.y, first.y[:10]]), "mixed"
    )
    assert any("10 of 70 samples of mixed" in note for note in check_samples(first, mixed, loaded, False))
    with pytest.raises(UsageError, match="40 of 40 samples of set 0 are among those of set 0"):
        check_samples(first, first, loaded, False)


def test_both_sets_on_another_scale_than_the_model_are_refused(model: tuple[Model, Path]) -> None:
    loaded, path = model
    first, second = (
        Dataset(data.x / np.float32(255), data.y, data.name)
        for data in (samples(40, 0, path), samples(300, 1, path))
    )
    with pytest.raises(UsageError, match="where their values are multiplied by 255"):
        check_samples(first, second, loaded, False)
    with pytest.raises(UsageError, match="the values of set 0 lie in"):
        check_samples(first, samples(60, 1, path), loaded, False)


def test_labels_of_the_training_data_count_only_where_attempts_are_trained(model: tuple[Model, Path]) -> None:
    loaded, path = model
    bare = Dataset(samples(40, 0, path).x, name="bare")
    check_samples(bare, samples(60, 1, path), loaded, trained=False)
    with pytest.raises(UsageError, match="bare has no labels"):
        check_samples(bare, samples(60, 1, path), loaded, trained=True)


def test_codes_of_the_input_have_no_scale_to_check(model: tuple[Model, Path]) -> None:
    loaded, path = model
    taken = samples(60, 1, path)
    codes = Dataset(taken.inputs_for(loaded.graph.main.input_tensors()[0]), taken.y, "codes")
    assert check_samples(samples(40, 0, path), codes, loaded, False) == []
    wrong = Dataset(codes.x[:, :4], taken.y, "cropped")
    with pytest.raises(FormatError, match=r"cropped: a sample has shape \[4, 8, 3\]"):
        check_samples(samples(40, 0, path), wrong, loaded, False)
