"""The view of a filter by kernels, and the choice of whom to flip."""

from __future__ import annotations

import numpy as np
import pytest

from converters.rounding.flipping import as_filter, by_kernel, first, ranking


def test_a_kernel_of_a_convolution_is_one_input_channel_of_one_output_channel():
    weights = np.arange(2 * 3 * 5 * 4, dtype=np.int16).reshape(2, 3, 5, 4)
    kernels = by_kernel(weights, 0)
    assert kernels.shape == (2, 4, 15)
    np.testing.assert_array_equal(kernels[1, 2], weights[1, :, :, 2].reshape(-1))


def test_a_kernel_of_a_depthwise_convolution_is_its_output_channel():
    weights = np.arange(3 * 5 * 4, dtype=np.int16).reshape(1, 3, 5, 4)
    kernels = by_kernel(weights, 3)
    assert kernels.shape == (4, 1, 15)
    np.testing.assert_array_equal(kernels[2, 0], weights[0, :, :, 2].reshape(-1))


def test_kernels_of_a_fully_connected_layer_have_one_element():
    weights = np.arange(12, dtype=np.int16).reshape(3, 4)
    np.testing.assert_array_equal(by_kernel(weights, 0), weights[..., None])


@pytest.mark.parametrize(
    ("shape", "axis"), [((6,), 0), ((3, 4), 0), ((2, 3, 4), 0), ((2, 3, 5, 4), 0), ((1, 3, 5, 4), 3)]
)
def test_the_view_is_undone(shape, axis):
    weights = np.random.default_rng(0).integers(-128, 128, shape).astype(np.int8)
    restored = as_filter(by_kernel(weights, axis), shape, axis)
    assert restored.flags.c_contiguous
    np.testing.assert_array_equal(restored, weights)


def test_usable_elements_come_first_cheapest_first_equal_ones_in_order():
    cost = np.array([[3.0, 1.0, 2.0, 1.0, 0.0], [5.0, 5.0, 5.0, 5.0, 5.0]])
    usable = np.array([[True, True, True, True, False], [False, True, False, True, True]])
    order = ranking(cost, usable)
    assert order[0].tolist() == [1, 3, 2, 0, 4]
    assert order[1, :3].tolist() == [1, 3, 4]
    assert first(order, np.array([2, 1])).tolist() == [
        [False, True, False, True, False],
        [False, True, False, False, False],
    ]
    assert not first(order, np.array([0, 0])).any()
