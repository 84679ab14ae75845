"""The public int8 models, operator by operator, against TensorFlow Lite Micro."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.exactness import compare, random_inputs
from tests.oracle import MicroOracle

MODELS = (
    "ad01_int8",
    "hello_world_int8",
    "kws_ref_model",
    "micro_speech_quantized",
    "mobilenet_v2_quantized_1x3x224x224",
    "person_detect",
    "pretrainedResnet_quant",
    "vww_96_int8",
)

pytestmark = pytest.mark.shared


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


@pytest.mark.parametrize("name", MODELS)
def test_every_operator_output_matches(shared_models: Path, oracle: MicroOracle, name: str) -> None:
    check(oracle, shared_models / f"{name}.tflite", 3, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_every_operator_output_matches_on_many_inputs(shared_models: Path, oracle: MicroOracle, name: str) -> None:
    check(oracle, shared_models / f"{name}.tflite", 20, seed=2)
