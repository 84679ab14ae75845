from __future__ import annotations

import numpy as np
import pytest

from converters.calibration import Range, collect_ranges
from tests.single_operator import GraphBuilder
from tflnest.dataset import Dataset
from tflnest.errors import FormatError, UnsupportedError
from tflnest.model import Model


def scaled_model(factor):
    """y = relu(x * factor)"""
    graph = GraphBuilder()
    x = graph.input((1, 4), "FLOAT32")
    product, y = graph.tensor((1, 4), "FLOAT32"), graph.tensor((1, 4), "FLOAT32")
    graph.operator("MUL", [x, graph.constant(np.full((1, 4), factor, np.float32))], [product])
    graph.operator("RELU", [product], [y])
    return Model.from_bytes(graph.build([y]))


def test_ranges_are_those_of_all_samples():
    data = np.array([[1, 2, 3, 4], [-5, 0, 1, 2], [0, 0, 0, 0]], np.float32)
    ranges = collect_ranges(scaled_model(2.0), Dataset(data))
    assert list(ranges.values()) == [Range(-5.0, 4.0), Range(-10.0, 8.0), Range(0.0, 8.0)]


def test_progress_counts_samples():
    seen = []
    collect_ranges(
        scaled_model(1.0), Dataset(np.zeros((3, 4), np.float32)), lambda *event: seen.append(event)
    )
    assert seen == [("calibrating", 1, 3), ("calibrating", 2, 3), ("calibrating", 3, 3)]


def test_overflow_names_sample_and_tensor():
    graph = GraphBuilder()
    x, y = graph.input((1, 4), "FLOAT32"), graph.tensor((1, 1), "FLOAT32")
    graph.operator("SUM", [x, graph.constant(np.array([1], np.int32))], [y], keep_dims=True)
    data = np.array([[1, 1, 1, 1], [3e38, 3e38, 0, 0]], np.float32)
    with pytest.raises(FormatError, match=r"sample 1 makes tensor 1 \('tensor_1'\) NaN or infinite"):
        collect_ranges(Model.from_bytes(graph.build([y])), Dataset(data))


def test_nan_is_not_lost_in_the_minimum():
    model = scaled_model(float("nan"))
    with pytest.raises(FormatError, match="NaN"):
        collect_ranges(model, Dataset(np.ones((2, 4), np.float32)))


def test_wrong_shape_and_type():
    with pytest.raises(FormatError, match=r"\[5\], the model's input takes \[4\]"):
        collect_ranges(scaled_model(1.0), Dataset(np.zeros((2, 5), np.float32)))
    with pytest.raises(FormatError, match="uint8"):
        collect_ranges(scaled_model(1.0), Dataset(np.zeros((2, 4), np.uint8)))


def test_models_with_two_inputs_are_refused():
    graph = GraphBuilder()
    inputs = [graph.input((1, 2), "FLOAT32") for _ in range(2)]
    y = graph.tensor((1, 2), "FLOAT32")
    graph.operator("ADD", inputs, [y])
    with pytest.raises(UnsupportedError, match="has 2 inputs"):
        collect_ranges(Model.from_bytes(graph.build([y])), Dataset(np.zeros((1, 2), np.float32)))


def test_a_model_that_the_runtime_refuses():
    graph = GraphBuilder()
    x, y = graph.input((1, 4), "FLOAT32"), graph.tensor((1, 4), "FLOAT32")
    graph.operator("RELU", [x], [y], version=99)
    with pytest.raises(UnsupportedError, match="does not load the float model"):
        collect_ranges(Model.from_bytes(graph.build([y])), Dataset(np.zeros((1, 4), np.float32)))


def test_ranges_join():
    assert Range(-1.0, 2.0).union(Range(0.0, 3.0)) == Range(-1.0, 3.0)
