from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.models import nested, network
from tests.single_operator import GraphBuilder
from tflnest.dataset import Dataset
from tflnest.errors import FormatError, UsageError
from tflnest.evaluation import evaluate
from tflnest.interpreter import ENGINES, Interpreter
from tflnest.model import Model

SAMPLES = 48


@pytest.fixture(scope="module")
def model():
    return nested(network())


@pytest.fixture(scope="module")
def data(model):
    x = np.random.default_rng(2).uniform(-5, 5, (SAMPLES, 8, 8, 3)).astype(np.float32)
    return Dataset(x, np.arange(SAMPLES) % 10, "samples")


def outputs(model, data, level):
    return Interpreter(model=model, level=level).run(data.x)


def test_every_figure_of_every_level(model, data):
    result = evaluate(model, data)
    assert [row.level for row in result.levels] == [4, 6, 8]
    assert (result.samples, result.data) == (SAMPLES, "samples")
    assert result.engine in ENGINES
    assert result.file_bytes == len(model.to_bytes())
    full = outputs(model, data, 8)
    for row in result.levels:
        values = outputs(model, data, row.level)
        assert row.top1 == np.mean(values.argmax(axis=1) == data.y)
        assert row.agreement == np.mean(values.argmax(axis=1) == full.argmax(axis=1))
        assert row.identical == np.mean((values == full).all(axis=1))
        assert row.mean_difference == np.abs(values.astype(float) - full).mean()
        pages = [page.size for page in model.directory.pages if page.level <= row.level]
        assert row.resident_bytes == sum(pages)
        assert row.seconds >= 0
    assert result.levels[-1].agreement == result.levels[-1].identical == 1.0
    assert result.levels[0].mean_difference > result.levels[1].mean_difference > 0


@pytest.mark.parametrize(
    ("level", "expected"), [(6, [6]), ("4", [4]), ([4, 8], [4, 8]), ("all", [4, 6, 8]), (None, [4, 6, 8])]
)
def test_levels_that_are_asked_for(model, data, level, expected):
    result = evaluate(model, data, level=level, limit=5)
    assert [row.level for row in result.levels] == expected
    everything = {row.level: row for row in evaluate(model, data, limit=5).levels}
    for row in result.levels:
        assert replace(row, seconds=0) == replace(everything[row.level], seconds=0)


@pytest.mark.parametrize("level", [5, "5", [4, 5], "six", "4,6"])
def test_levels_that_are_not_there(model, data, level):
    with pytest.raises(UsageError) as caught:
        evaluate(model, data, level=level)
    assert "4, 6, 8" in caught.value.hint


def test_without_labels_there_is_no_accuracy(model, data):
    result = evaluate(model, Dataset(data.x), limit=4)
    assert all(row.top1 is None for row in result.levels)
    assert result.samples == 4


def test_a_plain_model_has_one_level(data):
    result = evaluate(network(), data, limit=4)
    (row,) = result.levels
    assert (row.level, row.agreement, row.resident_bytes) == (8, 1.0, None)
    with pytest.raises(UsageError, match="no level 4"):
        evaluate(network(), data, level=4)


@pytest.mark.parametrize("labels", [np.full(SAMPLES, 10), np.full(SAMPLES, -1)])
def test_labels_that_are_no_classes_are_refused_before_anything_runs(model, data, labels):
    def progress(*_report):
        raise AssertionError("it ran")

    with pytest.raises(FormatError, match=r"labels lie in .* classes 0\.\.9"):
        evaluate(model, Dataset(data.x, labels, "samples"), progress=progress)


def test_files_are_loaded(model, data, tmp_path):
    path, samples = tmp_path / "model.tflite", tmp_path / "data.npz"
    model.save(path)
    np.savez(samples, x=data.x, y=data.y)
    result = evaluate(path, samples, limit=3)
    assert (result.model, result.data) == (str(path), str(samples))


def test_the_report_is_json(model, data):
    document = json.loads(json.dumps(evaluate(model, data, limit=3).to_dict()))
    assert document["schema_version"] == 1
    assert set(document["levels"][0]) == {
        *("level", "top1", "agreement", "identical", "mean_difference", "resident_bytes", "seconds")
    }


def test_float_models_run_in_the_stock_runtime():
    graph = GraphBuilder()
    x, y = graph.input((1, 4), "FLOAT32"), graph.tensor((1, 4), "FLOAT32")
    graph.operator("RELU", [x], [y])
    model = Model.from_bytes(graph.build([y]))
    x = np.array([[0, 1, 2, 3], [9, -1, 0, 2]], np.float32)
    result = evaluate(model, Dataset(x, np.array([3, 1])))
    assert (result.engine, result.levels[0].top1) == ("litert", 0.5)
