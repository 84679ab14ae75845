"""Training the controller of a frozen network on a table of losses, without running the network in every step.

Every choice runs once over the samples; what is left is a regression of the losses on the stem's features, which
takes seconds. Where the features are those of a classifier, it learns the outputs of the dearest choice before that.
Logits become predicted losses, with the sign changed, so that a price per BitOP trades them for cost; one training
serves every target. Where each operator has a choice of its own, the table holds what a choice of one operator does
while all others keep one common choice, and effects are taken to add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from converters.training.controller import LOGITS
from converters.training.network import Width
from tflnest.errors import UsageError
from tflnest.progress import Progress, silent

if TYPE_CHECKING:
    from converters.training.classifier import StemClassifier
    from converters.training.controller import WidthController
    from converters.training.dynamic import DynamicNetwork

#: Root mean square of the logits that are aimed at, and then the largest that is predicted: half of what int8 holds,
#: so that a price has room on both sides.
LOGIT_SPREAD = 4.0

#: Share of the samples on which the regression decides when to stop, and for how many epochs it waits.
HELD_BACK, PATIENCE = 0.1, 8


class _FixedChoices(keras.Model):  # type: ignore[misc]  # Keras has no type information
    """A dynamic network whose groups of operators have fixed choices."""

    def __init__(self, model: DynamicNetwork, positions: Sequence[int]) -> None:
        super().__init__(name="fixed_choices")
        self._model = model
        self._widths = {
            operator: (Width(*model.width_at(position)),)
            for operator, position in zip(model.stem.operators, positions, strict=True)
        }
        self.built = True
        # To compile with XLA takes longer than the one pass.
        self.compile(jit_compile=False)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """The outputs."""
        network = self._model.network
        values = network.start(inputs)
        network.advance(values, 0, network.size, self._widths)
        return values[network.preparation.subgraph.outputs[0]]


@dataclass(frozen=True)
class Table:
    """What every choice does with every sample.

    Attributes:
        losses: (samples, choices that are made, options of each): see `DynamicNetwork.alternatives`.
        outputs: Of the dearest alternative, samples first.
    """

    losses: NDArray[np.float32]
    outputs: NDArray[np.float32]


class _Unrounded(keras.Model):  # type: ignore[misc]  # Keras has no type information
    """A classifier of the stem without rounded activations."""

    def __init__(self, classifier: StemClassifier) -> None:
        super().__init__(name="unrounded")
        self.classifier = classifier
        self.built = True

    def call(self, pooled: Any, training: bool = False) -> Any:
        """The probabilities."""
        return self.classifier(pooled, rounded=False)


class _Regression(keras.Model):  # type: ignore[misc]  # Keras has no type information
    """A controller on features that are known already."""

    def __init__(self, controller: WidthController) -> None:
        super().__init__(name="regression")
        self.controller = controller
        self.built = True

    def call(self, pooled: Any, training: bool = False) -> Any:
        """The logits, (samples, groups, choices)."""
        return self.controller(pooled)


def loss_table(
    model: DynamicNetwork,
    x: NDArray[Any],
    y: NDArray[Any],
    batch_size: int,
    progress: Progress = silent,
) -> Table:
    """The loss of every sample at every choice.

    Args:
        model: Compiled; its loss must give one number per sample.
        x: Samples.
        y: What the loss compares outputs with.
        batch_size: How many samples go through the network together.
        progress: Told after each choice.

    Raises:
        UsageError: The model was not compiled with one loss.
    """
    compiled = getattr(model, "loss", None)
    if not (isinstance(compiled, str) or callable(compiled)):
        raise UsageError("the model has no single loss", "call compile(optimizer, loss) first")
    alternatives = model.alternatives()
    table = np.empty((len(x), len(alternatives), len(alternatives[0])), np.float32)
    rows: dict[tuple[int, ...], NDArray[np.float32]] = {}
    highest, best = -np.inf, np.empty(0, np.float32)
    for group, options in enumerate(alternatives):
        for option, positions in enumerate(options):
            if positions not in rows:
                outputs = _FixedChoices(model, positions).predict(x, batch_size=batch_size, verbose=0)
                rows[positions] = _losses(keras.losses.get(compiled), y, outputs)
                cost = float(model.costs.of(positions)[0])
                if cost > highest:
                    highest, best = cost, outputs
            table[:, group, option] = rows[positions]
            progress("running choices", group * len(options) + option + 1, table[0].size)
    return Table(table, best)


def _losses(function: Any, y: NDArray[Any], outputs: NDArray[Any]) -> NDArray[np.float32]:
    compute = function.call if isinstance(function, keras.losses.Loss) else function
    losses: NDArray[np.float32] = ops.convert_to_numpy(compute(ops.convert_to_tensor(y), outputs))
    if losses.shape != (len(outputs),):
        losses = losses.reshape(len(outputs), -1).mean(axis=1)
    return losses


def fit_table(
    controller: WidthController,
    pooled: NDArray[np.float32],
    table: NDArray[np.float32],
    epochs: int,
    seed: int,
) -> float:
    """Train a controller to predict losses from features.

    Args:
        controller: Changed.
        pooled: (samples, features).
        table: Losses as from `loss_table`.
        epochs: At most so many; it stops where held-back samples gain no more.
        seed: Draws the held-back samples.

    Returns:
        Share of the variance between choices that it explains on the held-back samples, at most 1.
    """
    effects = table.mean(axis=2, keepdims=True) - table
    targets = effects * (LOGIT_SPREAD / max(float(np.sqrt(np.square(effects).mean())), 1e-6))
    first, last = _split(len(pooled), seed)
    controller.biases[1].assign(targets[first].mean(axis=0).reshape(-1))
    _fit(_Regression(controller), pooled, targets, "mean_squared_error", epochs, (first, last))
    predicted = ops.convert_to_numpy(controller(pooled[last]))
    spread = np.square(targets[last] - targets[first].mean(axis=0)).mean()
    _spread_logits(controller, pooled)
    return float(1.0 - np.square(predicted - targets[last]).mean() / max(float(spread), 1e-12))


def _spread_logits(controller: WidthController, pooled: NDArray[np.float32]) -> None:
    """Stretch predictions, which vary less than what is predicted, to the steps of the logits."""
    largest = float(ops.max(ops.abs(controller(pooled))))
    for weight in (controller.kernels[1], controller.biases[1]):
        weight.assign(weight * (LOGIT_SPREAD / max(largest, float(LOGITS.scale))))


def fit_classifier(
    classifier: StemClassifier,
    pooled: NDArray[np.float32],
    probabilities: NDArray[np.float32],
    epochs: int,
    seed: int,
) -> None:
    """Train a classifier of the stem to give the probabilities that the network gives.

    Args:
        classifier: Changed; its ranges are not known yet then.
        pooled: From `StemClassifier.pooled`.
        probabilities: (samples, classes).
        epochs: At most so many; it stops where held-back samples gain no more.
        seed: Draws the held-back samples.
    """
    split = _split(len(pooled), seed)
    _fit(_Unrounded(classifier), pooled, probabilities, "categorical_crossentropy", epochs, split)


def _split(samples: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The samples to learn from, and those that are held back."""
    order = np.random.default_rng(seed).permutation(samples)
    held = max(int(samples * HELD_BACK), 1)
    return order[held:], order[:held]


def _fit(
    model: Any,
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    loss: str,
    epochs: int,
    split: tuple[NDArray[np.int64], NDArray[np.int64]],
) -> None:
    """Train until held-back samples gain no more, and keep the best weights."""
    first, last = split
    model.compile(keras.optimizers.Adam(1e-3), loss, jit_compile=False)
    model.fit(
        x[first],
        y[first],
        epochs=epochs,
        batch_size=int(np.clip(len(first) // 100, 16, 256)),
        validation_data=(x[last], y[last]),
        callbacks=[keras.callbacks.EarlyStopping(patience=PATIENCE, restore_best_weights=True)],
        verbose=0,
    )
