"""How the outputs of integer operators follow their inputs, as if nothing were rounded.

Gradients are those of a loss by the integers of a tensor. An operator is taken as the linear map behind its
arithmetic; roundings count as the identity (the straight-through estimator, Bengio et al., arXiv:1308.3432), and
where an output was clamped nothing passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tflnest.fixedpoint import activation_range
from tflnest.graph import Operator, Tensor
from tflnest.kernels.geometry import Window, dilations, strides

Gradient = NDArray[np.float32]


@dataclass(frozen=True)
class Place:
    """An operator where a gradient passes.

    Attributes:
        operator: The operator.
        inputs: Its input tensors; None where it has none.
        output: Its output tensor.
        shapes: Shapes of its varying inputs for all samples, by tensor index.
        weights: int8 weights that it runs with; None where it has none that are constant.
        factors: Output steps per accumulator step, (channels,) or (1,); None where it has no weights.
    """

    operator: Operator
    inputs: tuple[Tensor | None, ...]
    output: Tensor
    shapes: Mapping[int, tuple[int, ...]]
    weights: NDArray[np.int8] | None = None
    factors: NDArray[np.float32] | None = None

    @property
    def varying(self) -> Tensor:
        """The first input that is not constant."""
        return next(tensor for tensor in self.inputs if tensor is not None and not tensor.is_constant)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of that input for all samples."""
        return self.shapes[self.varying.index]


#: Gradients by the varying inputs, by tensor index, from the one by the output.
Backward = Callable[[Place, Gradient], dict[int, Gradient]]


def unclamped(operator: Operator, output: Tensor, values: NDArray[np.int8], gradient: Gradient) -> Gradient:
    """The part of a gradient by an operator's output that its accumulators can follow.

    Args:
        operator: The operator.
        output: Its output tensor.
        values: int8 outputs.
        gradient: By these outputs, same shape. A step against it lowers the loss.

    Returns:
        The gradient, 0 where the output was clamped; but where only int8's own end did that, a step back inside counts.
    """
    activation = operator.options.get("fused_activation_function", "NONE")
    low, high = activation_range(activation, output.scale, output.zero_point)
    limits = np.iinfo(np.int8)
    passes = (values > low) & (values < high)
    if high == limits.max:
        passes |= (values == high) & (gradient > 0)
    if activation in ("NONE", None):
        passes |= (values == low) & (gradient < 0)
    return gradient * passes


def input_gradients(place: Place, gradient: Gradient) -> dict[int, Gradient]:
    """Gradients by the varying inputs of an operator; empty where its map is not known here.

    Args:
        place: The operator.
        gradient: By its outputs, what was clamped taken off; float32, shaped like them.
    """
    backward = _BACKWARD.get(place.operator.name)
    return {} if backward is None else backward(place, gradient)


def _taps(window: Window) -> Iterator[tuple[int, int, slice, slice]]:
    """Every tap of a window, and which rows and columns of the padded image it reads."""
    for row in range(window.size[0]):
        for column in range(window.size[1]):
            slices = [
                slice(
                    tap * window.dilation[axis],
                    tap * window.dilation[axis] + (window.output[axis] - 1) * window.stride[axis] + 1,
                    window.stride[axis],
                )
                for axis, tap in enumerate((row, column))
            ]
            yield row, column, slices[0], slices[1]


def _image(window: Window, shape: Sequence[int]) -> tuple[Gradient, tuple[slice, ...]]:
    """Zeros for the padded image, and where the image lies in it."""
    sizes = [max(window.reach[axis], window.padding[axis] + shape[axis + 1]) for axis in (0, 1)]
    inside = tuple(slice(window.padding[axis], window.padding[axis] + shape[axis + 1]) for axis in (0, 1))
    return np.zeros((shape[0], *sizes, shape[3]), np.float32), (slice(None), *inside)


