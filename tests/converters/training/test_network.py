"""The network that is trained: levels, losses, saving."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tflnest.errors import UnsupportedError, UsageError
from tflnest.interpreter import Interpreter

keras = pytest.importorskip("keras", reason="the keras extra is not installed")

ROOT = Path(__file__).resolve().parents[3]


def numpy(values: Any) -> Any:
    return keras.ops.convert_to_numpy(values)


def accuracy(network: Any, level: int, data: Any) -> float:
    with network.at_level(level):
        return float((numpy(network(data[0])).argmax(-1) == data[1]).mean())


def compiled(network: Any, rate: float = 1e-3) -> Any:
    network.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return network


def test_training_lifts_the_lowest_level(make_network: Callable[..., Any], digits: Any) -> None:
    keras.utils.set_random_seed(1)
    network = compiled(make_network((1, 8)))
    before = accuracy(network, 1, digits[1])
    network.fit(*digits[0], epochs=3, batch_size=64, verbose=0)
    assert accuracy(network, 1, digits[1]) > before + 0.1
    assert accuracy(network, 8, digits[1]) > 0.9


def test_the_loss_is_that_of_all_levels_in_training_only(
    make_network: Callable[..., Any], digits: Any
) -> None:
    network = compiled(make_network((2, 8), alpha=0.5, distillation=0.0))
    x, y = digits[0][0][:32], digits[0][1][:32]
    entropy = keras.losses.SparseCategoricalCrossentropy()
    full = network(x, training=True)
    with network.at_level(2):
        part = network(x, training=True)
    separate = float(entropy(y, full)), float(entropy(y, part))
    assert float(network.compute_loss(x, y, full, training=True)) == pytest.approx(
        separate[0] + 0.5 * separate[1], rel=1e-5
    )
    assert float(network.compute_loss(x, y, full, training=False)) == pytest.approx(separate[0], rel=1e-5)


def test_distillation_adds_the_divergence_from_the_full_bit_level(
    make_network: Callable[..., Any], digits: Any
) -> None:
    network = compiled(make_network((2, 8), alpha=0.0, distillation=2.0))
    x, y = digits[0][0][:32], digits[0][1][:32]
    full = network(x, training=True)
    with network.at_level(2):
        part = numpy(network(x, training=True))
    teacher, student = np.clip(numpy(full), 1e-7, 1), np.clip(part, 1e-7, 1)
    divergence = (teacher * np.log(teacher / student)).sum(-1).mean()
    entropy = float(keras.losses.SparseCategoricalCrossentropy()(y, full))
    assert float(network.compute_loss(x, y, full, training=True)) == pytest.approx(
        entropy + 2 * divergence, rel=1e-4
    )


def test_levels_can_share_their_biases(make_network: Callable[..., Any]) -> None:
    own, shared = make_network((2, 8)), make_network((2, 8), biases_per_level=False)
    assert len(own.trainable_variables) > len(shared.trainable_variables)
    for trained in shared.filters.values():
        assert len(set(map(id, trained.bias_parts))) == 1


def test_activations_follow_the_level_where_asked(make_network: Callable[..., Any], digits: Any) -> None:
    x = digits[1][0][:64]
    network = make_network((2, 8), activations=True)
    plain = make_network((2, 8))
    np.testing.assert_array_equal(numpy(network(x)), numpy(plain(x)))
    with network.at_level(2), plain.at_level(2):
        assert not np.array_equal(numpy(network(x)), numpy(plain(x)))


def test_an_unknown_level_is_refused(make_network: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match="no level 3"), make_network((2, 8)).at_level(3):
        pass


def test_a_saved_network_is_loaded_as_it_was(
    make_network: Callable[..., Any], digits: Any, tmp_path: Path
) -> None:
    network = compiled(make_network((2, 8)))
    network.fit(digits[0][0][:128], digits[0][1][:128], epochs=1, verbose=0)
    network.save(tmp_path / "network.keras")
    loaded = keras.models.load_model(tmp_path / "network.keras")
    for level in (2, 8):
        with network.at_level(level), loaded.at_level(level):
            np.testing.assert_array_equal(numpy(network(digits[1][0])), numpy(loaded(digits[1][0])))


def test_a_keras_model_in_memory_is_taken(make_network: Callable[..., Any], digits: Any) -> None:
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), keras.layers.Dense(10)])
    network = make_network((4, 8), model)
    seen = digits[0][0][:64]
    np.testing.assert_allclose(numpy(network(seen)), numpy(model(seen)), atol=0.05)


def test_what_cannot_be_trained_is_named(make_network: Callable[..., Any]) -> None:
    image = keras.Input((8, 8, 1))
    model = keras.Model(image, keras.layers.Flatten()(keras.ops.cumsum(image, axis=1)))
    with pytest.raises(UnsupportedError, match="CUMSUM"):
        make_network((4, 8), model)


def test_a_filter_that_does_not_nest_stays_flat_and_is_trained(
    make_network: Callable[..., Any], digits: Any
) -> None:
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2DTranspose(4, 3, strides=2, padding="valid", bias_initializer="normal"),
            layers.PReLU(shared_axes=[1, 2], alpha_initializer="normal"),
            layers.Permute((2, 1, 3)),
            layers.Flatten(),
            layers.Dense(10),
        ]
    )
    network = make_network((4, 8), model)
    seen = digits[0][0][:64]
    np.testing.assert_allclose(numpy(network(seen)), numpy(model(seen)), atol=0.05)
    flat = [item for item in network.filters.values() if item.nesting is None]
    assert len(flat) == 1 and flat[0].plan is None and len(network.filters) == 2
    interpreter = Interpreter(model=network.to_nested(), level=8)
    same = interpreter.run(seen).argmax(-1) == numpy(network(seen)).argmax(-1)
    assert same.mean() > 0.95


def test_an_int8_source_is_refused(make_network: Callable[..., Any], digits: Any, tmp_path: Path) -> None:
    import tflnest
    from tflnest.dataset import Dataset

    path = tmp_path / "int8.tflite"
    data = Dataset(digits[0][0][:16], name="calibration")
    tflnest.convert(ROOT / "examples" / "digits.keras", calibration=data, dry_run=True).int8.save(path)
    with pytest.raises(UsageError, match="training starts from float weights"):
        make_network((4, 8), path)


def test_something_else_than_a_model_is_refused(make_network: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match="a dict is no Keras model"):
        make_network((4, 8), {})


ON_JAX = """
import sys
import numpy as np
import keras
from converters.recipe import Recipe
from converters.training import TrainingOptions, nest_for_training
from tflnest.dataset import Dataset
from tflnest.interpreter import Interpreter

