"""How a window moves over an image: strides, dilations, padding, checked shapes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tflnest.errors import FormatError, UnsupportedError

#: Sizes above this are not taken for real; it keeps all index arithmetic far from overflow.
MAX_DIMENSION = 1 << 24


@dataclass(frozen=True)
class Window:
    """A two-dimensional sliding window; every pair is (height, width).

    Attributes:
        size: Of the window, in taps.
        stride: Step from one output to the next, >= 1.
        dilation: Step from one tap to the next, >= 1.
        padding: Rows above and columns left of the image.
        input: Size of the image.
        output: Number of window positions.
    """

    size: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: tuple[int, int]
    input: tuple[int, int]
    output: tuple[int, int]

    @classmethod
    def sliding(
        cls,
        padding: str,
        size: tuple[int, int],
        stride: tuple[int, int],
        dilation: tuple[int, int],
        image: tuple[int, int],
    ) -> Window:
        """Place a window with "SAME" or "VALID" padding (TFLM ComputePaddingHeightWidth).

        Args:
            padding: "SAME" or "VALID".
            size: Of the window.
            stride: Of the window.
            dilation: Of the window.
            image: Size of the input.

        Raises:
            FormatError: A size, stride or dilation is out of range, or no window position exists.
        """
        positions = [_positions(padding, *axis) for axis in zip(size, stride, dilation, image, strict=True)]
        (rows, top), (columns, left) = positions
        return cls(size, stride, dilation, (top, left), image, (rows, columns))

    @property
    def span(self) -> tuple[int, int]:
        """Rows and columns that one window position covers."""
        return (
            (self.size[0] - 1) * self.dilation[0] + 1,
            (self.size[1] - 1) * self.dilation[1] + 1,
        )

    @property
    def reach(self) -> tuple[int, int]:
        """Rows and columns of the padded image that all positions together read."""
        return (
            (self.output[0] - 1) * self.stride[0] + self.span[0],
            (self.output[1] - 1) * self.stride[1] + self.span[1],
        )

    def cropped(self) -> tuple[Window, tuple[slice, slice]]:
        """The window without the taps that never touch the image, and which taps are left.

        With this, the padded image is at most a few times as large as the image, whatever the dilation.
        The padding of the new window may be negative: it starts inside the image.
        """
        top = _useful_taps(*(axis[0] for axis in self._axes()))
        left = _useful_taps(*(axis[1] for axis in self._axes()))
        window = Window(
            size=(top.stop - top.start, left.stop - left.start),
            stride=self.stride,
            dilation=self.dilation,
            padding=(
                self.padding[0] - top.start * self.dilation[0],
                self.padding[1] - left.start * self.dilation[1],
            ),
            input=self.input,
            output=self.output,
        )
        return window, (top, left)

    def _axes(self) -> tuple[tuple[int, int], ...]:
        return self.size, self.stride, self.dilation, self.padding, self.input, self.output


def _useful_taps(size: int, stride: int, dilation: int, padding: int, image: int, output: int) -> slice:
    """The range of taps that lie on the image at some position; one tap where none does."""
    last = (output - 1) * stride - padding
    start = max(-(last // dilation), 0)
    stop = min((image - 1 + padding) // dilation + 1, size)
    return slice(start, stop) if start < stop else slice(0, 1)


def blocks(
    samples: int, output: tuple[int, int], cost: int, limit: int
) -> Iterator[tuple[int, int, int, int, int, int]]:
    """Cut the window positions of a batch into blocks of bounded cost, in memory order.

    Args:
        samples: Number of images.
        output: Positions per image (height, width).
        cost: Of one position.
        limit: Of a block; one position may exceed it.

    Yields:
        (first sample, last + 1, first row, last + 1, first column, last + 1): whole images, or rows of one
        image, or a part of one row.
    """
    height, width = output
    images = limit // (cost * height * width)
    rows = limit // (cost * width)
    columns = max(limit // cost, 1)
    if images >= 1:
        for n in range(0, samples, images):
            yield n, min(n + images, samples), 0, height, 0, width
    elif rows >= 1:
        for n in range(samples):
            for y in range(0, height, rows):
                yield n, n + 1, y, min(y + rows, height), 0, width
    else:
        for n in range(samples):
            for y in range(height):
                for x in range(0, width, columns):
                    yield n, n + 1, y, y + 1, x, min(x + columns, width)


def load_patch(
    patch: NDArray[Any], image: NDArray[np.int8], top: int, left: int, step: int, fill: int
) -> None:
    """Copy a part of an image that may reach beyond its edges.

    Args:
        patch: Filled: patch[:, r, c] = image[:, top + r, left + c * step].
        image: (samples, height, width, channels).
        top: First row, may be negative.
        left: First column, may be negative.
        step: Columns of the image from one column of the patch to the next.
        fill: Value beyond the edges.
    """
    rows, columns = patch.shape[1], patch.shape[2]
    height, width = image.shape[1], image.shape[2]
    r0, r1 = max(-top, 0), min(rows, height - top)
    c0, c1 = max(-(left // step), 0), min(columns, -(-(width - left) // step))
    if r0 > 0 or r1 < rows or c0 > 0 or c1 < columns:
        patch.fill(fill)
    if r0 < r1 and c0 < c1:
        first = left + c0 * step
        last = left + (c1 - 1) * step + 1
        patch[:, r0:r1, c0:c1] = image[:, top + r0 : top + r1, first:last:step]


def _positions(padding: str, size: int, stride: int, dilation: int, image: int) -> tuple[int, int]:
    """Number of window positions along one axis, and the padding before the image."""
    for name, value in (("size", size), ("stride", stride), ("dilation", dilation), ("image", image)):
        if not 1 <= value <= MAX_DIMENSION:
            raise FormatError(f"a window's {name} is {value}, and must lie between 1 and {MAX_DIMENSION:,}")
    span = (size - 1) * dilation + 1
    if padding == "SAME":
        count = -(-image // stride)
        return count, max((count - 1) * stride + span - image, 0) // 2
    if padding == "VALID":
        if span > image:
            raise FormatError(f"a window of {span} does not fit an image of {image} without padding")
        return (image - span) // stride + 1, 0
    raise UnsupportedError(f"padding {padding} is not supported; SAME and VALID are")


def strides(options: Mapping[str, Any]) -> tuple[int, int]:
    """Strides (height, width) from an operator's options."""
    return int(options.get("stride_h", 0)), int(options.get("stride_w", 0))


def dilations(options: Mapping[str, Any]) -> tuple[int, int]:
    """Dilations (height, width) from an operator's options; 1 where the operator has none."""
    return int(options.get("dilation_h_factor", 1)), int(options.get("dilation_w_factor", 1))


def image_size(shape: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of a tensor of shape (samples, height, width, channels)."""
    return shape[1], shape[2]