def _convolution(place: Place, gradient: Gradient) -> dict[int, Gradient]:
    if place.weights is None or place.factors is None:
        return {}
    weights, shape = place.weights.astype(np.float32), place.shape
    depthwise = place.operator.name == "DEPTHWISE_CONV_2D"
    if not depthwise and weights.shape[3] != shape[3]:
        return {}  # Groups of channels.
    scaled = gradient * place.factors
    window = _window(place, (weights.shape[1], weights.shape[2]))
    image, inside = _image(window, shape)
    for row, column, rows, columns in _taps(window):
        if depthwise:
            back = (scaled * weights[0, row, column]).reshape(*scaled.shape[:3], shape[3], -1).sum(axis=4)
        else:
            back = scaled @ weights[:, row, column]
        image[:, rows, columns] += back
    return {place.varying.index: image[inside]}


def _window(place: Place, size: tuple[int, int]) -> Window:
    options, shape = place.operator.options, place.shape
    return Window.sliding(
        options["padding"], size, strides(options), dilations(options), (shape[1], shape[2])
    )


def _fully_connected(place: Place, gradient: Gradient) -> dict[int, Gradient]:
    if place.weights is None or place.factors is None:
        return {}
    rows = (gradient * place.factors).reshape(-1, len(place.weights))
    return {place.varying.index: (rows @ place.weights.astype(np.float32)).reshape(place.shape)}


def _add(place: Place, gradient: Gradient) -> dict[int, Gradient]:
    result: dict[int, Gradient] = {}
    for tensor in place.inputs:
        if tensor is None or tensor.is_constant:
            continue
        if place.shapes[tensor.index] != gradient.shape:
            return {}  # Broadcast.
        own = gradient * np.float32(tensor.scale / place.output.scale)
        result[tensor.index] = result[tensor.index] + own if tensor.index in result else own
    return result


def _pad(place: Place, gradient: Gradient) -> dict[int, Gradient]:
    amounts = place.inputs[1]
    assert amounts is not None
    if amounts.data is None:
        return {}
    starts = [int(before) for before, _ in amounts.data]
    inside = tuple(slice(start, start + size) for start, size in zip(starts, place.shape, strict=True))
    return {place.varying.index: gradient[inside]}


def _mean(place: Place, gradient: Gradient) -> dict[int, Gradient]:
    axes_tensor, shape = place.inputs[1], place.shape
    assert axes_tensor is not None
    if axes_tensor.data is None:
        return {}
    axes = {int(axis) % len(shape) for axis in np.atleast_1d(axes_tensor.data)}
    kept = [1 if axis in axes else size for axis, size in enumerate(shape)]
    share = place.varying.scale / place.output.scale / np.prod([shape[axis] for axis in axes])
    return {place.varying.index: np.broadcast_to(gradient.reshape(kept) * np.float32(share), shape)}


def _average_pool(place: Place, gradient: Gradient) -> dict[int, Gradient]:
    options, shape = place.operator.options, place.shape
    size = (options["filter_height"], options["filter_width"])
    window = Window.sliding(options["padding"], size, strides(options), (1, 1), (shape[1], shape[2]))
    image, inside = _image(window, shape)
    covered = np.zeros(image.shape[1:3], np.float32)
    covered[inside[1:]] = 1
    count = sum(covered[rows, columns] for _, _, rows, columns in _taps(window))
    for _, _, rows, columns in _taps(window):
        image[:, rows, columns] += gradient / np.asarray(count, np.float32)[..., None]
    return {place.varying.index: image[inside]}


def _reshape(place: Place, gradient: Gradient) -> dict[int, Gradient]:
    return {place.varying.index: gradient.reshape(place.shape)}


_BACKWARD: dict[str, Backward] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _convolution,
    "FULLY_CONNECTED": _fully_connected,
    "ADD": _add,
    "PAD": _pad,
    "PADV2": _pad,
    "MEAN": _mean,
    "AVERAGE_POOL_2D": _average_pool,
    "RESHAPE": _reshape,
}
