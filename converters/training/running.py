"""A whole training: from a job to a nested file, with checkpoints after every epoch."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from converters.labels import check_labels, check_scale
from converters.training.batches import Batches
from converters.training.checkpoints import Checkpoints, EpochResult
from converters.training.job import OptimizerName, OptimizerOptions, Schedule, TrainingJob
from converters.training.network import NestedNetwork
from converters.training.preparation import prepare_training
from tflnest.dataset import Dataset
from tflnest.errors import FormatError, TflnestError, UsageError
from tflnest.evaluation import evaluate
from tflnest.model import Model
from tflnest.progress import Progress, silent

#: Validation samples after each epoch; all of them at the end.
EPOCH_SAMPLES = 1000

#: Steps whose losses say where a training starts.
FIRST_STEPS = 20

#: How many times the loss of the first steps is taken for divergence.
DIVERGED = 10.0


@dataclass(frozen=True)
class TrainingResult:
    """What a training made.

    Attributes:
        model: The nested model.
        history: All epochs, those before a resumption too.
        accuracy: Share of all validation samples that each level gets right; None without any.
        flat: Filters that did not nest, by name, with the reason.
        resumed_after: Epochs that an earlier call had done.
    """

    model: Model
    history: tuple[EpochResult, ...]
    accuracy: dict[int, float | None]
    flat: dict[str, str]
    resumed_after: int

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "file_bytes": len(self.model.to_bytes()),
            "levels": [{"level": level, "top1": top1} for level, top1 in self.accuracy.items()],
            "history": [epoch.to_dict() for epoch in self.history],
            "flat": self.flat,
            "resumed_after": self.resumed_after,
        }


def run_job(
    job: TrainingJob,
    *,
    restart: bool = False,
    progress: Progress = silent,
    report: Callable[[EpochResult], None] = lambda epoch: None,
) -> TrainingResult:
    """Train, or go on with a training that was stopped; the file is not written.

    A training that was stopped and goes on gives the same weights as one that was not.

    Args:
        job: What to train.
        restart: Forget the checkpoints of an earlier call.
        progress: Told after each step.
        report: Told after each epoch.

    Raises:
        UsageError: Model, data or options make no sense for training.
        UnsupportedError: The model has an operator that can't be trained; the message names it.
        FormatError: The data does not fit the model, or the checkpoints belong to another training.
        TflnestError: The training diverged; the last good checkpoint stays.
    """
    with _distribution(job):
        keras.utils.set_random_seed(job.seed)
        preparation = prepare_training(job.model, job.recipe, job.calibration_samples())
        checkpoints = Checkpoints(job.checkpoints, _key(job, preparation.model))
        if restart:
            checkpoints.remove()
        found = checkpoints.load()
        history = () if found is None else found[1]
        data = _data(job, preparation.model, len(history))
        network = NestedNetwork(preparation, job.options)
        if job.start is not None and found is None:
            _take_weights(network, job.start)
        compile_network(network, job.optimizer, job.epochs * len(data))
        if found is not None:
            network.optimizer.build(network.trainable_variables)
            network.load_weights(found[0])
            _set_rate(network, job.optimizer)
        watch = _Watch(job, checkpoints, history, len(data), progress, report)
        if len(history) < job.epochs:
            network.fit(
                data,
                initial_epoch=len(history),
                epochs=job.epochs,
                callbacks=[watch],
                verbose=0,
                shuffle=False,
            )
        model = network.to_nested()
    return TrainingResult(
        model, tuple(watch.history), _accuracy(model, job.validation, None), _flat(network), len(history)
    )


def _flat(network: NestedNetwork) -> dict[str, str]:
    """Filters that did not nest, by name of the tensor or label of the operator."""
    flat = {}
    for index, trained in network.filters.items():
        if trained.nesting is None:
            label = network.preparation.subgraph.operators[index].label
            name = label if trained.plan is None else trained.plan.tensor.name or label
            flat[name] = "this operator does not nest" if trained.plan is None else trained.plan.reason
    return flat


def _key(job: TrainingJob, model: Model) -> str:
    """What makes a training the same: the model, its levels, the optimizer's kind, and the samples."""
    content = hashlib.sha256(model.to_bytes())
    content.update(job.recipe.to_toml().encode() + str(job.optimizer.name).encode())
    content.update(str((job.seed, job.batch, job.options.biases_per_level)).encode())
    if isinstance(job.data, Dataset):
        content.update(str((job.data.x.shape, str(job.data.x.dtype))).encode())
        content.update(np.ascontiguousarray(job.data.x[:: max(len(job.data) // 64, 1)]).tobytes())
    return content.hexdigest()


def _data(job: TrainingJob, model: Model, epoch: int) -> Any:
    """What `fit` takes."""
    if not isinstance(job.data, Dataset):
        return job.data
    tensor = model.graph.main.input_tensors()[0]
    labels = check_labels(job.data, model)
    x = job.data.inputs_for(tensor)
    check_scale(job.data, model)
    if not job.augmentation.is_none and x.ndim != 4:
        raise UsageError(
            f"{job.data.name}: samples of shape {list(x.shape[1:])} are no images, and augmentation is for images",
            "leave it out",
        )
    if len(x) < job.devices:
        raise UsageError(f"{len(x)} samples are too few for {job.devices} devices")
    return Batches(x, labels, job.batch, job.seed, job.augmentation, epoch)


def compile_network(network: NestedNetwork, options: OptimizerOptions, steps: int) -> None:
    """Give a network its optimizer and the cross-entropy of class numbers.

    Args:
        network: Of a classifier that ends in probabilities or in logits.
        options: Which optimizer, and its learning rate.
        steps: Of the whole training; the schedule ends there.
    """
    ends_in_probabilities = network.preparation.subgraph.operators[-1].name == "SOFTMAX"
    network.compile(
        make_optimizer(options, steps),
        keras.losses.SparseCategoricalCrossentropy(from_logits=not ends_in_probabilities),
    )


def make_optimizer(options: OptimizerOptions, steps: int) -> Any:
    """A Keras optimizer.

    Args:
        options: Which one, and its learning rate.
        steps: Of the whole training; the schedule ends there.
    """
    warmup = min(options.warmup, max(steps // 10, 1)) if options.warmup else 0
    rate: Any = options.rate
    if options.schedule == Schedule.COSINE:
        rate = keras.optimizers.schedules.CosineDecay(
            0.0 if warmup else options.rate,
            max(steps - warmup, 1),
            warmup_target=options.rate if warmup else None,
            warmup_steps=warmup,
        )
    if options.name == OptimizerName.SGD:
        return keras.optimizers.SGD(rate, momentum=options.momentum, nesterov=options.momentum > 0)
    if options.name == OptimizerName.ADAMW:
        return keras.optimizers.AdamW(rate, weight_decay=options.weight_decay)
    return keras.optimizers.Adam(rate)


def _take_weights(network: NestedNetwork, path: Path) -> None:
    try:
        network.load_weights(path)
    except (OSError, ValueError, KeyError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise FormatError(
            f"{path}: the weights do not fit this training: {reason}",
            "take a checkpoint of the same model, trained at the same levels",
        ) from error


def _set_rate(network: NestedNetwork, options: OptimizerOptions) -> None:
    """A checkpoint holds the rate that it was trained with, where that is constant: the job's counts."""
    if options.schedule == Schedule.CONSTANT:
        network.optimizer.learning_rate = options.rate


def _accuracy(model: Model, validation: Dataset | None, limit: int | None) -> dict[int, float | None]:
    if validation is None:
        levels = () if model.directory is None else model.directory.levels
        return dict.fromkeys(levels)
    chosen = validation if limit is None or limit > len(validation) else validation.limited(limit)
    return {row.level: row.top1 for row in evaluate(model, chosen).levels}


@contextmanager
def _distribution(job: TrainingJob) -> Iterator[None]:
    """Batches shared by several devices, where the job asks for that."""
    if job.devices == 1:
        yield
        return
    if keras.backend.backend() != "jax":
        raise UsageError(
            f"training on {job.devices} devices needs Keras on JAX, and it runs on {keras.backend.backend()}",
            "set KERAS_BACKEND=jax",
        )
    devices = keras.distribution.list_devices()
    if len(devices) < job.devices:
        raise UsageError(f"{job.devices} devices are asked for, and JAX has {len(devices)}")
    with keras.distribution.DataParallel(devices=devices[: job.devices]).scope():
        yield


class _Watch(keras.callbacks.Callback):  # type: ignore[misc]  # Keras has no type information
    """Reports, keeps checkpoints, and stops a training that diverges."""

    def __init__(
        self,
        job: TrainingJob,
        checkpoints: Checkpoints,
        history: tuple[EpochResult, ...],
        steps: int,
        progress: Progress,
        report: Callable[[EpochResult], None],
    ) -> None:
        super().__init__()
        self.history = list(history)
        self._job, self._checkpoints, self._steps = job, checkpoints, steps
        self._progress, self._report = progress, report
        self._start = time.monotonic()
        self._first = math.inf if not history else history[0].loss

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """See Keras."""
        self._start = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """See Keras."""
        loss = float(logs["loss"])
        if not self.history and batch < FIRST_STEPS:
            self._first = min(self._first, loss)
        if not math.isfinite(loss) or loss > DIVERGED * max(self._first, 1.0):
            raise self._diverged(batch + 1, loss)
        self._progress(
            "training", len(self.history) * self._steps + batch + 1, self._job.epochs * self._steps
        )

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """See Keras."""
        accuracy = {}
        if self._job.validation is not None:
            measured = _accuracy(self.model.to_nested(), self._job.validation, EPOCH_SAMPLES)
            accuracy = {level: top1 for level, top1 in measured.items() if top1 is not None}
        done = EpochResult(epoch + 1, float(logs["loss"]), accuracy, time.monotonic() - self._start)
        self.history.append(done)
        self._checkpoints.save(self.model, tuple(self.history))
        self._report(done)

    def _diverged(self, step: int, loss: float) -> TflnestError:
        done = len(self.history)
        kept = f"the checkpoint of epoch {done} is kept in {self._checkpoints.folder}" if done else None
        return TflnestError(
            f"the training diverged in epoch {done + 1}, step {step}: its loss is {loss:.4g}",
            f"lower the learning rate, {self._job.optimizer.rate:g} now"
            + (f"; {kept}, and the same command goes on from there" if kept else ""),
        )
