"""Rounding as the integer engines do it, against their arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from tflnest.fixedpoint import multiply_by_quantized_multiplier, quantize_multipliers

keras = pytest.importorskip("keras", reason="the keras extra is not installed")


@pytest.mark.parametrize("zero_point", [-128, 5])
def test_accumulators_are_requantized_like_fixed_point(zero_point: int) -> None:
    from converters.training.integers import requantized

    rng = np.random.default_rng(0)
    multipliers = np.float32(2.0) ** rng.uniform(-12, 1, 64).astype(np.float32)
    sums = rng.integers(-(1 << 17), 1 << 17, (2000, 64))
    fixed, shift = quantize_multipliers(multipliers.astype(np.float64))
    scaled = multiply_by_quantized_multiplier(sums, fixed, shift)
    expected = np.clip(scaled + zero_point, -128, 127) - zero_point
    found = keras.ops.convert_to_numpy(requantized(sums.astype(np.float32), multipliers, zero_point))
    assert (found == expected).mean() > 0.9999
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize(("count", "zero_point"), [(64, -128), (4, 5), (6, -3)])
def test_means_are_rounded_half_away_from_zero(count: int, zero_point: int) -> None:
    from converters.training.integers import averaged

    sums = np.arange(-128 * count, 127 * count + 1)
    expected = np.sign(sums) * ((np.abs(sums) + count // 2) // count) - zero_point
    means = (sums / count - zero_point).astype(np.float32)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(averaged(means, zero_point)), expected)
