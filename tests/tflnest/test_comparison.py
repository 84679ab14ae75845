from __future__ import annotations

import json
import math

import numpy as np
import pytest

from tests.models import nested, network, small_network
from tests.single_operator import GraphBuilder
from tests.tflnest.test_runner import two_outputs
from tflnest.comparison import RANDOM_SAMPLES, Difference, compare
from tflnest.dataset import Dataset
from tflnest.errors import FormatError, UnsupportedError, UsageError
from tflnest.interpreter import Interpreter
from tflnest.materialization import materialize
from tflnest.model import Model


def relu(scale=0.5, type_name="INT8", operator="RELU"):
    graph = GraphBuilder()
    x, y = graph.input((1, 4), type_name, scale), graph.tensor((1, 4), type_name, scale)
    graph.operator(operator, [x], [y])
    return Model.from_bytes(graph.build([y]))


def test_the_full_bit_level_is_the_source():
    model = network()
    result = compare(model, nested(model))
    assert result.bit_exact and result.first_difference is None
    assert result.samples == result.identical_samples == RANDOM_SAMPLES
    assert (result.outputs, result.different_values, result.largest_difference) == (10, 0, 0.0)
    assert result.agreement == 1.0


def test_levels_are_compared_where_asked():
    model = nested(network())
    assert compare(model, materialize(model, 4), first_level=4).bit_exact
    assert compare(materialize(model, 6), model, second_level=6).bit_exact
    result = compare(model, model, first_level=4)
    assert not result.bit_exact
    assert (result.first, result.second) == ("model at level 4", "model at level 8")


def test_every_figure_of_a_difference():
    model = nested(network())
    x = np.random.default_rng(4).uniform(-5, 5, (40, 8, 8, 3)).astype(np.float32)
    result = compare(model, model, Dataset(x), first_level=4)
    first, second = (Interpreter(model=model, level=level).run(x).astype(int) for level in (4, 8))
    differs = first != second
    assert result.different_values == differs.sum()
    assert result.identical_samples == (~differs.any(axis=1)).sum()
    assert result.largest_difference == np.abs(first - second).max()
    assert result.agreement == np.mean(first.argmax(axis=1) == second.argmax(axis=1))
    sample, position = np.argwhere(differs)[0]
    assert result.first_difference == Difference(
        sample, 0, position, first[sample, position], second[sample, position]
    )


def test_a_difference_in_the_second_output_is_one():
    """The models agree in their first output and not in their second."""
    graph = GraphBuilder()
    x = graph.input((1, 2, 2, 1), "INT8", 0.5)
    y, z = graph.tensor((1, 2, 2, 1), "INT8", 0.5), graph.tensor((1, 1, 1, 1), "INT8", 0.5)
    window = {"padding": "VALID", "stride_w": 2, "stride_h": 2, "filter_width": 2, "filter_height": 2}
    graph.operator("RELU", [x], [y])
    graph.operator("AVERAGE_POOL_2D", [x], [z], **window)
    averaged = Model.from_bytes(graph.build([y, z]))
    x = np.array([[[[1], [1]], [[1], [1]]], [[[1], [3]], [[1], [3]]]], np.int8)
    result = compare(two_outputs(), averaged, Dataset(x))
    assert (result.outputs, result.identical_samples, result.different_values) == (5, 1, 1)
    assert result.first_difference == Difference(1, 1, 0, 3.0, 2.0)
    assert result.largest_difference == 1.0


def test_different_quantizations_are_compared_in_real_units():
    x = np.array([[0.0, 1.0, -1.0, 2.25]], np.float32)
    result = compare(relu(0.5), relu(0.25), Dataset(x))
    assert result.different_values == 1
    assert result.first_difference == Difference(0, 0, 3, 2.5, 2.25)  # 4.5 steps are rounded away from zero


def test_float_and_int8_are_compared_in_real_units():
    x = np.array([[0.0, 1.0, -1.0, 2.5]], np.float32)
    assert compare(relu(0.5), relu(None, "FLOAT32"), Dataset(x)).bit_exact


def test_values_that_are_not_numbers_are_equal_to_themselves():
    graph = GraphBuilder()
    x, y = graph.input((1, 2), "FLOAT32"), graph.tensor((1, 2), "FLOAT32")
    graph.operator("ADD", [x, graph.constant(np.array([np.nan, 0], np.float32))], [y])
    model = Model.from_bytes(graph.build([y]))
    result = compare(model, model, limit=3)
    assert result.bit_exact and math.isfinite(result.largest_difference)


def test_the_seed_chooses_the_random_samples():
    model = nested(network())
    runs = [compare(model, model, first_level=4, limit=6, seed=seed) for seed in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]
    assert runs[0].samples == 6 and runs[0].data == "random samples"


def test_files_and_progress(tmp_path):
    model = network()
    path, samples = tmp_path / "model.tflite", tmp_path / "x.npy"
    model.save(path)
    np.save(samples, np.zeros((3, 8, 8, 3), np.int8))
    seen = []
    result = compare(path, model, samples, progress=lambda *report: seen.append(report))
    assert (result.first, result.second, result.data) == (str(path), "model", str(samples))
    assert seen == [(f"model {name}", done, 3) for name in "AB" for done in (0, 3)]


def test_the_report_is_json():
    model = nested(network())
    document = json.loads(json.dumps(compare(model, model, first_level=4, limit=2).to_dict()))
    assert document["schema_version"] == 1 and document["bit_exact"] is False
    assert set(document["first_difference"]) == {"sample", "output", "position", "first", "second"}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((network(), small_network()), FormatError, "the models can't be compared"),
        ((network(), two_outputs()), FormatError, "the models can't be compared"),
        ((network(), network(), Dataset(np.zeros((2, 8, 8, 1)))), FormatError, "a sample has shape"),
        ((relu(operator="ABS"), relu()), UnsupportedError, "ABS"),
    ],
)
def test_what_cannot_be_compared(arguments, error, message):
    with pytest.raises(error, match=message):
        compare(*arguments)


@pytest.mark.parametrize(
    "options", [{"limit": 0}, {"limit": -1}, {"seed": -1}, {"first_level": 4}, {"engine": "fast"}]
)
def test_options_that_make_no_sense(options):
    with pytest.raises(UsageError):
        compare(relu(), relu(), **options)
