from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tflnest import literal
from tflnest.errors import FormatError
from tflnest.fixedpoint import (
    EXACT_ACCUMULATOR,
    INT32_MAX,
    INT32_MIN,
    Requantizer,
    Rounding,
    activation_range,
    multiply_by_quantized_multiplier,
    quantize_multiplier,
    quantize_multiplier_smaller_than_one,
    quantize_multipliers,
    rounding_divide_by_pot,
    saturating_rounding_doubling_high_mul,
)

int32 = st.integers(INT32_MIN, INT32_MAX) | st.sampled_from([INT32_MIN, INT32_MIN + 1, -1, 0, 1, INT32_MAX])
multipliers = st.integers(1 << 30, INT32_MAX) | st.sampled_from([0, 1 << 30, INT32_MAX])


@given(st.floats(1e-9, 1e8))
def test_a_multiplier_is_the_factor_to_31_bits(real: float) -> None:
    multiplier, shift = quantize_multiplier(real)
    assert 1 << 30 <= multiplier <= INT32_MAX
    assert math.isclose(multiplier * 2.0 ** (shift - 31), real, rel_tol=2.0**-31)


@pytest.mark.parametrize(
    ("real", "expected"),
    [
        (0.0, (0, 0)),
        (1.0, (1 << 30, 1)),
        (0.5, (1 << 30, 0)),
        (0.3, (1288490189, -1)),
        (1.0 - 2.0**-40, (1 << 30, 1)),
        (2.0**-32, (1 << 30, -31)),
        (2.0**-33, (0, 0)),
        (-0.75, (-1610612736, 0)),
    ],
)
def test_multipliers_of_known_factors(real: float, expected: tuple[int, int]) -> None:
    assert quantize_multiplier(real) == expected


def test_many_multipliers_are_each_of_one() -> None:
    real = np.array([[0.1, 3.0], [1e-12, 1.0]])
    multiplier, shift = quantize_multipliers(real)
    assert multiplier.dtype == shift.dtype == np.int32
    for index in np.ndindex(2, 2):
        assert (multiplier[index], shift[index]) == quantize_multiplier(real[index])


@pytest.mark.parametrize("real", [math.nan, math.inf, -math.inf])
def test_a_factor_must_be_finite(real: float) -> None:
    with pytest.raises(FormatError, match=f"{real}, and must be finite"):
        quantize_multiplier(real)


@pytest.mark.parametrize("real", [0.0, 1.0, -0.5, 2.0, math.nan])
def test_a_factor_smaller_than_one_is_checked(real: float) -> None:
    assert quantize_multiplier_smaller_than_one(0.25) == (1 << 30, -1)
    with pytest.raises(FormatError, match="between 0 and 1"):
        quantize_multiplier_smaller_than_one(real)


@given(int32, int32)
def test_high_mul_is_the_literal_one(a: int, b: int) -> None:
    assert int(saturating_rounding_doubling_high_mul(a, b)) == literal.high_mul(a, b)


@given(int32, st.integers(0, 31))
def test_division_is_the_literal_one(x: int, exponent: int) -> None:
    assert int(rounding_divide_by_pot(x, exponent)) == literal.divide_by_pot(x, exponent)


@given(int32, multipliers, st.integers(-31, 30), st.sampled_from(Rounding))
def test_multiplication_is_the_literal_one(x: int, multiplier: int, shift: int, rounding: Rounding) -> None:
    expected = literal.multiply(x, multiplier, shift, rounding is Rounding.SINGLE)
    assert int(multiply_by_quantized_multiplier(x, multiplier, shift, rounding)) == expected


def test_multiplication_per_channel() -> None:
    acc = np.array([[1000, 1000, 1000], [-3, -3, -3]], np.int32)
    multiplier, shift = np.array([1 << 30] * 3, np.int32), np.array([0, -1, 2], np.int32)
    assert multiply_by_quantized_multiplier(acc, multiplier, shift).tolist() == [
        [500, 250, 2000],
        [-1, -1, -6],
    ]


@pytest.mark.parametrize(
    ("activation", "scale", "zero_point", "expected"),
    [
        ("NONE", 0.1, 5, (-128, 127)),
        (None, 0.1, 5, (-128, 127)),
        ("TANH", 0.1, 5, (-128, 127)),
        ("RELU", 0.1, 5, (5, 127)),
        ("RELU6", 0.1, -20, (-20, 40)),
        ("RELU6", 6.0 / 255.0, -128, (-128, 127)),
        ("RELU_N1_TO_1", 0.1, 5, (-5, 15)),
        ("RELU_N1_TO_1", 0.4, 0, (-3, 3)),  # 2.5 rounds away from zero
    ],
)
def test_activation_ranges(activation: str, scale: float, zero_point: int, expected: tuple[int, int]) -> None:
    assert activation_range(activation, scale, zero_point) == expected


@pytest.mark.parametrize(("scale", "zero_point"), [(0.0, 0), (math.nan, 0), (1e-12, 0), (0.1, 200)])
def test_activation_ranges_of_nonsense(scale: float, zero_point: int) -> None:
    with pytest.raises(FormatError):
        activation_range("RELU6", scale, zero_point)


def test_activation_range_of_int16() -> None:
    assert activation_range("RELU", 0.1, 0, np.int16) == (0, 32767)


# ------------------------------------------------------------------------------------------- requantization


def requantize(requantizer: Requantizer, acc: np.ndarray) -> np.ndarray:
    out = np.empty(acc.shape, np.int8)
    requantizer(acc, out)
    return out


