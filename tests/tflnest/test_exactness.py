"""Whole models, operator by operator, against TensorFlow Lite Micro."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from converters.conversion import convert
from tests.exactness import compare, random_inputs
from tests.models import nested, network
from tests.oracle import MicroOracle
from tests.shared import INT8_MODELS
from tflnest.interpreter import Interpreter
from tflnest.materialization import materialize


@pytest.fixture(scope="module")
def oracle() -> Iterator[MicroOracle]:
    if not MicroOracle.available():
        pytest.skip("the package tflite_micro is not installed")
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
