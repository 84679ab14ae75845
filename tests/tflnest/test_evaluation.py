from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from tests.controllers import controlled
from tests.models import calm_network, everything, nested, network, random_inputs
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
        *("level", "top1", "agreement", "identical", "mean_difference", "resident_bytes", "seconds"),
        "bit_operations",
    }
    assert document["policy"] is document["calibration"] is None


def test_float_models_run_in_the_stock_runtime():
    graph = GraphBuilder()
    x, y = graph.input((1, 4), "FLOAT32"), graph.tensor((1, 4), "FLOAT32")
    graph.operator("RELU", [x], [y])
    model = Model.from_bytes(graph.build([y]))
    x = np.array([[0, 1, 2, 3], [9, -1, 0, 2]], np.float32)
    result = evaluate(model, Dataset(x, np.array([3, 1])))
    assert (result.engine, result.levels[0].top1) == ("litert", 0.5)


# ------------------------------------------------------------------------------------------------ policies


def policy_data(model: Model) -> Dataset:
    x = random_inputs(model, 30)
    return Dataset(x, Interpreter(model=model).run(x).argmax(axis=1))


def test_a_controller_is_measured_beside_the_levels() -> None:
    model = controlled()
    data = policy_data(model)
    result = evaluate(model, data, engine="reference")
    assert [row.level for row in result.levels] == [4, 6, 8] and result.policy is not None
    row = result.policy
    assert (row.policy, row.level) == ("dynamic", 8)
    interpreter = Interpreter(model=model, policy="dynamic")
    classes, widths = interpreter.run(data.x).argmax(axis=1), interpreter.widths
    assert row.top1 == pytest.approx((classes == data.y).mean())
    assert row.bit_operations == pytest.approx(widths.bit_operations().mean())
    assert row.narrowed_activations == pytest.approx(widths.narrowed_activations().mean())
    assert row.requantization_macs == 2 * (row.narrowed_activations + row.narrowed_weights)
    assert [item.shares for item in row.operators] == widths.distribution()
    assert row.repeated == row.limited == 0.0
    document = json.loads(json.dumps(result.to_dict()))
    assert sum(item["share"] for item in document["policy"]["operators"][3]["widths"]) == pytest.approx(1.0)
    assert evaluate(model, data, engine="reference", level=8).policy is None
    assert evaluate(model, data, engine="reference", policy="static").policy is None
    capped = evaluate(model, data, engine="reference", policy="dynamic", level=4)
    assert [item.level for item in capped.levels] == [4]
    assert capped.policy is not None and capped.policy.limited > 0 and capped.policy.level == 4


def test_what_a_margin_pages_is_counted() -> None:
    model = nested(calm_network(), everything())
    data = policy_data(model)
    result = evaluate(model, data, policy="margin:auto", max_drop=0.0, engine="reference")
    assert result.calibration is not None and result.policy is not None
    row = result.policy
    assert row.policy == str(result.calibration.policy) and row.top1 == 1.0
    assert row.repeated == pytest.approx(result.calibration.repeated) and 0 < row.repeated < 1
    assert model.directory is not None
    low, full = result.levels[0], evaluate(model, data, level=4, engine="reference").levels[0]
    assert low.bit_operations == 2 * full.bit_operations
    assert row.bit_operations == pytest.approx(full.bit_operations * (1 + 2 * row.repeated))
    above = sum(page.size for page in model.directory.pages[1:])
    assert row.paged_bytes == pytest.approx(row.repeated * above)
    assert result.to_dict()["calibration"]["policy"] == row.policy


def test_a_margin_can_be_calibrated_on_other_data() -> None:
    model = nested(network(), everything())
    data = policy_data(model)
    other = Dataset(data.x[:10], data.y[:10])
    result = evaluate(model, data, policy="margin:auto", max_drop=0.0, calibration=other, engine="reference")
    assert result.calibration is not None
    assert result.calibration.repeated == pytest.approx(round(10 * result.calibration.repeated) / 10)


def test_policies_that_make_no_sense_are_refused() -> None:
    model = nested(network(), everything())
    data = policy_data(model)
    for options, message in (
        ({"policy": "dynamic"}, "needs a controller"),
        ({"policy": "margin:0.1", "level": [4, 8]}, "one level set"),
        ({"policy": "margin:0.1", "max_drop": 1.0}, "for the policy margin:auto"),
        ({"max_cost": 0.5}, "for the policy margin:auto"),
        ({"policy": "margin:0.1", "engine": "litert"}, "take the engine native"),
        ({"policy": "margin:auto"}, "calibrated for something"),
    ):
        with pytest.raises(UsageError, match=message):
            evaluate(model, data, **options)
