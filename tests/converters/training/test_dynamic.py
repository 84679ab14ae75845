"""Networks whose widths a controller chooses."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tflnest.dataset import Dataset
from tflnest.errors import UsageError

keras = pytest.importorskip("keras", reason="the keras extra is not installed")

ROOT = Path(__file__).resolve().parents[3]


def numpy(values: Any) -> Any:
    return keras.ops.convert_to_numpy(values)


def dynamic(network: Any, digits: Any, **options: Any) -> Any:
    from converters.training import ControllerOptions, add_controller

    calibration = Dataset(digits[0][0][:64], name="calibration")
    model = add_controller(network, ControllerOptions(**options), calibration=calibration)
    model.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


@pytest.fixture(scope="module")
def network(make_network: Callable[..., Any], digits: Any) -> Any:
    """Trained a little at 2, 4 and 8 bits."""
    keras.utils.set_random_seed(2)
    nested = make_network((2, 4, 8))
    nested.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
    nested.fit(*digits[0], epochs=1, batch_size=64, verbose=0)
    return nested


def fix_choice(model: Any, position: int) -> None:
    """Make the controller choose the same for every operator and input."""
    kernel, bias = model.controller.kernels[1], model.controller.biases[1]
    kernel.assign(np.zeros(kernel.shape))
    wanted = np.arange(model.controller.choices) == position
    bias.assign(np.tile(wanted.astype(np.float32), model.controller.groups))


@pytest.mark.parametrize("position", range(3))
def test_one_choice_for_all_is_the_static_level(network: Any, digits: Any, position: int) -> None:
    x = digits[1][0][:100]
    model = dynamic(network, digits)
    fix_choice(model, position)
    with network.at_level(network.levels[position]):
        expected = numpy(network(x))
    np.testing.assert_array_equal(numpy(model(x)), expected)
    static = model.costs.fixed + model.costs.choices[:, position].sum()
    assert model.mean_cost(x) == pytest.approx(static, rel=1e-5)


def test_every_sample_runs_at_its_own_widths(network: Any, digits: Any) -> None:
    """Samples through the mixed pass give what they give alone, where all share one choice per operator."""
    model = dynamic(network, digits)
    model.controller.kernels[1].assign(
        np.random.default_rng(0).normal(size=model.controller.kernels[1].shape)
    )
    x = digits[1][0][:40]
    assert len({tuple(row) for row in model.choose(x)}) > 5
    together = numpy(model(x))
    for index in range(0, len(x), 8):
        np.testing.assert_allclose(numpy(model(x[index : index + 1]))[0], together[index], atol=1e-6)


def test_activations_can_be_narrower_than_the_weights(network: Any, digits: Any) -> None:
    x = digits[1][0][:50]
    wide, narrow = (dynamic(network, digits, choices=((4, 8), (4, bits))) for bits in (7, 2))
    for model in (wide, narrow):
        fix_choice(model, 1)
    with network.at_level(4):
        full = numpy(network(x))
    differences = [np.abs(numpy(model(x)) - full).mean() for model in (wide, narrow)]
    assert 0 < differences[0] < differences[1]
    assert narrow.mean_cost(x) < wide.mean_cost(x)


@pytest.mark.parametrize("granularity", ["operator", pytest.param("network", marks=pytest.mark.slow)])
def test_training_brings_the_mean_cost_to_its_target(network: Any, digits: Any, granularity: str) -> None:
    keras.utils.set_random_seed(3)
    model = dynamic(network, digits, granularity=granularity, target=0.5, annealing_steps=30, confidence=0.0)
    before = [numpy(item) for item in network.trainable_variables + network.non_trainable_variables]
    model.fit(*digits[0], epochs=2, batch_size=64, verbose=0)
    x = digits[0][0]
    logits = numpy(model.logits(x))
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = model.costs.fixed + (shares * model.costs.choices).sum((1, 2)).mean()
    assert expected == pytest.approx(0.5, abs=0.05)
    assert float(numpy(model.steps)) == 2 * -(-len(x) // 64)
    after = [numpy(item) for item in network.trainable_variables + network.non_trainable_variables]
    for first, second in zip(before, after, strict=True):
        np.testing.assert_array_equal(first, second)
    assert model.reach_target(x) == pytest.approx(0.5, abs=0.03)
    assert model.mean_cost(x) == pytest.approx(0.5, abs=0.03)


def test_a_target_that_no_choice_reaches_is_refused(network: Any, digits: Any) -> None:
    model = dynamic(network, digits)
    for target in (None, 0.05, 1.5):
        with pytest.raises(UsageError, match=r"mean BitOPs can be 0\.\d+ to 1\.\d+"):
            model.reach_target(digits[0][0][:64], target)


@pytest.mark.slow
def test_the_network_can_be_trained_with_its_controller(
    make_network: Callable[..., Any], digits: Any
) -> None:
    model = dynamic(make_network((2, 8)), digits, train_network=True, target=0.5)
    weights = numpy(model.network.filters[min(model.network.filters)].weights).copy()
    x, y = digits[0][0][:64], digits[0][1][:64]
    model.fit(x, y, epochs=1, batch_size=32, verbose=0)
    assert not np.array_equal(weights, numpy(model.network.filters[min(model.network.filters)].weights))
    predicted = model(x, training=True)
    entropy = keras.losses.SparseCategoricalCrossentropy()
    static = 0.0
    for level in (2, 8):
        with model.network.at_level(level):
            static += float(entropy(y, model.network(x, training=True)))
    cost = float(sum(model.losses))
    assert cost > 0
    assert float(model.compute_loss(x, y, predicted, training=True)) == pytest.approx(
        float(entropy(y, predicted)) + cost + static / 2, rel=1e-4
    )


def test_a_saved_dynamic_network_is_loaded_as_it_was(network: Any, digits: Any, tmp_path: Path) -> None:
    model = dynamic(network, digits, target=0.4, annealing_steps=10)
    model.fit(digits[0][0][:128], digits[0][1][:128], epochs=1, verbose=0)
    model.save(tmp_path / "dynamic.keras")
    loaded = keras.models.load_model(tmp_path / "dynamic.keras")
    x = digits[1][0]
    np.testing.assert_array_equal(numpy(loaded(x)), numpy(model(x)))
    np.testing.assert_array_equal(loaded.choose(x), model.choose(x))
    assert loaded.options == model.options
    assert float(numpy(loaded.steps)) == float(numpy(model.steps))


def test_the_stem_is_found_by_name_and_checked(network: Any, digits: Any) -> None:
    from converters.training.stem import find_stem

    subgraph = network.preparation.subgraph
    first = find_stem(network, None)
    assert first.ready == 1
    assert find_stem(network, subgraph.tensors[first.tensor].name) == first
    last = subgraph.operators[-1].outputs[0]
    with pytest.raises(UsageError, match="pooled over height and width"):
        find_stem(network, last)
    with pytest.raises(UsageError, match="stems are among"):
        find_stem(network, "nowhere")


ON_JAX = """
import sys
import numpy as np
import keras
from converters.recipe import Recipe
from converters.training import ControllerOptions, add_controller, nest_for_training
from tflnest.dataset import Dataset

