"""Models of one bit-width that nest nothing: each filter on a grid of its own, of that many bits.

The grid of a filter spans its largest weight, per channel where the int8 filter has a scale per channel; activations
stay int8. The model is a stock int8 one whose codes use a few of the 256 values, so that any engine runs it. A nested
model has to keep the grid of its int8 weights at every level, and loses what the own grid gains.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.rounding.flipping import as_filter, by_kernel
from converters.rounding.squant import flip
from tflnest.graph import Operator, Subgraph, Tensor
from tflnest.model import Model, add_buffer
from tflnest.nested import CHANNEL_AXIS

METHODS = ("nearest", "squant")


def dedicated(
    source: Model, bits: int, method: str, weights: Mapping[str, NDArray[np.float32]] | None = None
) -> Model:
    """A model with filters of a few bits.

    Args:
        source: An int8 model.
        bits: Width of every filter, 2..8.
        method: Of `METHODS`.
        weights: Real weights by name of the filter, where they are known; else those of the int8 filter.

    Returns:
        The stock model; biases keep their real values.
    """
    model = source.copy()
    for subgraph in source.graph.subgraphs:
        done: set[int] = set()
        for operator in subgraph.operators:
            if operator.name not in CHANNEL_AXIS or operator.inputs[1] in done:
                continue
            tensor = subgraph.tensors[operator.inputs[1]]
            if tensor.is_constant and tensor.type == "INT8" and tensor.quantization is not None:
                done.add(tensor.index)
                _narrow(model, subgraph, operator, bits, method, (weights or {}).get(tensor.name))
    model.changed()
    return Model.from_bytes(model.to_bytes())


def _narrow(
    model: Model,
    subgraph: Subgraph,
    operator: Operator,
    bits: int,
    method: str,
    weights: NDArray[np.float32] | None,
) -> None:
    """Replace one filter, and the biases of the operators that use it."""
    tensor = subgraph.tensors[operator.inputs[1]]
    assert tensor.data is not None and tensor.quantization is not None
    axis, old = CHANNEL_AXIS[operator.name], tensor.quantization.scale.astype(np.float64)
    real = tensor.data * _along(old, tensor, axis) if weights is None else weights.astype(np.float64)
    limit = (1 << (bits - 1)) - 1
    others = tuple(item for item in range(real.ndim) if item != axis)
    largest = np.abs(real).max(axis=others) if old.size > 1 else np.abs(real).max(keepdims=True).reshape(1)
    scales = np.where(largest > 0, largest / limit, old).astype(np.float32)
    steps = real / _along(scales.astype(np.float64), tensor, axis)
    if method == "squant":
        codes = as_filter(flip(by_kernel(steps, axis), -limit, limit), tensor.shape, axis)
    else:
        codes = np.clip(np.rint(steps), -limit, limit).astype(np.int8)
    tree = model.tree.subgraphs[subgraph.index]
    _fill(model, tree.tensors[tensor.index], codes, scales)
    ratio = old / scales
    biases = {item.inputs[2]: item for item in subgraph.operators if _uses(item, tensor)}
    for index, user in biases.items():
        bias, activation = subgraph.tensors[index], subgraph.tensors[user.inputs[0]]
        assert bias.data is not None
        values = np.rint(bias.data * ratio).astype(np.int32)
        _fill(model, tree.tensors[index], values, np.float32(activation.scale) * scales)


def _along(scales: NDArray[np.float64], tensor: Tensor, axis: int) -> NDArray[np.float64]:
    shape = [1] * len(tensor.shape)
    if scales.size > 1:
        shape[axis] = -1
    return scales.reshape(shape)


def _uses(operator: Operator, tensor: Tensor) -> bool:
    """Whether an operator has this filter, and a bias."""
    return (
        operator.name in CHANNEL_AXIS
        and len(operator.inputs) > 2
        and operator.inputs[1] == tensor.index
        and operator.inputs[2] >= 0
    )


def _fill(model: Model, item: Any, values: NDArray[Any], scales: NDArray[np.float32]) -> None:
    """Put a constant of other scales in the place of a tensor's."""
    item.buffer = add_buffer(model.tree, values)
    item.quantization.scale = scales
    item.quantization.zeroPoint = np.zeros(scales.size, np.int64)
