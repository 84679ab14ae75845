"""Whole trainings: checkpoints, resuming, divergence, several devices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from converters.training import train
from converters.training.checkpoints import EpochResult
from converters.training.job import Augmentation, OptimizerOptions, TrainingJob
from converters.training.options import TrainingOptions
from tests.converters.training.small_model import small_model
from tests.single_operator import GraphBuilder
from tflnest.dataset import Dataset
from tflnest.errors import FormatError, TflnestError, UsageError
from tflnest.evaluation import evaluate
from tflnest.model import Model

keras = pytest.importorskip("keras", reason="the keras extra is not installed")

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _eagerly() -> Iterator[None]:
    """A few steps take less time than tracing one."""
    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow

    tensorflow.config.run_functions_eagerly(True)
    yield
    tensorflow.config.run_functions_eagerly(False)


@pytest.fixture(scope="module")
def make_job(digits: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., TrainingJob]:
    folder = tmp_path_factory.mktemp("jobs")
    (folder / "small.tflite").write_bytes(small_model())

    def make(name: str, **changes: Any) -> TrainingJob:
        job = TrainingJob(
            model=folder / "small.tflite",
            data=Dataset(digits[0][0][:200], digits[0][1][:200], "digits"),
            validation=Dataset(digits[1][0][:100], digits[1][1][:100], "validation"),
            output=folder / f"{name}.tflite",
            epochs=2,
            batch=64,
            optimizer=OptimizerOptions(rate=1e-2),
            augmentation=Augmentation(shift=1),
        )
        return replace(job, **changes)

    return make


class Stop(Exception):
    """Stands for a kill."""


def test_a_training_that_was_stopped_goes_on_as_if_it_was_not(make_job: Callable[..., TrainingJob]) -> None:
    whole = train(make_job("whole"))
    steps: list[int] = []

    def stop(stage: str, done: int, total: int) -> None:
        steps.append(done)
        if done == 5:  # in the second epoch
            raise Stop

    job = make_job("stopped")
    with pytest.raises(Stop):
        train(job, progress=stop)
    assert steps == list(range(1, 6)) and not job.output.exists()
    assert json.loads((job.checkpoints / "state.json").read_text())["checkpoint"] == "epoch-0001.keras"
    steps.clear()
    resumed = train(job, progress=lambda stage, done, total: steps.append(done))
    assert steps == [4, 5, 6] and resumed.resumed_after == 1
    assert [epoch.epoch for epoch in resumed.history] == [1, 2]
    assert resumed.history[1].loss == pytest.approx(whole.history[1].loss, rel=1e-4)
    assert Model.load(job.output).to_bytes() == resumed.model.to_bytes()
    assert [path.name for path in job.checkpoints.glob("*.keras")] == ["epoch-0002.keras"]


def test_levels_are_measured_on_the_file(make_job: Callable[..., TrainingJob]) -> None:
    seen: list[EpochResult] = []
    job = make_job("measured", epochs=1)
    result = train(job, report=seen.append)
    assert list(result.accuracy) == [2, 4, 6, 8] and result.accuracy == seen[0].accuracy
    assert job.validation is not None
    for row in evaluate(job.output, job.validation, engine="reference").levels:
        assert row.top1 == result.accuracy[row.level]
    assert list(result.flat.values()) == ["recipe: first convolution stays flat"]
    with pytest.raises(UsageError, match="exists already"):
        train(job)
    again = train(job, force=True, progress=lambda *_: pytest.fail("a step was made"))
    assert again.model.to_bytes() == result.model.to_bytes() and again.resumed_after == 1


def test_checkpoints_of_another_training_are_refused(make_job: Callable[..., TrainingJob]) -> None:
    job = make_job("mine", epochs=1, validation=None)
    train(job)
    other = replace(job, recipe=job.recipe.with_options(levels=(4, 8)))
    with pytest.raises(FormatError, match="holds a training of another model, other levels or data"):
        train(other, force=True)
    anew = train(other, force=True, restart=True)
    assert anew.resumed_after == 0 and anew.accuracy == {4: None, 8: None}
    (job.checkpoints / "state.json").write_text("[]")
    with pytest.raises(FormatError, match="holds no checkpoint"):
        train(other, force=True)


def test_a_diverging_training_keeps_the_last_good_checkpoint(make_job: Callable[..., TrainingJob]) -> None:
    job = make_job("wild", validation=None, epochs=1)
    train(job)
    wild = replace(job, epochs=2, optimizer=OptimizerOptions(rate=1e6, schedule="constant", warmup=0))
    with pytest.raises(
        TflnestError, match=r"the training diverged in epoch 2, step \d: its loss is"
    ) as caught:
        train(wild, force=True)
    assert "the checkpoint of epoch 1 is kept" in str(caught.value.hint)
    assert train(job, force=True).resumed_after == 1


def test_weights_come_from_another_training(make_job: Callable[..., TrainingJob]) -> None:
    first = make_job("first", epochs=1)
    trained = train(first)
    checkpoint = first.checkpoints / "epoch-0001.keras"
    still = OptimizerOptions(rate=1e-9, schedule="constant", warmup=0)
    after = train(make_job("second", epochs=1, start=checkpoint, optimizer=still))
    assert after.accuracy == trained.accuracy
    with pytest.raises(FormatError, match="the weights do not fit this training"):
        train(make_job("third", start=first.output))


def test_batches_of_the_callers_own_are_taken(make_job: Callable[..., TrainingJob], digits: Any) -> None:
    tensorflow = pytest.importorskip("tensorflow")
    x, y = digits[0]
    batches = tensorflow.data.Dataset.from_tensor_slices((x[:128], y[:128])).batch(64)
    result = train(make_job("own", data=batches, calibration=Dataset(x[:64]), epochs=1))
    assert 0 < result.history[0].loss < 10 and set(result.accuracy) == {2, 4, 6, 8}


def test_samples_that_are_no_images_are_not_augmented(
    make_job: Callable[..., TrainingJob], digits: Any, tmp_path: Path
) -> None:
    graph = GraphBuilder()
    x = graph.input((1, 64), "FLOAT32")
    y = graph.tensor((1, 10), "FLOAT32")
    weights = np.random.default_rng(0).normal(size=(10, 64)).astype(np.float32)
    graph.operator(
        "FULLY_CONNECTED", [x, graph.constant(weights), graph.constant(np.zeros(10, np.float32))], [y]
    )
    (tmp_path / "flat.tflite").write_bytes(graph.build([y]))
    data = Dataset(digits[0][0].reshape(-1, 64), digits[0][1], "flat")
    with pytest.raises(UsageError, match=r"flat: samples of shape \[64\] are no images"):
        train(make_job("flat", model=tmp_path / "flat.tflite", data=data, validation=None))


def test_several_devices_need_jax(make_job: Callable[..., TrainingJob]) -> None:
    if keras.backend.backend() == "jax":
        pytest.skip("this is JAX")
    with pytest.raises(UsageError, match="training on 2 devices needs Keras on JAX"):
        train(make_job("devices", devices=2))


def test_an_unknown_level_is_not_trained_alone(make_job: Callable[..., TrainingJob]) -> None:
    with pytest.raises(UsageError, match="level 3 is to be trained alone, and the levels are 2, 4, 6, 8"):
        train(make_job("alone", options=TrainingOptions(only_level=3)))


ON_TWO_DEVICES = """
import sys
from dataclasses import replace
from pathlib import Path
import numpy as np
import jax
import keras
import tflnest
from tests.converters.training.small_model import small_model
from tflnest.dataset import Dataset

