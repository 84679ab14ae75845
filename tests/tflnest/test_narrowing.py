"""Activations at fewer bits are what DQT's equation 4 says, and what training computes with."""

from __future__ import annotations

import numpy as np
import pytest

from tflnest.narrowing import narrowed

EVERY = np.arange(-128, 128).astype(np.int8)


@pytest.mark.parametrize("bits", range(1, 9))
def test_every_value_is_a_code_of_the_width_shifted_back(bits: int) -> None:
    result = narrowed(EVERY, bits)
    assert result.dtype == np.int8 and result.shape == EVERY.shape
    codes = result.astype(int) + 128
    assert not (codes % (1 << (8 - bits))).any()
    assert len(np.unique(result)) == 1 << bits
    exact = np.minimum(np.floor((EVERY.astype(float) + 128) / 2 ** (8 - bits) + 0.5), 2**bits - 1)
    assert np.array_equal(codes >> (8 - bits), exact)
    assert (np.diff(result.astype(int)) >= 0).all()


def test_eight_bits_change_nothing_and_shapes_stay() -> None:
    values = np.random.default_rng(0).integers(-128, 128, (2, 3, 4, 5)).astype(np.int8)
    assert np.array_equal(narrowed(values, 8), values)
    assert narrowed(values, 3).shape == values.shape
    view = values[:, ::2, :, 1:]
    assert np.array_equal(narrowed(view, 5), narrowed(view.copy(), 5))


@pytest.mark.parametrize("bits", range(1, 9))
def test_training_narrows_by_the_same_rule(bits: int) -> None:
    pytest.importorskip("keras")
    from converters.training.quantizers import activation_at_bits

    scale, zero_point = np.float32(0.25), 3
    reals = (EVERY.astype(np.float32) - zero_point) * scale
    given = np.asarray(activation_at_bits(reals, scale, zero_point, bits))
    assert np.array_equal(given / scale + zero_point, narrowed(EVERY, bits))
