from __future__ import annotations

import numpy as np
import pytest

from tests.models import nested, network, random_inputs
from tests.single_operator import GraphBuilder
from tflnest.errors import UnsupportedError, UsageError
from tflnest.interpreter import ENGINES, Interpreter
from tflnest.materialization import materialize
from tflnest.model import Model
from tflnest.runner import CHUNK, Runner, is_integer, model_levels, single_input


def two_outputs(type_name="INT8", scale=0.5):
    """Two outputs of different sizes: a RELU and the maximum of four values."""
    graph = GraphBuilder()
    x = graph.input((1, 2, 2, 1), type_name, scale)
    y = graph.tensor((1, 2, 2, 1), type_name, scale)
    z = graph.tensor((1, 1, 1, 1), type_name, scale)
    window = {"padding": "VALID", "stride_w": 2, "stride_h": 2, "filter_width": 2, "filter_height": 2}
    graph.operator("RELU", [x], [y])
    graph.operator("MAX_POOL_2D", [x], [z], **window)
    return Model.from_bytes(graph.build([y, z]))


def bordered():
    """Float outside, int8 inside."""
    graph = GraphBuilder()
    x, y = graph.input((1, 4), "FLOAT32"), graph.tensor((1, 4), "FLOAT32")
    a, b = graph.tensor((1, 4), "INT8", 0.5), graph.tensor((1, 4), "INT8", 0.5)
    graph.operator("QUANTIZE", [x], [a])
    graph.operator("RELU", [a], [b])
    graph.operator("DEQUANTIZE", [b], [y])
    return Model.from_bytes(graph.build([y]))


def test_every_sample_of_every_chunk_runs_in_order():
    model = network()
    x = random_inputs(model, 2 * CHUNK + 3)
    seen = []
    (outputs,) = Runner(model).run(x, "stage", lambda *report: seen.append(report))
    assert outputs.shape == (len(x), 10) and outputs.dtype == np.int8
    one_by_one = np.concatenate([Interpreter(model=model).run(x[i : i + 1]) for i in range(len(x))])
    np.testing.assert_array_equal(outputs, one_by_one)
    assert seen == [("stage", done, len(x)) for done in (0, CHUNK, 2 * CHUNK, len(x))]


@pytest.mark.parametrize("engine", ["reference", "litert"])
def test_all_outputs_come_back_flat(engine):
    model = two_outputs()
    x = random_inputs(model, 5)
    first, second = Runner(model, engine=engine).run(x)
    np.testing.assert_array_equal(first, np.maximum(x, 0).reshape(5, 4))
    np.testing.assert_array_equal(second, x.reshape(5, 4).max(axis=1, keepdims=True))


@pytest.mark.parametrize("engine", ["reference", "litert"])
def test_levels_are_those_of_the_materialized_models(engine):
    model = nested(network())
    x = random_inputs(model, 6)
    for level in model_levels(model):
        (outputs,) = Runner(model, level, engine).run(x)
        (expected,) = Runner(materialize(model, level), engine=engine).run(x)
        np.testing.assert_array_equal(outputs, expected)
    np.testing.assert_array_equal(Runner(model, engine=engine).run(x)[0], outputs)


@pytest.mark.parametrize(
    ("model", "integer"), [(network(), True), (two_outputs("FLOAT32", None), False), (bordered(), True)]
)
def test_auto_takes_the_reference_engine_for_integers(model, integer):
    assert is_integer(model) is integer
    assert Runner(model).engine in (ENGINES if integer else ("litert",))


def test_the_reference_engine_takes_no_float_models():
    with pytest.raises(UnsupportedError, match="computes with integers") as caught:
        Runner(two_outputs("FLOAT32", None), engine="reference")
    assert "litert" in caught.value.hint


def test_wrong_engines_and_levels():
    with pytest.raises(UsageError, match="no engine 'fast'"):
        Runner(network(), engine="fast")
    with pytest.raises(UsageError, match="no level 5") as caught:
        Runner(nested(network()), 5)
    assert caught.value.hint == "levels: 4, 6, 8"
    with pytest.raises(UsageError, match="no level 4") as caught:
        Runner(network(), 4)
    assert caught.value.hint == "it is not nested"
    assert Runner(network(), 8).engine in ENGINES


def test_one_input_is_needed():
    graph = GraphBuilder()
    a, b = graph.input((1, 4), "INT8", 0.5), graph.input((1, 4), "INT8", 0.5)
    y = graph.tensor((1, 4), "INT8", 0.5)
    graph.operator("ADD", [a, b], [y])
    with pytest.raises(UnsupportedError, match="the model has 2 inputs"):
        single_input(Model.from_bytes(graph.build([y])))


def test_what_the_stock_runtime_refuses_is_said():
    graph = GraphBuilder()
    x, y = graph.input((1, 4), "INT8", 0.5), graph.tensor((1, 5), "INT8", 0.25)
    graph.operator("CONV_2D", [x, x, -1], [y], padding="SAME", stride_w=1, stride_h=1)
    with pytest.raises(UnsupportedError, match="stock TensorFlow Lite does not take the model"):
        Runner(Model.from_bytes(graph.build([y])), engine="litert")


def test_the_stock_runtime_is_kept_quiet(capfd):
    Runner(two_outputs("FLOAT32", None)).run(np.zeros((1, 2, 2, 1), np.float32))
    assert capfd.readouterr() == ("", "")
