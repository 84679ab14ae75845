"""Filter scales come back exactly from multipliers and shifts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tflnest.errors import FormatError
from tflnest.fixedpoint import quantize_multipliers
from tflnest.requantization import effective_scales, recover_filter_scales


def scales(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(np.float32(low), np.float32(high), width=32)


def round_trip(input_scale, filter_scales, output_scale):
    filter_scales = np.asarray(filter_scales, np.float32)
    effective = effective_scales(input_scale, filter_scales, output_scale)
    multiplier, shift = quantize_multipliers(effective)
    return recover_filter_scales(input_scale, output_scale, multiplier, shift.astype(np.int8))


@settings(max_examples=300)
@given(
    input_scale=scales(1e-4, 10),
    output_scale=scales(1e-4, 10),
    filter_scales=st.lists(scales(1e-4, 1), min_size=1, max_size=8),
)
def test_per_channel_scales_are_recovered_exactly(input_scale, output_scale, filter_scales):
    recovered = round_trip(input_scale, filter_scales, output_scale)
    np.testing.assert_array_equal(recovered, np.array(filter_scales, np.float32))


def test_many_random_scales_are_recovered_exactly():
    rng = np.random.default_rng(0)
    for _ in range(50):
        input_scale, output_scale = np.exp(rng.uniform(-9, 3, 2)).astype(np.float32)
        smallest = np.log(2.0**-31 * output_scale / input_scale)  # below, TFLM's multiplier is 0
        filter_scales = np.exp(rng.uniform(max(-14, smallest), 1, 2000)).astype(np.float32)
        recovered = round_trip(float(input_scale), filter_scales, float(output_scale))
        np.testing.assert_array_equal(recovered, filter_scales)


def test_a_scale_that_tflm_flushes_to_zero_gives_one_that_it_flushes_too():
    recovered = round_trip(0.5, [2.0**-40, 0.25], 0.5)
    assert 0 < recovered[0] < 2.0**-31
    assert recovered[1] == 0.25


@pytest.mark.parametrize("input_scale", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("position", [0, 1])
def test_activation_scales_must_be_positive_numbers(input_scale, position):
    pair = [0.5, 0.5]
    pair[position] = input_scale
    with pytest.raises(FormatError, match="a nested operator has input scale"):
        recover_filter_scales(*pair, np.array([1 << 30], np.int32), np.array([0], np.int8))


@pytest.mark.parametrize(
    ("multiplier", "shift"),
    [(0, 1), (-(1 << 30), 0), (1, 0), (1 << 30, -128), ((1 << 30) + 1, 0), (-(1 << 31), 31)],
)
def test_multipliers_that_no_scale_gives_are_refused(multiplier, shift):
    with pytest.raises(
        FormatError, match=f"channel 1: no float32 scale gives the multiplier {multiplier} with"
    ):
        recover_filter_scales(
            0.5,
            0.5,
            np.array([1 << 30, multiplier], np.int32),
            np.array([0, shift], np.int8),
        )
