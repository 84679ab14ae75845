"""The exported model computes what was trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tflnest.errors import UsageError
from tflnest.interpreter import Interpreter
from tflnest.materialization import materialize

keras = pytest.importorskip("keras", reason="the keras extra is not installed")


@pytest.fixture(scope="module")
def trained(make_network: Callable[..., Any], digits: Any) -> Any:
    keras.utils.set_random_seed(2)
    network = make_network((2, 4, 8))
    network.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
    network.fit(*digits[0], epochs=2, batch_size=64, verbose=0)
    return network


def test_every_level_gives_the_class_of_the_training_graph(trained: Any, digits: Any) -> None:
    nested = trained.to_nested()
    x = np.concatenate([digits[0][0], digits[1][0]])
    for level in trained.levels:
        with trained.at_level(level):
            expected = keras.ops.convert_to_numpy(trained(x)).argmax(-1)
        actual = Interpreter(model=nested, level=level).run(x).argmax(-1)
        assert (actual == expected).mean() >= 0.995, level


def test_every_level_is_bit_exact_with_its_materialized_file(trained: Any, digits: Any) -> None:
    nested = trained.to_nested()
    for level in trained.levels:
        np.testing.assert_array_equal(
            Interpreter(model=nested, level=level).run(digits[1][0]),
            Interpreter(model=materialize(nested, level)).run(digits[1][0]),
        )


def test_trained_scales_and_codes_are_those_of_the_file(trained: Any) -> None:
    nested = trained.to_nested()
    full = materialize(nested, 8).graph.main
    filters = [
        full.tensors[operator.inputs[1]]
        for operator in full.operators
        if operator.name in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
    ]
    for tensor, item in zip(
        filters, (trained.filters[index] for index in sorted(trained.filters)), strict=True
    ):
        scales = keras.ops.convert_to_numpy(item.scales())
        codes = np.rint(np.clip(keras.ops.convert_to_numpy(item.weights) / scales, -127, 127))
        np.testing.assert_array_equal(tensor.data, codes)
        np.testing.assert_allclose(tensor.quantization.scale, scales.reshape(-1), rtol=1e-6)


def test_exporting_does_not_overwrite_unasked(trained: Any, tmp_path: Path) -> None:
    path = tmp_path / "nested.tflite"
    trained.save_nested(path)
    content = path.read_bytes()
    with pytest.raises(UsageError, match="exists"):
        trained.save_nested(path)
    assert path.read_bytes() == content
    assert trained.save_nested(path, force=True).to_bytes() == content
