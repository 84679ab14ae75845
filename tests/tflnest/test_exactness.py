"""Whole models, operator by operator, against TensorFlow Lite Micro."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from converters.conversion import convert
from tests.exactness import compare, random_inputs
from tests.models import nested, network
from tests.oracle import MicroOracle, require_wheel
from tests.shared import INT8_MODELS
from tests.single_operator import GraphBuilder
from tflnest.fixedpoint import Rounding, multiply_by_quantized_multiplier, quantize_multiplier
from tflnest.interpreter import Interpreter
from tflnest.materialization import materialize


@pytest.fixture(scope="module")
def oracle() -> Iterator[MicroOracle]:
    require_wheel()
    with MicroOracle() as micro:
        yield micro


def check(oracle: MicroOracle, path: Path, count: int, seed: int) -> None:
    model = path.read_bytes()
    result = compare(oracle, model, random_inputs(model, count, seed))
    assert result.inputs == count
    assert result.values > 0
    assert result.differing == {}
    assert result.mismatches == 0


@pytest.mark.shared
@pytest.mark.parametrize("name", INT8_MODELS)
def test_every_operator_output_matches(shared_models: Path, oracle: MicroOracle, name: str) -> None:
    check(oracle, shared_models / f"{name}.tflite", 3, seed=1)


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize("name", INT8_MODELS)
def test_every_operator_output_matches_on_many_inputs(
    shared_models: Path, oracle: MicroOracle, name: str
) -> None:
    check(oracle, shared_models / f"{name}.tflite", 20, seed=2)


@pytest.mark.parametrize("seed", range(4))
def test_random_networks_match(oracle: MicroOracle, seed: int) -> None:
    model = network(seed).to_bytes()
    result = compare(oracle, model, random_inputs(model, 20, seed))
    assert (result.inputs, result.operators, result.differing) == (20, 6, {})


@pytest.mark.parametrize("level", [4, 6, 8])
def test_levels_of_a_nested_network_match_their_stock_files(oracle: MicroOracle, level: int) -> None:
    source = nested(network(5))
    stock = materialize(source, level).to_bytes()
    interpreter = Interpreter(model=source, level=level)
    assert compare(oracle, stock, random_inputs(stock, 20), interpreter).differing == {}


def test_a_comparison_finds_what_differs(oracle: MicroOracle) -> None:
    model = network(5).to_bytes()
    other = Interpreter(model_content=model, rounding="single")
    result = compare(oracle, model, random_inputs(model, 20), other)
    assert result.mismatches == sum(result.differing.values()) > 0


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize("name", INT8_MODELS)
def test_every_level_of_the_public_models_matches(
    shared_models: Path, oracle: MicroOracle, name: str
) -> None:
    path = shared_models / f"{name}.tflite"
    nested_model = convert(path, levels=(4, 6, 8)).model
    for level in nested_model.directory.levels:
        stock = materialize(nested_model, level).to_bytes()
        interpreter = Interpreter(model=nested_model, level=level)
        result = compare(oracle, stock, random_inputs(stock, 5), interpreter)
        assert result.values > 0
        assert result.differing == {}


def test_fully_connected_with_one_scale_multiplies_scales_in_float64(oracle: MicroOracle) -> None:
    """Accumulators close to ties tell this from a product that is rounded to float32 first."""
    scales = np.float32(0.0437), np.float32(0.00731), np.float32(250.0)
    exact = quantize_multiplier(float(scales[0]) * float(scales[1]) / float(scales[2]))
    rounded = quantize_multiplier(float(scales[0] * scales[1]) / float(scales[2]))
    ties = ((np.arange(-120, 120) + 0.5) / (float(scales[0]) * float(scales[1]) / float(scales[2]))).astype(
        np.int64
    )
    candidates = (ties[:, None] + np.arange(-40, 40)).reshape(-1)
    apart = multiply_by_quantized_multiplier(candidates, *exact, Rounding.DOUBLE)
    apart = apart != multiply_by_quantized_multiplier(candidates, *rounded, Rounding.DOUBLE)
    biases = candidates[apart].astype(np.int32)
    assert biases.size > 10
    builder = GraphBuilder()
    x = builder.input((1, 4), scale=scales[0])
    weights = builder.constant(np.ones((biases.size, 4), np.int8), scales[1])
    bias = builder.constant(biases, np.float32(scales[0] * scales[1]))
    y = builder.tensor((1, biases.size), scale=scales[2])
    builder.operator("FULLY_CONNECTED", [x, weights, bias], [y], 4)
    result = compare(oracle, builder.build([y]), [[np.zeros((1, 4), np.int8)]])
    assert result.values == biases.size
    assert result.mismatches == 0
