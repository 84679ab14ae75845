"""Flips inside nested buckets: nesting, bounds, figures, and what they do to the full-bit level."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from converters.rounding import Problem, round_codes
from converters.rounding.flipping import by_kernel
from converters.rounding.hierarchical import REACH, nested_codes
from tests.converters.rounding.synthetic import figures, gauss
from tflnest.nesting import Nesting

CHAINS = [chain for count in range(1, 5) for chain in combinations(range(1, 9), count)]


def random_weights(shape: tuple[int, ...] = (24, 3, 3, 32), seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).standard_normal(shape)
    return np.clip(np.rint(values * 127 / np.abs(values).max()), -128, 127).astype(np.int8)


def errors(x: np.ndarray, nesting: Nesting, codes: list[np.ndarray]) -> dict[int, np.ndarray]:
    """What each level decodes to minus x, in steps of the level."""
    planes = nesting.split(codes)
    return {level: (nesting.join(planes, level) - x) / (1 << (8 - level)) for level in nesting.levels}


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: "-".join(map(str, chain)))
def test_every_level_is_the_top_of_the_next(chain):
    nesting = Nesting(chain)
    every = np.random.default_rng(0).permutation(np.tile(np.arange(-128, 128), 36)).astype(np.int8)
    for weights in (every.reshape(32, 3, 3, 32), random_weights((8, 3, 3, 16))):
        codes = round_codes("hierarchical", Problem(weights, nesting))
        for low, high, below, above in zip(codes, codes[1:], chain, chain[1:], strict=False):
            np.testing.assert_array_equal(high >> (above - below), low)
        # The planes of the file are bit fields of the full-bit codes: exactly the levels' bits.
        planes = nesting.split(codes)
        assert [
            int(plane.max()).bit_length() <= step.bits
            for plane, step in zip(planes, nesting.planes, strict=True)
        ]
        assert nesting.stored_bits(chain[-1]) == chain[-1]


@given(
    weights=arrays.arrays(np.int8, st.sampled_from([(3, 3, 3, 4), (2, 1, 1, 9), (4, 7)])),
    level=st.integers(1, 7),
)
def test_no_weight_moves_farther_than_the_reach(weights, level):
    (codes,) = round_codes("hierarchical", Problem(weights, Nesting((level,))))
    lower_edge = codes.astype(int) << (8 - level)
    upper_edge = lower_edge + (1 << (8 - level))
    assert np.maximum(lower_edge - weights, weights - upper_edge).max() <= REACH


@pytest.mark.parametrize(
    ("shape", "axis"), [((16, 3, 3, 64), 0), ((1, 3, 3, 40), 3), ((20, 256), 0), ((12, 1, 1, 128), 0)]
)
@pytest.mark.parametrize("chain", [(6, 8), (5, 8), (4, 8)])
def test_sums_over_kernels_and_channels_of_every_level_are_small(shape, axis, chain):
    weights = random_weights(shape)
    nesting = Nesting(chain)
    codes = round_codes("hierarchical", Problem(weights, nesting, axis))
    for error in errors(weights, nesting, codes).values():
        kernels = by_kernel(error, axis)
        assert np.abs(kernels.sum(axis=(1, 2))).max() <= 0.5
        assert np.abs(kernels.sum(axis=2)).max() < 2
    truncated = errors(weights, nesting, nesting.truncate(weights))[chain[0]]
    flipped = errors(weights, nesting, codes)[chain[0]]
    if shape[0] > 1:
        assert (
            np.abs(by_kernel(flipped, axis).sum(axis=(1, 2))).mean()
            < 0.2 * np.abs(by_kernel(truncated, axis).sum(axis=(1, 2))).mean()
        )


@pytest.mark.parametrize(
    ("chain", "reach", "expected"),
    [
        ((6, 8), 4.0, {6: (0.301, 0.315, 0.29), 8: (0.47, 0.327, 0.31)}),
        ((4, 8), 4.0, {4: (0.302, 0.316, 0.30), 8: (0.56, 0.340, 0.31)}),
        ((4, 6, 8), 2.0, {4: (0.299, 0.379, 0.30), 6: (0.347, 0.326, 0.29), 8: (0.63, 0.328, 0.31)}),
        ((2, 4, 6, 8), 2.0, {2: (0.290, 0.733, 0.30), 4: (0.302, 0.46, 0.30), 6: (0.356, 0.322, 0.29)}),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, tuple) else None,
)
def test_figures_on_gaussian_weights(chain, reach, expected):
    """Known root mean squares of part-bit levels, within 0.02, of channels (64 draws) within 0.04.

    The full-bit ones are our own: a part-bit level decodes half an int8 step above the centre of its bucket, and
    codes that make up for that leave the full-bit level farther from the weights.
    """
    x = gauss()
    nesting = Nesting(chain)
    for level, error in errors(x, nesting, nested_codes(x, nesting, reach)).items():
        if level not in expected:
            continue
        element, kernel, channel = figures(error)
        assert element == pytest.approx(expected[level][0], abs=0.02)
        assert kernel == pytest.approx(expected[level][1], abs=0.03)
        assert channel == pytest.approx(expected[level][2], abs=0.04)


def test_a_part_bit_level_is_better_than_the_truncated_one_and_the_full_bit_one_pays():
    weights = random_weights()
    nesting = Nesting((4, 6, 8))
    flipped = errors(weights, nesting, round_codes("hierarchical", Problem(weights, nesting)))
    truncated = errors(weights, nesting, nesting.truncate(weights))
    for level in (4, 6):
        kernel, reference = (figures(by_kernel(item[level], 0))[1] for item in (flipped, truncated))
        assert kernel < 0.5 * reference
        # Flips only add to the error of single weights.
        assert figures(by_kernel(flipped[level], 0))[0] < 1.25 * figures(by_kernel(truncated[level], 0))[0]
    assert figures(by_kernel(truncated[8], 0))[0] == 0
    # One bit less than int8 would have an error of 0.58 steps of int8.
    assert 0 < figures(by_kernel(flipped[8], 0))[0] < 0.75


def test_without_reach_only_weights_on_an_edge_move():
    """A weight on the edge between two buckets is as near to the one as to the other."""
    weights = random_weights()
    nesting = Nesting((4, 8))
    base = nested_codes(by_kernel(weights, 0).astype(float), nesting, 0.0)[0]
    plain = by_kernel(weights, 0) >> 4
    moved = base != plain
    assert moved.any()
    assert not (by_kernel(weights, 0)[moved] % 16).any()


def test_a_single_level_of_eight_bits_is_the_weights():
    weights = random_weights()
    (codes,) = round_codes("hierarchical", Problem(weights, Nesting((8,))))
    np.testing.assert_array_equal(codes, weights)
