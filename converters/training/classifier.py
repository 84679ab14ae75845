"""A small classifier of the stem, whose probabilities are features of a controller.

How sure a classifier is tells more about how many bits an image needs than means over height and width do, even
where it is a poor one. It computes with the values that its int8 operators will have.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from converters.affine import UNIT, Affine, from_range
from converters.calibration import Range
from converters.training.controller import PooledFeatures, quantized_filter
from converters.training.integers import averaged
from converters.training.quantizers import INT8_MAX, activation_at_bits, straight_through

#: Height and width, about, to which the stem is averaged before the first convolution.
POOLED_SIZE = 8

#: Height and width of the filters, and stride of the convolutions.
KERNEL, STRIDE = 3, 2

#: Smallest range of an activation.
_LEAST_LIMIT = 1e-3


@keras.saving.register_keras_serializable("tflnest")
class StemClassifier(keras.layers.Layer):  # type: ignore[misc]  # Keras has no type information
    """Average pooling, convolutions of 3 x 3 with stride 2 and ReLU, a dense layer, softmax.

    Args:
        shape: Height, width and channels of the stem.
        convolutions: Channels of each convolution, at least one.
        classes: How many there are.
    """

    def __init__(
        self, shape: Sequence[int], convolutions: Sequence[int], classes: int, **arguments: Any
    ) -> None:
        super().__init__(**arguments)
        self.pool = max(shape[0] // POOLED_SIZE, 1), max(shape[1] // POOLED_SIZE, 1)
        sizes = [tuple(size // pool for size, pool in zip(shape[:2], self.pool, strict=True))]
        channels = [shape[2], *convolutions]
        self.kernels: list[Any] = []
        self.biases: list[Any] = []
        for number, (inputs, outputs) in enumerate(pairwise(channels)):
            sizes.append(tuple(-(-size // STRIDE) for size in sizes[-1]))
            self._add_layer((outputs, KERNEL, KERNEL, inputs), f"convolution_{number}")
        self.flat = math.prod(sizes[-1]) * channels[-1]
        self._add_layer((classes, self.flat), "dense")
        self.unit = self.add_weight(shape=(), initializer="ones", trainable=False, name="unit")
        self.limits = self.add_weight(
            shape=(len(self.kernels),), initializer="ones", trainable=False, name="limits"
        )
        self.macs = classes * self.flat + sum(
            math.prod(kernel.shape) * math.prod(size)
            for kernel, size in zip(self.kernels[:-1], sizes[1:], strict=True)
        )
        self.built = True

    def _add_layer(self, shape: tuple[int, ...], name: str) -> None:
        deviation = math.sqrt(2.0 / math.prod(shape[1:]))
        normal = keras.initializers.RandomNormal(stddev=deviation)
        self.kernels.append(self.add_weight(shape=shape, initializer=normal, name=f"{name}_kernel"))
        self.biases.append(self.add_weight(shape=shape[:1], initializer="zeros", name=f"{name}_bias"))

    @property
    def features(self) -> PooledFeatures:
        """What is known of its probabilities before it is trained."""
        classes = int(self.kernels[-1].shape[0])
        return PooledFeatures((1.0 / classes,) * classes, (1.0 / classes,) * classes, 0.0, UNIT.range.high)

    def pooled(self, maps: Any, scale: Any, zero_point: int) -> Any:
        """The stem, averaged to what `call` takes.

        Args:
            maps: (samples, height, width, channels).
            scale: Of the stem.
            zero_point: Of the stem.
        """
        if self.pool == (1, 1):
            return maps
        means = ops.average_pool(maps, self.pool, self.pool, "valid", "channels_last")
        return straight_through(means, averaged(means / scale, zero_point) * scale)

    def call(self, pooled: Any, rounded: bool = True) -> Any:
        """The probabilities, (samples, classes).

        Args:
            pooled: From `pooled`.
            rounded: Whether activations are rounded, which needs `calibrate`.
        """
        if not rounded:
            return ops.softmax(self._logits(pooled, lambda number, values: values), -1)
        logits = self._logits(pooled, self._rounded)
        return activation_at_bits(ops.softmax(logits, -1), UNIT.scale, UNIT.zero_point)

    def _logits(self, values: Any, store: Callable[[int, Any], Any]) -> Any:
        """The logits, where every activation goes through a function of its number and values."""
        *convolutions, (weights, bias) = self.layers_now()
        for number, (kernel, offset) in enumerate(convolutions):
            moved = ops.transpose(kernel, (1, 2, 3, 0))
            sums = ops.conv(values, moved, STRIDE, "same", "channels_last") + offset
            values = store(number, ops.relu(sums))
        rows = ops.reshape(values, (-1, self.flat))
        return store(len(convolutions), ops.matmul(rows, ops.transpose(weights)) + bias)

    def _rounded(self, number: int, values: Any) -> Any:
        limit = self.limits[number]
        if number == len(self.kernels) - 1:
            return activation_at_bits(values, limit / INT8_MAX, 0)
        return activation_at_bits(values, limit / 255.0, -128)

    def layers_now(self) -> list[tuple[Any, Any]]:
        """Filter, as int8 holds it, and bias of every layer, the dense one last."""
        layers = []
        for number, (kernel, bias) in enumerate(zip(self.kernels, self.biases, strict=True)):
            weights = kernel / self.unit if number == 0 else kernel
            rows = quantized_filter(ops.reshape(weights, (kernel.shape[0], -1)))
            layers.append((ops.reshape(rows, kernel.shape), bias))
        return layers

    def affines(self) -> list[Affine]:
        """Quantization of what every layer gives, the logits last."""
        limits = [float(limit) for limit in ops.convert_to_numpy(self.limits)]
        return [from_range(Range(0.0, limit)) for limit in limits[:-1]] + [Affine(limits[-1] / INT8_MAX, 0)]

    def scale_inputs(self, pooled: NDArray[np.float32]) -> None:
        """Take the deviation of the stem as the unit of the first filter, so that any scale can be trained."""
        self.unit.assign(max(float(pooled.std()), 1e-6))

    def calibrate(self, pooled: NDArray[np.float32], batch_size: int) -> None:
        """Find the ranges of the activations.

        Args:
            pooled: From `pooled`, of many samples.
            batch_size: How many run together.
        """
        seen = np.full(len(self.kernels), _LEAST_LIMIT, np.float32)

        def store(number: int, values: Any) -> Any:
            seen[number] = max(seen[number], float(ops.max(ops.abs(values))))
            return values

        for start in range(0, len(pooled), batch_size):
            self._logits(ops.convert_to_tensor(pooled[start : start + batch_size]), store)
        self.limits.assign(seen)
