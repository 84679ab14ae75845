from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.affine import UNIT, Affine, from_range, quantize_bias, quantize_weights, weight_scales
from converters.calibration import Range

finite = st.floats(-1e6, 1e6, width=32)


@given(finite, finite)
def test_range_covers_what_was_seen_and_represents_zero(a, b):
    seen = Range(min(a, b, 0.0), max(a, b, 0.0))
    affine = from_range(Range(min(a, b), max(a, b)))
    assert affine.scale > 0 and np.float32(affine.scale) == affine.scale
    assert -128 <= affine.zero_point <= 127
    covered = affine.range
    assert covered.low - affine.scale <= seen.low and seen.high <= covered.high + affine.scale
    assert affine.quantize(np.zeros(1, np.float32))[0] == affine.zero_point


def test_ranges_of_the_usual_activations():
    relu = from_range(Range(0.0, 25.5))
    assert relu.zero_point == -128 and relu.scale == pytest.approx(0.1)
    assert from_range(Range(0.0, 0.0)).zero_point == -128
    assert from_range(Range(2.0, 5.1)).range.low == 0.0


def test_quantize_rounds_half_away_from_zero_and_clamps():
    affine = Affine(1.0, 0)
    values = np.array([0.5, -0.5, 1.5, -1.5, 127.6, -200.0], np.float32)
    assert affine.quantize(values).tolist() == [1, -1, 2, -2, 127, -128]


@pytest.mark.parametrize("axis", [0, 3])
def test_weights_use_the_whole_range_of_each_channel(axis):
    weights = np.random.default_rng(1).normal(size=(4, 3, 3, 5)).astype(np.float32)
    scales = weight_scales(weights, axis, None, Affine(0.1, 0), Affine(0.1, 0))
    integers = quantize_weights(weights, scales, axis)
    assert scales.shape == (weights.shape[axis],)
    peaks = np.abs(integers.astype(int)).max(axis=tuple(i for i in range(4) if i != axis))
    assert (peaks == 127).all()
    shape = [1] * 4
    shape[axis] = -1
    error = np.abs(integers * scales.reshape(shape) - weights)
    assert (error <= 0.5001 * scales.reshape(shape)).all()


def test_dead_channels_get_a_usable_scale():
    weights = np.zeros((2, 4), np.float32)
    weights[1] = 1.0
    bias = np.array([3.0, 0.5], np.float32)
    source, target = Affine(1e-3, 0), Affine(0.05, 0)
    scales = weight_scales(weights, 0, bias, source, target)
    assert scales[1] == np.float32(1.0 / 127.0)
    assert source.scale * scales[0] / target.scale >= 2.0**-31
    integers = quantize_bias(bias, source.scale * scales.astype(np.float64))
    assert abs(int(integers[0])) <= 1 << 30
    assert integers[0] * source.scale * scales[0] == pytest.approx(3.0, rel=1e-6)


def test_fixed_output_ranges():
    assert UNIT.range == Range(0.0, 255.0 / 256.0)