assert keras.backend.backend() == "jax" and len(jax.devices()) == 2 and "tensorflow" not in sys.modules
folder = Path(sys.argv[1]).parent
(folder / "small.tflite").write_bytes(small_model())
with np.load(sys.argv[1]) as arrays:
    data = Dataset(arrays["x"], arrays["y"], "digits")
job = tflnest.TrainingJob(
    model=folder / "small.tflite", data=data, output=folder / "one.tflite", epochs=2, batch=64, devices=1
)
one = tflnest.train(job)
two = tflnest.train(replace(job, output=folder / "two.tflite", devices=2))
np.testing.assert_allclose([e.loss for e in one.history], [e.loss for e in two.history], rtol=1e-3)
assert one.history[1].loss < one.history[0].loss
"""


@pytest.mark.slow
def test_two_devices_share_a_batch(digits: Any, tmp_path: Path) -> None:
    pytest.importorskip("jax")
    np.savez(tmp_path / "digits.npz", x=digits[0][0][:640], y=digits[0][1][:640])
    flags = "--xla_force_host_platform_device_count=2"
    result = subprocess.run(
        [sys.executable, "-c", ON_TWO_DEVICES, str(tmp_path / "digits.npz")],
        env={**os.environ, "KERAS_BACKEND": "jax", "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]


def test_a_step_that_runs_some_levels_has_the_loss_of_all_on_average(
    make_network: Callable[..., Any], make_job: Callable[..., TrainingJob], digits: Any
) -> None:
    x, y = digits[0][0][:64], digits[0][1][:64]
    keras.utils.set_random_seed(0)
    losses = {}
    for levels_per_step in (None, 2, 3):
        network = make_network((2, 4, 6, 8), make_job("").model, levels_per_step=levels_per_step)
        network.compile("sgd", "sparse_categorical_crossentropy")
        full = network(x)
        count = 1 if levels_per_step is None else 6
        losses[levels_per_step] = [
            float(network.compute_loss(x, y, full, training=True)) for _ in range(count)
        ]
    everything = losses[None][0]
    assert losses[2][:3] == pytest.approx(losses[2][3:]) and losses[3][:2] == pytest.approx(losses[3][2:4])
    assert len({round(loss, 4) for loss in losses[2]}) == 3  # one of three part-bit levels
    assert len({round(loss, 4) for loss in losses[3]}) == 2  # the lowest, and one of two others
    for some in (losses[2], losses[3]):
        assert np.mean(sorted(set(np.round(some, 4)))) == pytest.approx(everything, rel=1e-3)


def test_levels_that_take_turns_narrow_activations_like_fixed_ones(
    make_network: Callable[..., Any], make_job: Callable[..., TrainingJob], digits: Any
) -> None:
    network = make_network((2, 4, 8), make_job("").model, activations=True)
    x = digits[1][0][:64]
    for position, level in enumerate(network.levels):
        with network.at_level(level):
            expected = keras.ops.convert_to_numpy(network(x, training=True))
        turn = keras.ops.convert_to_numpy(network._predicted(x, np.int32(position)))
        np.testing.assert_allclose(turn, expected, atol=1e-6)


def test_options_of_levels_per_step_survive_a_round_trip() -> None:
    options = TrainingOptions(levels_per_step=3)
    assert TrainingOptions.from_dict(options.to_dict()) == options
