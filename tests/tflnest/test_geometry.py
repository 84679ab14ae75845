from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tflnest import literal
from tflnest.errors import FormatError, UnsupportedError
from tflnest.kernels.geometry import MAX_DIMENSION, Window, blocks, load_patch

small = st.integers(1, 9)


@given(small, small, small, small, st.sampled_from(["SAME", "VALID"]))
def test_positions_are_those_of_tflm(image: int, size: int, stride: int, dilation: int, padding: str) -> None:
    span = (size - 1) * dilation + 1
    if padding == "VALID" and span > image:
        with pytest.raises(FormatError, match=f"a window of {span} does not fit an image of {image}"):
            Window.sliding(padding, (size, 1), (stride, 1), (dilation, 1), (image, 1))
        return
    window = Window.sliding(padding, (size, 1), (stride, 1), (dilation, 1), (image, 1))
    count, before = literal.output_size(image, size, stride, dilation, padding)
    assert (window.output, window.padding) == ((count, 1), (before, 0))
    assert window.span == (span, 1)


@given(small, small, small, small, st.integers(0, 30), st.integers(1, 9))
def test_cropping_keeps_the_taps_that_matter(
    image: int, size: int, stride: int, dilation: int, padding: int, output: int
) -> None:
    window = Window((size, 1), (stride, 1), (dilation, 1), (padding, 0), (image, 1), (output, 1))
    cropped, (taps, _) = window.cropped()
    kept = range(size)[taps]
    assert cropped.size[0] == len(kept) >= 1
    assert cropped.padding[0] == padding - kept[0] * dilation
    for tap in range(size):
        rows = [position * stride - padding + tap * dilation for position in range(output)]
        assert tap in kept or not any(0 <= row < image for row in rows)


@pytest.mark.parametrize("value", [0, -1, MAX_DIMENSION + 1])
def test_sizes_are_checked(value: int) -> None:
    for position, name in enumerate(("size", "stride", "dilation", "image")):
        pairs = [(1, 1)] * 4
        pairs[position] = (1, value)
        with pytest.raises(FormatError, match=f"a window's {name} is {value}"):
            Window.sliding("SAME", *pairs)
    with pytest.raises(UnsupportedError, match="padding EXPLICIT"):
        Window.sliding("EXPLICIT", (1, 1), (1, 1), (1, 1), (1, 1))


@given(st.integers(0, 5), small, small, st.integers(1, 50), st.integers(1, 2000))
def test_blocks_cover_everything_once_in_order(
    samples: int, height: int, width: int, cost: int, limit: int
) -> None:
    order = np.arange(samples * height * width).reshape(samples, height, width)
    parts = []
    for n0, n1, y0, y1, x0, x1 in blocks(samples, (height, width), cost, limit):
        part = order[n0:n1, y0:y1, x0:x1]
        assert part.size > 0 and part.size * cost <= max(limit, cost)
        parts.append(part.reshape(-1))
    assert np.concatenate([*parts, np.zeros(0, int)]).tolist() == list(range(order.size))


@given(st.integers(-6, 12), st.integers(-6, 12), st.integers(1, 4), small, small, small, small)
def test_patches(top: int, left: int, step: int, height: int, width: int, rows: int, columns: int) -> None:
    image = np.arange(2 * height * width, dtype=np.int8).reshape(2, height, width, 1)
    patch = np.full((2, rows, columns, 1), np.nan, np.float32)
    load_patch(patch, image, top, left, step, -7)
    for n, r, c in np.ndindex(2, rows, columns):
        y, x = top + r, left + c * step
        inside = 0 <= y < height and 0 <= x < width
        assert patch[n, r, c, 0] == (image[n, y, x, 0] if inside else -7)
