"""What rounding methods that flip share: the view of a filter by kernels, and the choice of whom to flip.

A rounding error that stays within one weight hardly shows; errors of one sign that add up over a kernel or
an output channel do, because neighbouring inputs are alike. Flipping takes the weights that were nearest to
the other side of their rounding, and rounds them the other way until the sum is close to zero.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

_Number = TypeVar("_Number", bound=np.generic)

#: Axes of the kernel in the filter of CONV_2D and DEPTHWISE_CONV_2D.
KERNEL_AXES = (1, 2)


def by_kernel(filter_values: NDArray[_Number], channel_axis: int) -> NDArray[_Number]:
    """View a filter as output channels x kernels x elements.

    A kernel is what one output channel applies to one input channel: height x width elements in a
    convolution, a single one in a fully connected layer.

    Args:
        filter_values: Shaped as in the file.
        channel_axis: Axis that counts output channels.

    Returns:
        Shape (output channels, kernels, elements of a kernel), elements row by row.
    """
    ordered = filter_values.transpose(_kernel_order(filter_values.ndim, channel_axis))
    elements = int(np.prod(ordered.shape[2:], dtype=np.int64)) if filter_values.ndim == 4 else 1
    return ordered.reshape(ordered.shape[0], -1, elements)


def as_filter(kernels: NDArray[_Number], shape: tuple[int, ...], channel_axis: int) -> NDArray[_Number]:
    """The inverse of `by_kernel`: a contiguous array shaped as in the file."""
    order = _kernel_order(len(shape), channel_axis)
    restored = kernels.reshape([shape[axis] for axis in order]).transpose(np.argsort(order))
    return np.ascontiguousarray(restored)


def _kernel_order(rank: int, channel_axis: int) -> tuple[int, ...]:
    kernel = KERNEL_AXES if rank == 4 else ()
    others = tuple(axis for axis in range(rank) if axis != channel_axis and axis not in kernel)
    return (channel_axis, *others, *kernel)


def ranking(cost: NDArray[np.float64], usable: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Positions in the last axis: usable ones first, cheapest first, equal ones in their order in the filter."""
    return np.argsort(np.where(usable, cost, np.inf), axis=-1, kind="stable")


def first(order: NDArray[np.intp], count: NDArray[Any]) -> NDArray[np.bool_]:
    """Mark the first `count` of a ranking, a number per group (shape without the last axis)."""
    marks = np.zeros(order.shape, bool)
    np.put_along_axis(marks, order, np.arange(order.shape[-1]) < np.asarray(count)[..., None], axis=-1)
    return marks
