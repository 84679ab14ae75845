"""Quantizers with gradients, against the integers that they stand for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tflnest.nesting import Nesting

keras = pytest.importorskip("keras", reason="the keras extra is not installed")


def numpy(values: Any) -> Any:
    return keras.ops.convert_to_numpy(values)


@pytest.mark.parametrize("levels", [(2, 4, 6, 8), (3, 5, 8), (1, 8)])
def test_a_filter_at_a_level_is_what_its_planes_join_to(levels: tuple[int, ...]) -> None:
    from converters.training.quantizers import filter_at_level

    nesting = Nesting(levels)
    codes = np.arange(-127, 128).astype(np.int8)
    scales = np.float32(0.03125)
    planes = nesting.split(nesting.truncate(codes))
    for level in levels:
        values = numpy(filter_at_level(codes.astype(np.float32) * scales, scales, nesting, level))
        np.testing.assert_array_equal(values / scales, nesting.join(planes, level))


def test_a_flat_filter_is_rounded_and_clipped() -> None:
    from converters.training.quantizers import filter_at_level

    values = numpy(filter_at_level(np.float32([0.4, -0.6, 300, -300]), np.float32(1.0), None, 8))
    np.testing.assert_array_equal(values, [0, -1, 127, -127])


def test_activations_at_fewer_bits_are_shifted_with_rounding() -> None:
    from converters.training.quantizers import activation_at_bits

    codes = np.arange(256).astype(np.float32)
    for bits in range(1, 9):
        step = 1 << (8 - bits)
        expected = np.minimum((codes.astype(int) + step // 2) // step, (1 << bits) - 1) * step
        np.testing.assert_array_equal(numpy(activation_at_bits(codes, np.float32(1.0), -128, bits)), expected)


def test_real_zero_stays_zero_at_every_width() -> None:
    from converters.training.quantizers import activation_at_bits

    for bits in range(1, 9):
        assert float(numpy(activation_at_bits(np.float32(0.0), np.float32(0.1), -128, bits))) == 0.0


def gradients(function: Any, *values: Any) -> list[Any]:
    tensorflow = pytest.importorskip("tensorflow")
    variables = [tensorflow.Variable(value, dtype=tensorflow.float32) for value in values]
    with tensorflow.GradientTape() as tape:
        result = tensorflow.reduce_sum(function(*variables))
    return [item.numpy() for item in tape.gradient(result, variables)]


def test_gradients_pass_the_rounding_and_stop_at_the_limits() -> None:
    from converters.training.quantizers import filter_at_level

    weights = np.float32([0.3, -1.7, 200.0])
    of_weights, of_scale = gradients(
        lambda w, s: filter_at_level(w, s, Nesting((4, 8)), 8), weights, np.float32(1.0)
    )
    np.testing.assert_allclose(of_weights, [1, 1, 0])
    # LSQ: rounding error inside the range, the limit itself outside.
    assert of_scale == pytest.approx((0 - 0.3) + (-2 + 1.7) + 127)


def test_a_learned_scale_is_positive_and_its_gradient_is_divided() -> None:
    from converters.training.quantizers import learned_scale

    assert float(numpy(learned_scale(0.5, np.float32(-3.0), 16))) == pytest.approx(0.5 * np.exp(-3), rel=1e-6)
    (gradient,) = gradients(lambda x: learned_scale(2.0, x, 4), np.float32(0.0))
    assert gradient == pytest.approx(2.0 / np.sqrt(4 * 127))