assert keras.backend.backend() == "jax" and "tensorflow" not in sys.modules
with np.load(sys.argv[1]) as arrays:
    x, y = arrays["x"], arrays["y"]
model = keras.Sequential([
    keras.Input((8, 8, 1)), keras.layers.Conv2D(8, 3, activation="relu"), keras.layers.Flatten(),
    keras.layers.Dense(10, activation="softmax"),
])
network = nest_for_training(model, Recipe(levels=(2, 8)), calibration=Dataset(x[:64], name="x"))
network.compile(keras.optimizers.Adam(1e-2), "sparse_categorical_crossentropy", metrics=["accuracy"])
network.fit(x, y, epochs=6, batch_size=64, verbose=0)
nested = network.to_nested()
for level in (2, 8):
    with network.at_level(level):
        trained = np.asarray(network(x)).argmax(-1)
    exported = Interpreter(model=nested, level=level).run(x).argmax(-1)
    assert (trained == exported).mean() >= 0.995, (level, (trained == exported).mean())
    assert (exported == y).mean() > 0.9, (level, (exported == y).mean())
"""


def test_it_trains_on_jax(digits: Any, tmp_path: Path) -> None:
    pytest.importorskip("jax")
    np.savez(tmp_path / "digits.npz", x=digits[0][0], y=digits[0][1])
    result = subprocess.run(
        [sys.executable, "-c", ON_JAX, str(tmp_path / "digits.npz")],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
