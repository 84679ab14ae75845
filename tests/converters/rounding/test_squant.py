"""SQuant's flips and NestQuant: vectors, a plain version, bounds, published figures."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from converters.rounding import Problem, round_codes
from converters.rounding.flipping import by_kernel
from converters.rounding.squant import flip
from tests.converters.rounding.synthetic import figures, gauss, plain_flip
from tflnest.nesting import Nesting, Scheme

CHAINS = [chain for count in range(1, 5) for chain in combinations(range(1, 9), count)]

#: One 3x3 kernel whose errors sum to -0.79 when it is rounded to nearest.
KERNEL = [0.3, 1.4, -2.45, 0.49, -0.4, 2.2, 3.1, -1.3, 0.45]


def squant(weights: np.ndarray, chain: tuple[int, ...], axis: int = 0) -> list[np.ndarray]:
    return round_codes("squant", Problem(weights, Nesting(chain, Scheme.COMPENSATED), axis))


def random_weights(shape: tuple[int, ...] = (24, 3, 3, 32), seed: int = 0) -> np.ndarray:
    """Bell-shaped int8 weights that use the whole range."""
    values = np.random.default_rng(seed).standard_normal(shape)
    return np.clip(np.rint(values * 127 / np.abs(values).max()), -128, 127).astype(np.int8)


def test_the_published_kernel():
    x = np.array(KERNEL)[None, None]
    codes = flip(x, -8, 7)
    assert codes.tolist() == [[[0, 1, -2, 1, 0, 2, 3, -1, 0]]]
    assert (np.rint(x) - x).sum() == pytest.approx(-0.79)
    assert (codes - x).sum() == pytest.approx(0.21)


def test_the_mirrored_kernel_flips_the_other_way():
    codes = flip(-np.array(KERNEL)[None, None], -8, 7)
    assert codes.tolist() == [[[0, -1, 2, -1, 0, -2, -3, 1, 0]]]


def test_a_kernel_that_needs_no_flip_offers_one_to_its_channel():
    # Alone both kernels keep their sums of 3/8; together they are 3/4 too high, and the first one gives way.
    x = np.array([[[0.75, 1.875], [2.75, 0.875]]])
    assert flip(x, -8, 7).tolist() == [[[0, 2], [3, 1]]]


def test_a_kernel_that_flipped_too_much_offers_to_flip_back():
    # Each kernel is 3/4 too high, flips its first element, and is 1/4 too low; three of them are 3/4 too low.
    x = np.array([[[0.625, 1.625], [2.625, 3.625], [4.625, 5.625]]])
    assert flip(x, -8, 7).tolist() == [[[1, 2], [2, 4], [4, 6]]]


def test_equal_errors_flip_in_the_order_of_the_filter():
    assert flip(np.full((1, 1, 4), 0.5), -8, 7).tolist() == [[[1, 1, 0, 0]]]
    assert flip(np.full((1, 4, 1), 0.25), -8, 7).tolist() == [[[1], [0], [0], [0]]]


@given(
    quarters=arrays.arrays(np.int64, (2, 5, 4), elements=st.integers(-40, 40)),
    scale=st.sampled_from([4, 8, 16]),
    limit=st.sampled_from([(-8, 7), (-2, 1)]),
)
def test_flips_equal_the_plain_version(quarters, scale, limit):
    """Multiples of 1/4 to 1/16, as nesting has them: sums are exact, ties are frequent, limits are reached."""
    x = np.clip(quarters / scale, *limit)
    np.testing.assert_array_equal(flip(x, *limit), plain_flip(x, *limit))


@pytest.mark.parametrize("shape", [(3, 7, 9), (4, 20, 1), (6, 1, 9), (2, 3, 25)])
def test_flips_of_real_numbers_equal_the_plain_version(shape):
    x = np.random.default_rng(1).uniform(-8, 7, shape)
    np.testing.assert_array_equal(flip(x, -8, 7), plain_flip(x, -8, 7))


def test_errors_of_elements_kernels_and_channels_stay_within_their_bounds():
    x = gauss()
    error = flip(x, -128, 127) - x
    assert np.abs(error).max() < 1
    kernels, channels = np.abs(error.sum(axis=2)), np.abs(error.sum(axis=(1, 2)))
    assert kernels.max() <= 1 + 1e-9
    assert (kernels > 0.5 + 1e-9).mean() < 0.05  # those that their channel asked
    assert channels.max() <= 0.5 + 1e-9


def test_kernels_alone_reach_half_a_step():
    x = gauss().reshape(-1, 1, 9)
    assert np.abs((flip(x, -128, 127) - x).sum(axis=2)).max() <= 0.5 + 1e-9


@pytest.mark.parametrize("limit", [1, 2, 7])
def test_clipping_before_rounding_leaves_no_kernel_beyond_its_bound(limit):
    """A clipped weight has no error, so there are always enough others to flip."""
    x = np.clip(np.random.default_rng(limit).normal(0.6, limit, (16, 64, 9)), -limit, limit)
    error = flip(x, -limit, limit) - x
    assert np.abs(error).max() < 1
    assert np.count_nonzero(np.abs(error.sum(axis=2)) > 1 + 1e-9) == 0
    assert np.abs(error.sum(axis=(1, 2))).max() <= 0.5 + 1e-9


def test_a_kernel_exceeds_its_bound_only_where_limits_leave_nothing_to_flip():
    """Limits of single weights, as a chain has them: some weights lie beyond theirs."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-4, 4, (16, 64, 3))
    highest = np.where(rng.random(x.shape) < 0.2, np.floor(x) - 1, 4)
    codes = flip(x, -8, highest)
    error = codes - x
    total = error.sum(axis=2)
    exceeding = np.abs(total) > 1 + 1e-9
    assert 20 < np.count_nonzero(exceeding) < 400
    assert (total[exceeding] < 0).all()
    assert not (exceeding[..., None] & (error < 0) & (x < highest)).any()
    assert (exceeding <= (x > highest).any(axis=2)).all()


