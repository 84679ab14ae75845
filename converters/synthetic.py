"""Inputs for calibration where the user has no data.

Natural signals are smooth: images are noise of low resolution, enlarged, which stirs a network more like real
images than white noise does; other inputs are uniform noise over the input's range.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tflnest.graph import Tensor

#: Samples that are drawn.
SAMPLES = 32

#: An image of noise is enlarged by this factor.
ENLARGEMENT = 8


def synthetic_inputs(
    tensors: tuple[Tensor, ...], seed: int, samples: int = SAMPLES
) -> list[NDArray[np.int8]]:
    """Noise for each input of a model.

    Args:
        tensors: The model's inputs; the leading dimension 1 is the batch.
        seed: Equal seeds give equal samples.
        samples: How many samples.

    Returns:
        One array (samples, *shape of one sample) per input, over the whole range of the input's integer type.
    """
    generator = np.random.default_rng(seed)
    return [_noise(tensor, generator, samples) for tensor in tensors]


def _noise(tensor: Tensor, generator: np.random.Generator, samples: int) -> NDArray[np.int8]:
    shape = tensor.shape[1:]
    limits = np.iinfo(tensor.dtype)
    if len(shape) != 3:
        white: NDArray[np.int8] = generator.integers(
            limits.min, limits.max, (samples, *shape), tensor.dtype.type, endpoint=True
        )
        return white
    values = generator.uniform(limits.min, limits.max, (samples, *shape))
    for axis in sorted(range(1, 4), key=lambda item: shape[item - 1])[
        1:
    ]:  # the shortest axis holds the channels
        values = _smooth(values, axis)
    low, high = values.min(), values.max()
    span = max(high - low, 1e-9)
    stretched = (values - low) / span * (limits.max - limits.min) + limits.min
    codes: NDArray[np.int8] = np.rint(stretched).astype(tensor.dtype)
    return codes


def _smooth(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Keep every n-th value along an axis and interpolate linearly between them."""
    length = values.shape[axis]
    knots = max(2, -(-length // ENLARGEMENT) + 1)
    position = np.linspace(0, min(knots, length) - 1, length)
    left = np.minimum(np.floor(position).astype(int), max(min(knots, length) - 2, 0))
    right = np.minimum(left + 1, length - 1)
    weight_shape = [1] * values.ndim
    weight_shape[axis] = length
    weight = (position - left).reshape(weight_shape)
    smooth: NDArray[np.float64] = (
        np.take(values, left, axis) * (1 - weight) + np.take(values, right, axis) * weight
    )
    return smooth
