"""How a search builds the model of an assignment and measures it: by rounding, or by a short training."""

from __future__ import annotations

import hashlib
import json
import math
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from converters.conversion import convert
from converters.recipe import Keep, Recipe, Rule
from converters.search.trials import Score, Widths
from tflnest.dataset import Dataset
from tflnest.errors import TflnestError
from tflnest.files import write_file
from tflnest.model import Model
from tflnest.nesting import MASTER_BITS
from tflnest.runner import Runner
from tflnest.version import __version__

if TYPE_CHECKING:
    from converters.training.network import NestedNetwork

#: Samples that give the first scales of the activations, and losses of single filters, where attempts are trained.
CALIBRATION_SAMPLES = 256

#: Loss of every sample where a training diverged.
DIVERGED = 1e9


def recipe_for(names: Sequence[str], widths: Sequence[int], single: bool = False) -> Recipe:
    """The recipe that gives each filter a width at the lowest level.

    Filters that are not named stay flat. The lowest level is named by the mean of the widths.

    Args:
        names: Names of the filters.
        widths: Their widths; 8 stays flat.
        single: Whether this is the only level; otherwise a full-bit level of 8 bits stands above it.
    """
    nominal = min(max(round(sum(widths) / max(len(widths), 1)), 1), MASTER_BITS - 1)
    above = () if single else (MASTER_BITS,)
    rules = [
        Rule(scope=f"^{re.escape(name)}$", flat=True)
        if width == MASTER_BITS
        else Rule(scope=f"^{re.escape(name)}$", levels=(width, *above))
        for name, width in zip(names, widths, strict=True)
    ]
    base = Recipe(levels=(nominal, *above), rules=(*rules, Rule(flat=True)))
    return base.with_options(keep=Keep.BASE)


