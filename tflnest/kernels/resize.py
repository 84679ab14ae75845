"""RESIZE_BILINEAR and RESIZE_NEAREST_NEIGHBOR.

Sources: TFLM reference/resize_bilinear.h (integer form), reference/resize_nearest_neighbor.h.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tflnest.fixedpoint import Rounding
from tflnest.graph import Tensor
from tflnest.kernels.checks import (
    constant_integers,
    input_tensor,
    leads_with_samples,
    malformed,
    output_tensor,
    require_arity,
    require_rank,
    require_same_type,
    require_shape,
    require_type,
    unsupported,
)
from tflnest.kernels.registry import Arrays, Kernel, Node, register

#: Fraction bits of positions in the source image.
FRACTION_BITS = 10

#: Sizes above this would overflow 32-bit positions.
MAX_SIZE = 1 << 20


@dataclass(frozen=True)
class CheckedResize:
    """A resize that makes sense: its tensors, align_corners and half_pixel_centers."""

    source: Tensor
    output: Tensor
    align: bool
    half_pixel: bool


def checked_resize(node: Node, types: tuple[str, ...]) -> CheckedResize:
    """A resize of images of some types.

    Raises:
        UnsupportedError: The types are others.
        FormatError: The operator contradicts itself.
    """
    require_arity(node, 2)
    tensor, output = input_tensor(node, 0), output_tensor(node)
    require_type(node, tensor, types)
    require_same_type(node, [tensor, output])
    require_rank(node, tensor, 4)
    size = constant_integers(node, 1, "size")
    if len(size) != 2 or not all(0 < value <= MAX_SIZE for value in (*size, *tensor.shape[1:3])):
        raise malformed(node, f"resizes {list(tensor.shape)} to {list(size)}")
    require_shape(node, output, (tensor.shape[0], *size, tensor.shape[3]))
    options = node.operator.options
    align = bool(options.get("align_corners", False))
    return CheckedResize(tensor, output, align, bool(options.get("half_pixel_centers", False)))


def checked_resize_bilinear(node: Node) -> CheckedResize:
    """An int8 RESIZE_BILINEAR; raises what `checked_resize` does."""
    checked = checked_resize(node, ("INT8",))
    if checked.align and checked.half_pixel:
        raise unsupported(node, "align_corners together with half_pixel_centers")
    return checked


def position_steps(source: int, target: int, align: bool, half_pixel: bool) -> tuple[int, int]:
    """Where output pixels lie on the input: at index * scale + offset, in 1,024ths of a pixel.

    Args:
        source: Length of the axis in the input.
        target: In the output.
        align: Whether the centres of the corner pixels coincide.
        half_pixel: Whether pixels are taken at their centres.

    Returns:
        (scale, offset).
    """
    one = 1 << FRACTION_BITS
    if align and target > 1:
        scale = (one * (source - 1) + (target - 1) // 2) // (target - 1)
    else:
        scale = (one * source + target // 2) // target
    return scale, scale // 2 - one // 2 if half_pixel else 0


def _positions(source: int, target: int, align: bool, half_pixel: bool) -> tuple[NDArray[Any], ...]:
    """For every output index: the two source indices and the weight of the second, in 1,024ths."""
    one = 1 << FRACTION_BITS
    scale, offset = position_steps(source, target, align, half_pixel)
    position = np.arange(target, dtype=np.int64) * scale + offset
    first = np.clip(position >> FRACTION_BITS, 0, source - 1)
    second = np.clip((position + one - 1) >> FRACTION_BITS, 0, source - 1)
    return first, second, (position - first * one).astype(np.int32)


@register("RESIZE_BILINEAR")
def prepare_resize_bilinear(node: Node) -> Kernel:
    """RESIZE_BILINEAR: INT8 with 10-bit weights."""
    checked = checked_resize_bilinear(node)
    tensor, size = checked.source, checked.output.shape[1:3]
    top, bottom, down = _positions(tensor.shape[1], size[0], checked.align, checked.half_pixel)
    left, right, across = _positions(tensor.shape[2], size[1], checked.align, checked.half_pixel)
    down, across = down[:, None, None], across[:, None]
    one = np.int32(1 << FRACTION_BITS)
    half = np.int32(1 << (2 * FRACTION_BITS - 1))

    def evaluate(inputs: Arrays) -> tuple[NDArray[Any], ...]:
        values = inputs[0]
        assert values is not None
        rows = values.take(top, axis=1) * (one - down) + values.take(bottom, axis=1) * down
        total = rows.take(left, axis=2) * (one - across) + rows.take(right, axis=2) * across
        if node.rounding is Rounding.SINGLE:
            return (((total + half) >> (2 * FRACTION_BITS)).astype(np.int8),)
        magnitude = (np.abs(total) + half) >> (2 * FRACTION_BITS)
        return ((np.sign(total) * magnitude).astype(np.int8),)

    return Kernel(evaluate, leads_with_samples(node))


def nearest_indices(source: int, target: int, align: bool, half_pixel: bool) -> NDArray[np.intp]:
    """Source index for every output index, in float32 as TFLM computes it; arguments as `position_steps`."""
    if align and target > 1:
        scale = np.float32(source - 1) / np.float32(target - 1)
    else:
        scale = np.float32(source) / np.float32(target)
    offset = np.float32(0.5 if half_pixel else 0.0)
    position = (np.arange(target, dtype=np.float32) + offset) * scale
    wide = position.astype(np.float64)
    index = np.floor(wide + 0.5) if align else np.floor(wide)
    return np.clip(index, 0, source - 1).astype(np.intp)


@register("RESIZE_NEAREST_NEIGHBOR")
def prepare_resize_nearest_neighbor(node: Node) -> Kernel:
    """RESIZE_NEAREST_NEIGHBOR: INT8, INT16, FLOAT32."""
    checked = checked_resize(node, ("INT8", "INT16", "FLOAT32"))
    tensor, size = checked.source, checked.output.shape[1:3]
    rows = nearest_indices(tensor.shape[1], size[0], checked.align, checked.half_pixel)
    columns = nearest_indices(tensor.shape[2], size[1], checked.align, checked.half_pixel)

    def evaluate(inputs: Arrays) -> tuple[NDArray[Any], ...]:
        values = inputs[0]
        assert values is not None
        return (values.take(rows, axis=1).take(columns, axis=2),)

    return Kernel(evaluate, leads_with_samples(node))