def literally(requantizer: Requantizer, acc: np.ndarray, offset: np.ndarray) -> np.ndarray:
    scaling = literal.Scaling(
        requantizer.multiplier,
        requantizer.shift,
        0,
        requantizer.output_zero_point,
        requantizer.activation_min,
        requantizer.activation_max,
        requantizer.rounding is Rounding.SINGLE,
    )
    out = [
        [scaling(int(a) + int(o), c) for c, (a, o) in enumerate(zip(row, offset, strict=True))] for row in acc
    ]
    return np.array(out, np.int8).reshape(acc.shape)


@st.composite
def requantizations(draw: st.DrawFn) -> tuple[Requantizer, np.ndarray, np.ndarray]:
    """A requantizer of up to 6 channels and accumulators within its bounds, edges and ties preferred."""
    channels = draw(st.integers(1, 6))
    rows = draw(st.integers(1, 5))
    bits = draw(st.integers(2, 30))
    limit = (1 << bits) - 1
    values = st.integers(-limit, limit) | st.sampled_from([-limit, -1, 0, 1, limit])
    multiplier = draw(st.lists(multipliers, min_size=channels, max_size=channels))
    shift = draw(st.lists(st.integers(-31, 8), min_size=channels, max_size=channels))
    acc = np.array(draw(st.lists(values, min_size=rows * channels, max_size=rows * channels))).reshape(
        rows, channels
    )
    offset = np.array(draw(st.lists(values, min_size=channels, max_size=channels)))
    ends = sorted(draw(st.tuples(st.integers(-128, 127), st.integers(-128, 127))))
    requantizer = Requantizer(
        multiplier,
        shift,
        output_zero_point=draw(st.integers(-128, 127)),
        activation_min=ends[0],
        activation_max=ends[1],
        low=-limit + offset,
        high=limit + offset,
        offset=offset,
        rounding=draw(st.sampled_from(Rounding)),
    )
    return requantizer, acc, offset


@given(requantizations())
def test_requantization_is_the_literal_one(case: tuple[Requantizer, np.ndarray, np.ndarray]) -> None:
    requantizer, acc, offset = case
    expected = literally(requantizer, acc, offset)
    np.testing.assert_array_equal(requantize(requantizer, acc), expected)
    np.testing.assert_array_equal(requantize(requantizer, acc.astype(np.float64)), expected)
    np.testing.assert_array_equal(requantizer.exact(acc), expected)


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("shift", [-12, -5, -1, 0, 3])
@pytest.mark.parametrize("multiplier", [1 << 30, (1 << 30) + 1, 3 << 29, INT32_MAX])
def test_every_tie_and_neighbour(multiplier: int, shift: int, rounding: Rounding) -> None:
    """Accumulators at, just below and just above every output's edge."""
    factor = multiplier * 2.0 ** (shift - 31)
    edges = np.array([round((half + 0.5) / factor) for half in range(-140, 140)])
    acc = np.concatenate(
        [edges + delta for delta in (-2, -1, 0, 1, 2)] + [[-EXACT_ACCUMULATOR, EXACT_ACCUMULATOR]]
    )
    requantizer = Requantizer(
        multiplier, shift, output_zero_point=7, activation_min=-128, activation_max=127,
        low=-EXACT_ACCUMULATOR, high=EXACT_ACCUMULATOR, rounding=rounding,
    )  # fmt: skip
    expected = literally(requantizer, acc[:, None], np.zeros(1))
    np.testing.assert_array_equal(requantize(requantizer, acc[:, None].astype(np.float32)), expected)


def test_all_paths_in_one_layer() -> None:
    """Exact, constant, clamped and int64 channels side by side, in more rows than a block has."""
    rng = np.random.default_rng(5)
    multiplier = np.array([1 << 30, 0, 3 << 29, 1 << 30, 1 << 30, 1 << 30, 1 << 30, 1 << 30])
    shift = np.array([-8, 0, -9, -31, -22, -8, -8, -8])
    offset = np.array([500, 1 << 29, 1 << 24, 3, 1 << 27, 0, 1, 2])
    spread = np.array([1 << 15, 1 << 15, 1 << 25, 1 << 10, 1 << 29, 1 << 12, 1 << 12, 1 << 12])
    acc = np.rint(rng.uniform(-1, 1, (9001, 8)) * spread).astype(np.int64)
    requantizer = Requantizer(
        multiplier, shift, output_zero_point=-3, activation_min=-128, activation_max=120,
        low=offset - spread, high=offset + spread, offset=offset,
    )  # fmt: skip
    rows = rng.integers(0, len(acc), 200)
    expected = literally(requantizer, acc[rows], offset)
    assert {len(set(column)) > 1 for column in expected.T[[0, 2, 4, 5]]} == {True}
    np.testing.assert_array_equal(requantize(requantizer, acc.astype(np.float64))[rows], expected)


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 8, 1000, 4097])
@pytest.mark.parametrize("channels", [1, 3, 5000])
def test_any_number_of_rows(rows: int, channels: int) -> None:
    rng = np.random.default_rng(rows)
    rows = rows if channels < 100 else rows % 11
    multiplier, shift = quantize_multipliers(rng.uniform(0.0005, 0.01, channels))
    acc = rng.integers(-20000, 20000, (rows, channels))
    requantizer = Requantizer(
        multiplier,
        shift,
        output_zero_point=0,
        activation_min=-100,
        activation_max=100,
        low=-20000,
        high=20000,
    )
    np.testing.assert_array_equal(requantize(requantizer, acc.astype(np.float32)), requantizer.exact(acc))


@pytest.mark.parametrize(("multiplier", "shift"), [(-1, 0), (1 << 30, 31), (1 << 30, -32)])
def test_impossible_multipliers_and_shifts(multiplier: int, shift: int) -> None:
    with pytest.raises(FormatError, match=r"multiplier|shift"):
        Requantizer(multiplier, shift, output_zero_point=0, activation_min=0, activation_max=1, low=0, high=1)
