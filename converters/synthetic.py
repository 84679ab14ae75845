"""Inputs for calibration where the user has no data.

Natural signals are smooth: images are noise of low resolution, enlarged, which stirs a network more like real
images than white noise does; other inputs are uniform noise over the input's range. Biases and scales are fitted to
smooth noise. To rank filters, noise of several resolutions is better: no single kind stirs every filter, and a filter
that sleeps looks as if it needed no bits.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tflnest.graph import Quantization, Subgraph, Tensor

#: Samples that are drawn.
SAMPLES = 32

#: An image of noise is enlarged by this factor.
ENLARGEMENT = 8

#: The factors of varied noise, and how many of its samples have each; 1 is white noise.
VARIED = {8: 12, 3: 10, 1: 10}

#: The int8 grid over -1 to 1, for float inputs of unknown range.
_UNIT = Quantization(np.array([1 / 128], np.float32), np.zeros(1, np.int64))


def synthetic_inputs(
    tensors: tuple[Tensor, ...], seed: int, samples: int = SAMPLES, enlargement: int = ENLARGEMENT
) -> list[NDArray[Any]]:
    """Noise for integer tensors.

    Args:
        tensors: The model's inputs; the leading dimension 1 is the batch.
        seed: Equal seeds give equal samples.
        samples: How many samples.
        enlargement: Of images: 1 for white noise, more for smoother noise.

    Returns:
        One array (samples, *shape of one sample) per tensor, over the whole range of its type.
    """
    generator = np.random.default_rng(seed)
    return [_noise(tensor, generator, samples, enlargement) for tensor in tensors]


def varied_samples(subgraph: Subgraph, seed: int) -> list[NDArray[Any]]:
    """Noise of several resolutions for each input of a subgraph; see `VARIED`.

    Args:
        subgraph: Its inputs have batch 1.
        seed: Equal seeds give equal samples.

    Returns:
        One array (samples, *shape of one sample) per input, of the input's dtype.
    """
    parts = [
        synthetic_samples(subgraph, seed + number, samples, enlargement)
        for number, (enlargement, samples) in enumerate(VARIED.items())
    ]
    return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]


def synthetic_samples(
    subgraph: Subgraph, seed: int, samples: int = SAMPLES, enlargement: int = ENLARGEMENT
) -> list[NDArray[Any]]:
    """Noise for each input of a subgraph.

    Integer inputs get the whole range of their type; float inputs that a QUANTIZE reads get the range that it can
    tell apart, other float inputs -1 to 1.

    Args:
        subgraph: Its inputs have batch 1.
        seed: Equal seeds give equal samples.
        samples: How many samples.
        enlargement: Of images: 1 for white noise, more for smoother noise.

    Returns:
        One array (samples, *shape of one sample) per input, of the input's dtype.
    """
    readers = {
        operator.inputs[0]: subgraph.tensors[operator.outputs[0]]
        for operator in subgraph.operators
        if operator.name == "QUANTIZE" and operator.inputs and operator.outputs
    }
    tensors = subgraph.input_tensors()
    drawn = tuple(_drawn_as(tensor, readers.get(tensor.index)) for tensor in tensors)
    return [
        values if item is tensor else _dequantized(values, item).astype(tensor.dtype)
        for tensor, item, values in zip(
            tensors, drawn, synthetic_inputs(drawn, seed, samples, enlargement), strict=True
        )
    ]


def _drawn_as(tensor: Tensor, quantized: Tensor | None) -> Tensor:
    """The tensor whose values are drawn for an input: the integers that a float input is turned into."""
    if tensor.dtype.kind in "iu":
        return tensor
    if quantized is not None and quantized.dtype.kind in "iu" and quantized.quantization is not None:
        return replace(tensor, type=quantized.type, quantization=quantized.quantization)
    return replace(tensor, type="INT8", quantization=_UNIT)


def _dequantized(values: NDArray[Any], tensor: Tensor) -> NDArray[np.float32]:
    real: NDArray[np.float32] = (values.astype(np.float32) - tensor.zero_point) * np.float32(tensor.scale)
    return real


def _noise(tensor: Tensor, generator: np.random.Generator, samples: int, enlargement: int) -> NDArray[Any]:
    shape = tensor.shape[1:]
    limits = np.iinfo(tensor.dtype)
    if len(shape) != 3 or 0 in shape:
        white: NDArray[Any] = generator.integers(
            limits.min, limits.max, (samples, *shape), tensor.dtype.type, endpoint=True
        )
        return white
    values = generator.uniform(limits.min, limits.max, (samples, *shape))
    sides = sorted(range(1, 4), key=lambda item: shape[item - 1])[1:]  # the shortest axis holds the channels
    for axis in sides:
        values = _smooth(values, axis, enlargement)
    low, high = values.min(), values.max()
    span = max(high - low, 1e-9)
    stretched = (values - low) / span * (float(limits.max) - float(limits.min)) + float(limits.min)
    codes: NDArray[Any] = np.clip(np.rint(stretched), limits.min, limits.max).astype(tensor.dtype)
    return codes


def _smooth(values: NDArray[np.float64], axis: int, enlargement: int) -> NDArray[np.float64]:
    """Keep every n-th value along an axis and interpolate linearly between them."""
    length = values.shape[axis]
    knots = max(2, -(-length // enlargement) + 1)
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