def test_an_element_that_lies_beyond_its_limit_stays_there():
    highest = np.array([[[3, 7, 7, 7]]])
    codes = flip(np.array([[[3.8, 0.4, 0.4, 0.4]]]), -8, highest)
    # 0.8 and 3 x 0.4 are missing: two others go up.
    assert codes.tolist() == [[[3, 1, 1, 0]]]


@pytest.mark.parametrize(
    ("level", "nearest", "flips"),
    [(6, (0.316, 0.917, 6.7), (0.319, 0.351, 1.05)), (4, (0.294, 0.88, 6.4), (0.305, 0.347, 1.93))],
)
def test_figures_of_higher_bit_weights(level, nearest, flips):
    """Known root mean squares on Gaussian weights; channels are 64 draws, so their figure is loose."""
    x = gauss()
    q = flip(x, -128, 127).astype(float)
    assert figures(q - x) == (
        pytest.approx(0.301, abs=0.005),
        pytest.approx(0.309, abs=0.005),
        pytest.approx(0.30, abs=0.02),
    )
    step, limit = 1 << (8 - level), 1 << (level - 1)
    y = np.clip(q / step, -limit, limit - 1)
    for codes, (element, kernel, channel) in ((np.rint(y), nearest), (flip(y, -limit, limit - 1), flips)):
        assert figures((codes * float(step) - x) / step) == (
            pytest.approx(element, abs=0.005),
            pytest.approx(kernel, abs=0.02),
            pytest.approx(channel, rel=0.1),
        )


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: "-".join(map(str, chain)))
def test_codes_nest_and_recompose_exactly(chain):
    """All byte values in every position of a kernel, and bell-shaped weights."""
    nesting = Nesting(chain, Scheme.COMPENSATED)
    every = np.random.default_rng(0).permutation(np.tile(np.arange(-128, 128), 36)).astype(np.int8)
    for weights in (every.reshape(32, 3, 3, 32), random_weights((8, 3, 3, 16))):
        codes = squant(weights, chain)
        planes = nesting.split(codes)
        for level, level_codes in zip(chain, codes, strict=True):
            step, limit = 1 << (8 - level), 1 << (level - 1)
            scaled = np.clip(weights / step, -limit, limit - 1)
            assert np.abs(level_codes - scaled).max() < 1
            joined = nesting.join(planes, level)
            np.testing.assert_array_equal(joined, level_codes.astype(int) * step)
            if level == 8:
                np.testing.assert_array_equal(joined, weights)


@pytest.mark.parametrize("level", range(1, 8))
def test_lower_bit_weights_take_one_bit_more_than_the_widths_differ_by(level):
    weights = random_weights()
    high = squant(weights, (level, 8))[0].astype(int)
    low = weights - (high << (8 - level))
    reach = 1 << (8 - level)
    assert np.abs(low).max() <= reach - 1
    assert low.min() < 0 < low.max()
    np.testing.assert_array_equal((high << (8 - level)) + low, weights)


@pytest.mark.parametrize(
    ("shape", "axis"), [((16, 3, 3, 24), 0), ((1, 3, 3, 40), 3), ((20, 64), 0), ((12, 1, 1, 48), 0)]
)
@pytest.mark.parametrize("level", [6, 4, 3])
def test_nested_part_bit_and_dedicated_codes_are_the_same(shape, axis, level):
    weights = random_weights(shape)
    (dedicated,) = squant(weights, (level,), axis)
    np.testing.assert_array_equal(squant(weights, (level, 8), axis)[0], dedicated)
    kernels = by_kernel(weights, axis)
    limit = 1 << (level - 1)
    x = np.clip(kernels / (1 << (8 - level)), -limit, limit - 1)
    np.testing.assert_array_equal(by_kernel(dedicated, axis), plain_flip(x, -limit, limit - 1))
    error = by_kernel(dedicated, axis) - x
    assert np.abs(error.sum(axis=(1, 2))).max() <= 0.5


@pytest.mark.parametrize("chain", [(4, 6, 8), (3, 5, 8), (2, 4, 6, 8), (4, 6)])
def test_levels_of_a_chain_are_those_of_pairs_but_for_few_weights(chain):
    weights = random_weights((32, 3, 3, 32))
    codes = squant(weights, chain)
    np.testing.assert_array_equal(codes[0], squant(weights, (chain[0], 8))[0])
    for level, code in zip(chain[1:], codes[1:], strict=True):
        pair = squant(weights, (level, 8) if level < 8 else (8,))[0]
        assert (code != pair).mean() < 0.01


def test_other_memory_orders_give_the_same_codes():
    weights = random_weights((8, 3, 3, 16))
    np.testing.assert_array_equal(squant(np.asfortranarray(weights), (4, 8))[0], squant(weights, (4, 8))[0])
