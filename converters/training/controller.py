"""The controller of widths while it is trained: features of the stem, a hidden layer, a logit for each choice.

It computes with the values that its int8 operators will have. Its hidden values and its logits have fixed scales,
so that what is trained is what is exported; features are centred and brought to unit deviation first, which
becomes part of the exported weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from converters.affine import Affine, from_range
from converters.calibration import Range
from converters.training.quantizers import FILTER_MIN, INT8_MAX, activation_at_bits, straight_through

#: Hidden values are at most 8, logits from -8 to 7.94: beyond, one choice outweighs another 3,000 times.
HIDDEN = from_range(Range(0.0, 8.0))
LOGITS = Affine(1.0 / 16.0, 0)

#: Smallest scale of a filter's channel, and smallest deviation of a feature that is told from noise.
_LEAST_SCALE, _LEAST_DEVIATION = 1e-5, 1e-3

#: Keeps the logarithms of the noise finite.
_LEAST_UNIFORM = 1e-6


@dataclass(frozen=True)
class PooledFeatures:
    """What calibration saw of a controller's features.

    Attributes:
        mean: Of each.
        deviation: Standard deviation of each.
        low: The smallest of all.
        high: The largest of all.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    low: float
    high: float

    @classmethod
    def of(cls, values: NDArray[np.float32]) -> PooledFeatures:
        """Measure features, (samples, features)."""
        deviation = np.maximum(values.std(axis=0), _LEAST_DEVIATION * max(float(np.abs(values).max()), 1e-6))
        return cls(
            tuple(values.mean(axis=0).tolist()),
            tuple(deviation.tolist()),
            float(values.min()),
            float(values.max()),
        )

    @property
    def affine(self) -> Affine:
        """Quantization of all of them."""
        return from_range(Range(self.low, self.high))

    def to_dict(self) -> dict[str, Any]:
        """For the configuration of a saved network."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PooledFeatures:
        """Invert `to_dict`."""
        return cls(tuple(values["mean"]), tuple(values["deviation"]), values["low"], values["high"])


@keras.saving.register_keras_serializable("tflnest")
class WidthController(keras.layers.Layer):  # type: ignore[misc]  # Keras has no type information
    """Two dense layers on features of the stem.

    Args:
        features: What calibration saw; `observe` tells it what training makes of them.
        groups: How many choices are made.
        initial: Logit of each choice before training.
        hidden: Units of the hidden layer.
    """

    def __init__(
        self,
        features: PooledFeatures,
        groups: int,
        initial: Sequence[float],
        hidden: int,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.features = features
        self.groups, self.choices = groups, len(initial)
        channels, logits = len(features.mean), groups * len(initial)
        self.kernels = (
            self.add_weight(shape=(hidden, channels), initializer="he_normal", name="hidden_kernel"),
            self.add_weight(
                shape=(logits, hidden),
                initializer=keras.initializers.RandomNormal(stddev=0.01),
                name="logits_kernel",
            ),
        )
        self._statistics = tuple(
            self.add_weight(shape=(channels,), initializer=_constant(values), trainable=False, name=name)
            for name, values in (("mean", features.mean), ("deviation", features.deviation))
        )
        start = np.tile(np.asarray(initial, np.float32), groups)
        self.biases = (
            self.add_weight(shape=(hidden,), initializer="zeros", name="hidden_bias"),
            self.add_weight(
                shape=(logits,),
                initializer=_constant(start),
                name="logits_bias",
            ),
        )
        self.built = True

    def observe(self, features: PooledFeatures) -> None:
        """Take other means and deviations; ranges stay."""
        for weight, values in zip(self._statistics, (features.mean, features.deviation), strict=True):
            weight.assign(np.asarray(values, np.float32))

    def call(self, pooled: Any) -> Any:
        """Logits of features.

        Args:
            pooled: (samples, features).

        Returns:
            (samples, groups, choices).
        """
        affine = self.features.affine
        values = activation_at_bits(pooled, affine.scale, affine.zero_point)
        (first, first_bias), (second, second_bias) = self.layers_now()
        values = ops.relu(ops.matmul(values, ops.transpose(first)) + first_bias)
        values = activation_at_bits(values, HIDDEN.scale, HIDDEN.zero_point)
        logits = ops.matmul(values, ops.transpose(second)) + second_bias
        logits = activation_at_bits(logits, LOGITS.scale, LOGITS.zero_point)
        return ops.reshape(logits, (-1, self.groups, self.choices))

    def layers_now(self) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
        """Filter, as int8 holds it, and bias of the two layers."""
        mean, deviation = self._statistics
        first = self.kernels[0] / deviation
        offset = ops.matmul(first, mean)
        rounded = quantized_filter(first), quantized_filter(self.kernels[1])
        return (rounded[0], self.biases[0] - offset), (rounded[1], self.biases[1])


def _constant(values: Sequence[float] | NDArray[np.float32]) -> Any:
    """An initializer."""
    return lambda shape, dtype=None: ops.convert_to_tensor(np.asarray(values, np.float32), dtype)


def filter_scales(weights: Any) -> Any:
    """Scale of each output channel of a filter, (channels, 1)."""
    return ops.maximum(ops.max(ops.abs(weights), axis=1, keepdims=True) / INT8_MAX, _LEAST_SCALE)


def quantized_filter(weights: Any) -> Any:
    """A filter (channels, inputs) as int8 holds it, in real numbers."""
    scales = ops.stop_gradient(filter_scales(weights))
    codes = ops.round(ops.clip(weights / scales, FILTER_MIN, INT8_MAX))
    return straight_through(weights, codes * scales)


def sampled(logits: Any, temperature: Any, seed: Any) -> Any:
    """Choices drawn with the probabilities that logits give, by the straight-through Gumbel-softmax.

    Jang et al., Categorical Reparameterization with Gumbel-Softmax, ICLR 2017.

    Args:
        logits: (..., choices).
        temperature: > 0; the lower, the closer are the gradients to those of the choice that was drawn.
        seed: A `keras.random.SeedGenerator`.

    Returns:
        1 for what is chosen and 0 for the others, shaped like the logits.
    """
    uniform = keras.random.uniform(ops.shape(logits), _LEAST_UNIFORM, 1.0 - _LEAST_UNIFORM, seed=seed)
    noisy = logits - ops.log(-ops.log(uniform))
    return straight_through(ops.softmax(noisy / temperature, -1), chosen(noisy))


def chosen(logits: Any) -> Any:
    """The first largest logit, as 1 among 0, shaped like the logits (..., choices)."""
    # Backends differ in which of several largest values their argmax names, and equal logits are common.
    largest = ops.cast(logits >= ops.max(logits, -1, keepdims=True), "float32")
    return largest * ops.cast(ops.cumsum(largest, -1) < 1.5, "float32")