@contextmanager
def _written(content: bytes) -> Iterator[Path]:
    """A `.tflite` on this machine's disk."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "source.tflite"
        write_file(path, content)
        yield path


def score(model: Model, data: Dataset) -> Score:
    """Accuracy and loss of a model at its lowest level, on labelled samples of a classifier."""
    runner = Runner(model, None if model.directory is None else model.directory.levels[0])
    labels = data.labels()
    assert labels is not None
    outputs = runner.run(data.inputs_for(runner.input))[0]
    own = class_probabilities(model, outputs)[np.arange(len(labels)), labels]
    return Score(100.0 * float((outputs.argmax(axis=1) == labels).mean()), -np.log(own).astype(np.float32))


def class_probabilities(model: Model, outputs: NDArray[Any]) -> NDArray[np.float64]:
    """Class probabilities, none of them 0.

    Args:
        model: Says what the outputs are: probabilities where a SOFTMAX writes them, else logits.
        outputs: Of the model's first output, (samples, classes), as it gives them.
    """
    tensor = model.graph.main.output_tensors()[0]
    step = 1.0 if tensor.quantization is None else tensor.scale
    real = (
        outputs.astype(np.float64)
        if tensor.quantization is None
        else (outputs - float(tensor.zero_point)) * step
    )
    writers = {index: item.name for item in model.graph.main.operators for index in item.outputs}
    if writers.get(tensor.index) == "SOFTMAX":
        # What rounds to 0 lies between 0 and half a step.
        real = np.maximum(real, step / 4 if tensor.quantization is not None else 1e-9)
    else:
        real = np.exp(real - real.max(axis=1, keepdims=True)) + 1e-9
    shares: NDArray[np.float64] = real / real.sum(axis=1, keepdims=True)
    return shares


def _key(options: Sequence[Any], source: bytes, calibration: Dataset, validation: Dataset) -> str:
    """What measurements depend on, in a few characters; another version of tflnest may round differently."""
    whole = hashlib.sha256()
    for part in (
        json.dumps([__version__, *options]).encode(),
        source,
        _data_digest(calibration),
        _data_digest(validation),
    ):
        whole.update(hashlib.sha256(part).digest())
    return whole.hexdigest()


def _data_digest(data: Dataset) -> bytes:
    labels = b"" if data.y is None else np.ascontiguousarray(data.y).tobytes()
    return hashlib.sha256(np.ascontiguousarray(data.x).tobytes() + labels).digest()


@dataclass(frozen=True)
class RoundedAccuracy:
    """Accuracy after joint rounding, without training.

    Attributes:
        source: Content of a float or int8 `.tflite`: attempts may run on other machines.
        names: Names of the searched filters.
        calibration: Samples that rounding looks at.
        validation: Labelled samples that are measured; others than those.
        single: Whether the model has the searched widths alone, without a full-bit level.
        seed: For what is drawn at random.
    """

    source: bytes
    names: tuple[str, ...]
    calibration: Dataset
    validation: Dataset
    single: bool = False
    seed: int = 0

    def __call__(self, widths: Widths) -> Score:
        """See `Measure`."""
        return score(self.build(widths), self.validation)

    def build(self, widths: Widths) -> Model:
        """The nested model of an assignment."""
        recipe = recipe_for(self.names, widths, self.single)
        with _written(self.source) as path:
            result = convert(path, recipe=recipe, calibration=self.calibration, seed=self.seed)
        return result.int8 if all(width == MASTER_BITS for width in widths) else result.model

    def key(self) -> str:
        """See `Measure`."""
        options = ["rounded", self.names, self.single, self.seed]
        return _key(options, self.source, self.calibration, self.validation)


@dataclass(frozen=True)
class TrainedAccuracy:
    """Accuracy after a short nested training, which starts from the rounded model.

    Attributes:
        source: Content of a float `.tflite`.
        names: Names of the searched filters.
        calibration: Labelled samples: all are trained on, the first ones give the scales of the activations.
        validation: Labelled samples that are measured; others than those.
        epochs: Passes over the training samples.
        rate: Learning rate of Adam, which falls to zero along a cosine.
        batch: Samples per step.
        single: Whether the model has the searched widths alone, without a full-bit level.
        seed: For the order of the samples.
    """

    source: bytes
    names: tuple[str, ...]
    calibration: Dataset
    validation: Dataset
    epochs: int
    rate: float = 5e-4
    batch: int = 64
    single: bool = False
    seed: int = 0

    def __call__(self, widths: Widths) -> Score:
        """See `Measure`; a training that diverges leaves nothing."""
        network = self._trained(widths)
        if network is None:
            return Score(0.0, np.full(len(self.validation), DIVERGED, np.float32))
        return score(network.to_nested(), self.validation)

    def build(self, widths: Widths) -> Model:
        """The nested model of an assignment.

        Raises:
            TflnestError: The training diverged.
        """
        network = self._trained(widths)
        if network is None:
            raise TflnestError(
                f"the training of the widths {' '.join(map(str, widths))} diverged: the loss is no number",
                "check the scale of the samples and the labels",
            )
        return network.to_nested()

    def _trained(self, widths: Widths) -> NestedNetwork | None:
        """The trained network of an assignment; None where its loss is no number."""
        from converters.training import OptimizerOptions, nest_for_training

        recipe = recipe_for(self.names, widths, self.single)
        first = self.calibration.limited(CALIBRATION_SAMPLES)
        with _written(self.source) as path:
            network = nest_for_training(path, recipe, calibration=first)
            rounded = convert(path, recipe=recipe, calibration=first, seed=self.seed)
        import keras

        from converters.training.running import compile_network
        from converters.training.starting import start_from

        start_from(network, rounded.int8 if all(width == MASTER_BITS for width in widths) else rounded.model)

        keras.utils.set_random_seed(self.seed)
        steps = self.epochs * math.ceil(len(self.calibration) / self.batch)
        compile_network(network, OptimizerOptions(rate=self.rate, warmup=0), steps)
        inputs = self.calibration.inputs_for(network.preparation.subgraph.input_tensors()[0])
        history = network.fit(
            inputs, self.calibration.labels(), batch_size=self.batch, epochs=self.epochs, verbose=0
        )
        return network if math.isfinite(history.history["loss"][-1]) else None

    def key(self) -> str:
        """See `Measure`."""
        options = [
            "rounded, then trained",
            self.names,
            self.epochs,
            self.rate,
            self.batch,
            self.single,
            self.seed,
        ]
        return _key(options, self.source, self.calibration, self.validation)
