"""Fixed-point functions against the real ones, and lookups against what they tabulate."""

from __future__ import annotations

import numpy as np
import pytest

from tflnest.fixedpoint import multiply_by_quantized_multiplier
from tflnest.kernels import functions, lookup
from tflnest.kernels.reduction import mean_factor

ONE = 1 << 31


@pytest.mark.parametrize("integer_bits", [4, 5])
def test_exp_of_negative_values(integer_bits: int) -> None:
    real = -np.linspace(0, 15.9, 2000)
    raw = np.round(real * 2.0 ** (31 - integer_bits)).astype(np.int64)
    np.testing.assert_allclose(functions.exp_of_negative(raw, integer_bits) / ONE, np.exp(real), atol=1e-6)


def test_exp_of_zero_is_the_largest_value() -> None:
    assert functions.exp_of_negative(np.zeros(1, np.int64), 5)[0] == functions.ONE


def test_logistic_and_tanh() -> None:
    real = np.linspace(-7.9, 7.9, 2001)
    raw = np.round(real * 2.0**27).astype(np.int64)
    np.testing.assert_allclose(functions.logistic(raw, 4) / ONE, 1 / (1 + np.exp(-real)), atol=1e-6)
    np.testing.assert_allclose(functions.tanh(raw, 4) / ONE, np.tanh(real), atol=1e-6)


def test_reciprocal_of_arrays_and_of_integers_agree() -> None:
    values = np.concatenate([np.arange(1, 4000), (1 << np.arange(32)), [(1 << 32) - 1]]).astype(np.int64)
    mantissas, shifts = functions.reciprocal(values, 12)
    for value, mantissa, shift in zip(values.tolist(), mantissas, shifts, strict=True):
        assert functions.reciprocal_of_int(value, 12) == (mantissa, shift)
    real = values / 2.0**19
    np.testing.assert_allclose(mantissas / ONE * 2.0**-shifts, 1 / real, rtol=1e-6)


def test_inverse_square_root() -> None:
    values = np.unique(np.geomspace(1, (1 << 31) - 1, 3000).astype(np.int64))
    multiplier, shift = functions.inverse_square_root(values)
    np.testing.assert_allclose(multiplier / ONE * 2.0**shift, 1 / np.sqrt(values), rtol=2e-5)
    zero, _ = functions.inverse_square_root(np.zeros(1, np.int64))
    assert zero[0] == multiplier[0]


@pytest.mark.parametrize("count", [1, 2, 3, 49, 1000, 1 << 20])
def test_mean_factor_divides_by_the_number_of_elements(count: int) -> None:
    multiplier, shift = mean_factor(1 << 30, 1, count)
    assert multiplier / ONE * 2.0**shift == pytest.approx(1 / count, rel=1e-8)
    assert multiply_by_quantized_multiplier(100 * count, multiplier, shift) == 100


def test_lookup_is_the_function_that_it_tabulates() -> None:
    values = np.arange(-128, 128).astype(np.int8).reshape(16, 16)
    table = lookup.table_of(lambda x: np.clip(x * x // 100 - 5, -128, 127))
    expected = np.clip(values.astype(int) ** 2 // 100 - 5, -128, 127)
    np.testing.assert_array_equal(lookup.lookup(table, values), expected)
    np.testing.assert_array_equal(lookup.lookup(table, values.T), expected.T)


@pytest.mark.parametrize(
    "shapes", [((300000,), (300000,)), ((40, 1, 5), (1, 7, 5)), ((), (3,)), ((0, 3), (1, 3))]
)
def test_pair_lookup_is_the_function_that_it_tabulates(
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
) -> None:
    rng = np.random.default_rng(0)
    first, second = (rng.integers(-128, 128, shape).astype(np.int8) for shape in shapes)
    table = lookup.pair_table_of(lambda x, y: np.clip(x - 2 * y, -128, 127))
    expected = np.clip(first.astype(int) - 2 * second.astype(int), -128, 127)
    result = lookup.lookup_pairs(table, np.asarray(first), np.asarray(second))
    assert result.dtype == np.int8
    np.testing.assert_array_equal(result, expected)