assert keras.backend.backend() == "jax" and "tensorflow" not in sys.modules
with np.load(sys.argv[1]) as arrays:
    x, y = arrays["x"], arrays["y"]
layers = keras.layers
model = keras.Sequential([
    keras.Input((8, 8, 1)), layers.Conv2D(8, 3, activation="relu"), layers.Conv2D(16, 3, activation="relu"),
    layers.Flatten(), layers.Dense(10, activation="softmax"),
])
calibration = Dataset(x[:64], name="x")
network = nest_for_training(model, Recipe(levels=(2, 8)), calibration=calibration)
options = ControllerOptions(target=0.6, annealing_steps=30, train_network=True)
dynamic = add_controller(network, options, calibration=calibration)
dynamic.compile(keras.optimizers.Adam(5e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
dynamic.fit(x, y, epochs=4, batch_size=64, verbose=0)
assert int(dynamic.steps) == 4 * -(-len(x) // 64)
cost = dynamic.reach_target(x)
assert abs(cost - 0.6) < 0.03, cost
assert (np.asarray(dynamic.predict(x, verbose=0)).argmax(-1) == y).mean() > 0.8
assert dynamic.to_nested().controller is not None
"""


@pytest.mark.slow
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


@pytest.fixture(scope="module")
def uneven(make_network: Callable[..., Any], digits: Any) -> Any:
    """A network that is bad at 1 bit, and samples of which the bright ones are right at any width."""
    return make_network((1, 8))


@pytest.mark.parametrize("granularity", ["operator", pytest.param("network", marks=pytest.mark.slow)])
def test_a_table_of_losses_trains_the_controller(uneven: Any, digits: Any, granularity: str) -> None:
    keras.utils.set_random_seed(4)
    x, y = digits[0]
    model = dynamic(uneven, digits, granularity=granularity, target=0.5)
    told: list[tuple[int, int]] = []
    explained = model.fit_controller(x, y, progress=lambda stage, done, total: told.append((done, total)))
    assert 0.0 < explained < 1.0
    assert told[-1][0] == told[-1][1] == len(model.alternatives()) * 2
    assert model.mean_cost(x) == pytest.approx(0.5, abs=0.03)
    rates = []
    chosen = model.choose(x)
    shares = np.random.default_rng(0).permutation(len(chosen))
    for positions in (chosen, chosen[shares]):
        rates.append(accuracy_at(model, x, y, positions))
    assert rates[0] > rates[1]


def accuracy_at(model: Any, x: Any, y: Any, positions: Any) -> float:
    """Accuracy with given choices."""
    values, _ = model._logits(x, exact=True)
    shares = np.eye(len(model.choices), dtype=np.float32)[positions[:, : model.controller.groups]]
    return float((numpy(model._finished(values, shares)).argmax(-1) == y).mean())


def test_a_table_needs_a_loss(network: Any, digits: Any) -> None:
    from converters.training import ControllerOptions, add_controller

    model = add_controller(network, ControllerOptions(), calibration=Dataset(digits[0][0][:64], name="x"))
    with pytest.raises(UsageError, match="no single loss"):
        model.fit_controller(*digits[0])


@pytest.fixture(scope="module")
def mixed(network: Any, digits: Any) -> Any:
    """A controller that chooses between two assignments of 2, 4 and 8 bits; one operator is the same in both."""
    keras.utils.set_random_seed(5)
    model = dynamic(
        network, digits, granularity="network", assignments=((0, 1, 0, 1, 0), (1, 2, 2, 1, 1)), target=0.55
    )
    model.fit_controller(*digits[0], epochs=5)
    return model


def test_a_controller_chooses_between_assignments(mixed: Any, digits: Any) -> None:
    x = digits[0][0]
    chosen = {tuple(row) for row in mixed.choose(x).tolist()}
    assert chosen == {(0, 1, 0, 1, 0), (1, 2, 2, 1, 1)}
    np.testing.assert_array_equal(numpy(mixed.logits(x)).argmax(-1), mixed.choose(x))
    assert mixed.mean_cost(x) == pytest.approx(0.55, abs=0.03)


@pytest.fixture(scope="module")
def per_operator(network: Any, digits: Any) -> Any:
    keras.utils.set_random_seed(6)
    model = dynamic(
        network,
        digits,
        choices=((2, 8), (4, 5), (4, 8), (8, 8)),
        target=0.4,
        annealing_steps=30,
        confidence=0.5,
    )
    model.fit(*digits[0], epochs=2, batch_size=64, verbose=0)
    model.reach_target(digits[0][0])
    return model


@pytest.fixture(scope="module")
def convolutional(network: Any, digits: Any) -> Any:
    """A controller whose features are the probabilities of a classifier."""
    keras.utils.set_random_seed(7)
    model = dynamic(
        network, digits, choices=((2, 4), (8, 8)), granularity="network", convolutions=(8, 16), target=0.6
    )
    model.fit_controller(*digits[0], epochs=10)
    return model


def test_a_saved_controller_keeps_its_classifier(convolutional: Any, digits: Any, tmp_path: Path) -> None:
    convolutional.save(tmp_path / "dynamic.keras")
    loaded = keras.models.load_model(tmp_path / "dynamic.keras")
    x = digits[1][0]
    np.testing.assert_array_equal(loaded.features(x), convolutional.features(x))
    np.testing.assert_array_equal(loaded.choose(x), convolutional.choose(x))
    assert loaded.options == convolutional.options
    assert loaded.controller_macs == 4 * 4 * 9 * 16 * 8 + 2 * 2 * 9 * 8 * 16 + 10 * 64 + 64 * (10 + 2 * 5)


def test_a_classifier_imitates_the_network(convolutional: Any, network: Any, digits: Any) -> None:
    x, y = digits[1]
    features = convolutional.features(x)
    assert np.abs(features.sum(axis=1) - 1.0).max() < 0.03
    assert (features.argmax(axis=1) == y).mean() > 0.7
    assert (numpy(network(x)).argmax(axis=1) == features.argmax(axis=1)).mean() > 0.7


def test_the_first_of_several_largest_logits_counts() -> None:
    from converters.training.controller import chosen

    logits = np.array([[1, 1, 0], [0, 2, 2], [-1, -1, -1], [0, 1, 2]], np.float32)
    assert numpy(chosen(logits)).tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize("fixture", ["mixed", "per_operator", "convolutional"])
def test_the_file_chooses_and_computes_what_was_trained(
    fixture: str, digits: Any, request: pytest.FixtureRequest
) -> None:
    from tflnest.interpreter import Interpreter

    model = request.getfixturevalue(fixture)
    nested = model.to_nested()
    x = np.concatenate([digits[0][0], digits[1][0]])
    interpreter = Interpreter(model=nested, policy="dynamic")
    outputs, widths = interpreter.run(x), interpreter.widths
    positions = model.choose(x)
    wanted = np.asarray(model.choices)[positions]
    controlled = [
        column
        for column, operator in enumerate(widths.operators)
        if operator.index in nested.controller.operators
    ]
    agreed = (widths.weight_bits[:, controlled] == wanted[..., 0]) & (
        widths.activation_bits[:, controlled] == wanted[..., 1]
    )
    assert len({tuple(row) for row in positions}) > 1
    assert agreed.mean() >= 0.995
    same = outputs.argmax(-1) == numpy(model(x)).argmax(-1)
    assert same.mean() >= 0.995
    assert same[agreed.all(axis=1)].mean() >= 0.999
    # BitOPs of the file are those that the training counts.
    full = 64 * model.costs.macs
    assert widths.bit_operations().mean() / full == pytest.approx(model.mean_cost(x), abs=0.02)
