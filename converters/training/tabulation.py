"""Training the controller of a frozen network on a table of losses, without running the network in every step.

Every choice runs once over the samples; what is left is a regression of the losses on the stem's features, which
takes seconds. Logits become predicted losses, with the sign changed, so that a price per BitOP trades them for
cost; one training serves every target. Where each operator has a choice of its own, the table holds what a choice
of one operator does while all others keep one common choice, and effects are taken to add up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from converters.training.network import Width
from tflnest.errors import UsageError
from tflnest.progress import Progress, silent

if TYPE_CHECKING:
    from converters.training.controller import WidthController
    from converters.training.dynamic import DynamicNetwork

#: Root mean square of the logits that are aimed at: half of what int8 holds, so that a price has room on both sides.
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


class _Regression(keras.Model):  # type: ignore[misc]  # Keras has no type information
    """A controller on features that are pooled already."""

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
) -> NDArray[np.float32]:
    """The loss of every sample at every choice.

    Args:
        model: Compiled; its loss must give one number per sample.
        x: Samples.
        y: What the loss compares outputs with.
        batch_size: How many samples go through the network together.
        progress: Told after each choice.

    Returns:
        (samples, choices that are made, options of each): see `DynamicNetwork.alternatives`.

    Raises:
        UsageError: The model was not compiled with one loss.
    """
    compiled = getattr(model, "loss", None)
    if not (isinstance(compiled, str) or callable(compiled)):
        raise UsageError("the model has no single loss", "call compile(optimizer, loss) first")
    alternatives = model.alternatives()
    table = np.empty((len(x), len(alternatives), len(alternatives[0])), np.float32)
    rows: dict[tuple[int, ...], NDArray[np.float32]] = {}
    for group, options in enumerate(alternatives):
        for option, positions in enumerate(options):
            if positions not in rows:
                outputs = _FixedChoices(model, positions).predict(x, batch_size=batch_size, verbose=0)
                rows[positions] = _losses(keras.losses.get(compiled), y, outputs)
            table[:, group, option] = rows[positions]
            progress("running choices", group * len(options) + option + 1, table[0].size)
    return table


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
    """Train a controller to predict losses from pooled features.

    Args:
        controller: Changed.
        pooled: (samples, channels).
        table: As from `loss_table`.
        epochs: At most so many; it stops where held-back samples gain no more.
        seed: Draws the held-back samples.

    Returns:
        Share of the variance between choices that it explains on the held-back samples, at most 1.
    """
    effects = table.mean(axis=2, keepdims=True) - table
    targets = effects * (LOGIT_SPREAD / max(float(np.sqrt(np.square(effects).mean())), 1e-6))
    order = np.random.default_rng(seed).permutation(len(pooled))
    held = max(int(len(order) * HELD_BACK), 1)
    last, first = order[:held], order[held:]
    regression = _Regression(controller)
    controller.biases[1].assign(targets[first].mean(axis=0).reshape(-1))
    regression.compile(keras.optimizers.Adam(1e-3), "mean_squared_error", jit_compile=False)
    regression.fit(
        pooled[first],
        targets[first],
        epochs=epochs,
        batch_size=int(np.clip(len(first) // 100, 16, 256)),
        validation_data=(pooled[last], targets[last]),
        callbacks=[keras.callbacks.EarlyStopping(patience=PATIENCE, restore_best_weights=True)],
        verbose=0,
    )
    predicted = ops.convert_to_numpy(controller(pooled[last]))
    spread = np.square(targets[last] - targets[first].mean(axis=0)).mean()
    return float(1.0 - np.square(predicted - targets[last]).mean() / max(float(spread), 1e-12))
