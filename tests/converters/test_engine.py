"""Converting takes whatever engine there is, and gives the same bytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import tflnest
from converters.engine import engine, prepare
from converters.recipe import Keep
from tests.models import network, random_inputs
from tflnest.dataset import Dataset
from tflnest.errors import UnsupportedError, UsageError
from tflnest.kernels import Node
from tflnest.model import Model
from tflnest.native.library import is_available


def node() -> Node:
    graph = network().graph.main
    operator = graph.operators[0]
    inputs = tuple(graph.tensors[index] for index in operator.inputs)
    return Node(operator, inputs, tuple(graph.tensors[index] for index in operator.outputs))


def without_compiler() -> None:
    raise UnsupportedError("there is no C compiler")


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("tflnest.native.library.library", without_compiler)
    monkeypatch.setattr("tflnest.native.standalone.library", without_compiler)
    is_available.cache_clear()
    yield
    is_available.cache_clear()


@pytest.mark.parametrize("keep", list(Keep))
def test_engines_convert_to_the_same_bytes(tmp_path: Path, keep: Keep) -> None:
    source = tmp_path / "model.tflite"
    source.write_bytes(network().to_bytes())
    data = Dataset(random_inputs(network(), 24), None, "random")
    made = []
    for name in ("reference", "native"):
        with engine(name):
            made.append(
                tflnest.convert(source, levels=(3, 6, 8), keep=keep, calibration=data).model.to_bytes()
            )
    assert made[0] == made[1]
    assert Model.from_bytes(made[0]).directory is not None


def test_without_a_compiler_the_reference_kernels_compute(no_compiler: None) -> None:
    x = random_inputs(network(), 2)
    (automatic,) = prepare(node()).evaluate([x])
    with engine("reference"):
        (expected,) = prepare(node()).evaluate([x])
    np.testing.assert_array_equal(automatic, expected)
    with engine("native"), pytest.raises(UnsupportedError, match="no C compiler"):
        prepare(node())


def test_engines_have_names() -> None:
    with pytest.raises(UsageError, match="engines: auto, reference, native"), engine("naive"):
        pass
