"""Nested integers: every int8 weight, every chain, both schemes."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.rounding import Problem, round_codes
from tflnest.errors import FormatError, UsageError
from tflnest.nesting import Nesting, Plane, Scheme, check_levels

ALL_WEIGHTS = np.arange(-128, 128, dtype=np.int16).astype(np.int8)
CHAINS = [chain for count in range(1, 9) for chain in combinations(range(1, 9), count)]
FULL_CHAINS = [chain for chain in CHAINS if chain[-1] == 8]

#: Weights with their split into a rounded high part and a remainder, at 4 and at 2 lower bits.
SPLIT_WEIGHTS = [-128, -121, -65, -8, -1, 0, 1, 7, 8, 63, 117, 120, 127]
NEAREST_4 = ([-8, -8, -4, 0, 0, 0, 0, 0, 0, 4, 7, 7, 7], [0, 7, -1, -8, -1, 0, 1, 7, 8, -1, 5, 8, 15])
FLOOR_4 = ([-8, -8, -5, -1, -1, 0, 0, 0, 0, 3, 7, 7, 7], [0, 7, 15, 8, 15, 0, 1, 7, 8, 15, 5, 8, 15])
NEAREST_2 = ([-32, -30, -16, -2, 0, 0, 0, 2, 2, 16, 29, 30, 31], [0, -1, -1, 0, -1, 0, 1, -1, 0, -1, 1, 0, 3])
FLOOR_2 = ([-32, -31, -17, -2, -1, 0, 0, 1, 2, 15, 29, 30, 31], [0, 3, 3, 0, 3, 0, 1, 3, 0, 3, 1, 0, 3])


def bucket_formula(weight: int, level: int) -> int:
    """The middle of the bucket that a weight lies in, as the design states it for n = 8."""
    low = 8 - level
    unsigned = weight + 128
    middle = 0 if low == 0 else 1 << (low - 1)
    return ((unsigned >> low) << low) + middle - 128


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: "-".join(map(str, chain)))
def test_bucket_decodes_every_weight_to_the_middle_of_its_bucket(chain):
    nesting = Nesting(chain)
    planes = nesting.split(nesting.truncate(ALL_WEIGHTS))
    for level in chain:
        expected = [bucket_formula(int(weight), level) for weight in ALL_WEIGHTS]
        decoded = nesting.join(planes, level)
        assert decoded.dtype == np.int8
        assert decoded.tolist() == expected


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: "-".join(map(str, chain)))
def test_compensated_decodes_every_weight_to_its_rounded_code(chain):
    nesting = Nesting(chain, Scheme.COMPENSATED)
    codes = round_codes("nearest", Problem(ALL_WEIGHTS, nesting))
    planes = nesting.split(codes)
    for level, level_codes in zip(chain, codes, strict=True):
        step = 1 << (8 - level)
        limit = 1 << (level - 1)
        for weight, code in zip(ALL_WEIGHTS.tolist(), level_codes.tolist(), strict=True):
            clipped = min(max(round(weight / step), -limit), limit - 1)  # ties to even, as Python rounds
            assert code == clipped
        assert nesting.join(planes, level).tolist() == (level_codes.astype(int) * step).tolist()


@pytest.mark.parametrize("scheme", Scheme)
@pytest.mark.parametrize("chain", FULL_CHAINS, ids=lambda chain: "-".join(map(str, chain)))
def test_the_full_bit_level_is_the_weight_itself(chain, scheme):
    nesting = Nesting(chain, scheme)
    method = "truncate" if scheme is Scheme.BUCKET else "nearest"
    planes = nesting.split(round_codes(method, Problem(ALL_WEIGHTS, nesting)))
    np.testing.assert_array_equal(nesting.join(planes, 8), ALL_WEIGHTS)


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: "-".join(map(str, chain)))
def test_bucket_stores_exactly_its_level_and_compensated_one_bit_more_per_step(chain):
    bucket, compensated = Nesting(chain), Nesting(chain, Scheme.COMPENSATED)
    for steps, level in enumerate(chain):
        assert bucket.stored_bits(level) == level
        assert compensated.stored_bits(level) == level + steps


@pytest.mark.parametrize(
    ("chain", "nearest", "floor"),
    [((4, 8), NEAREST_4, FLOOR_4), ((6, 8), NEAREST_2, FLOOR_2)],
    ids=["4 lower bits", "2 lower bits"],
)
def test_published_split_vectors(chain, nearest, floor):
    weights = np.array(SPLIT_WEIGHTS, np.int8)
    compensated = Nesting(chain, Scheme.COMPENSATED)
    high, low = compensated.split(round_codes("nearest", Problem(weights, compensated)))
    assert (high.astype(int) - compensated.planes[0].zero).tolist() == nearest[0]
    assert (low.astype(int) - compensated.planes[1].zero).tolist() == nearest[1]
    bucket = Nesting(chain)
    high, low = bucket.split(bucket.truncate(weights))
    assert (high.astype(int) - bucket.planes[0].zero).tolist() == floor[0]
    assert low.tolist() == floor[1]


def test_planes_of_a_chain():
    assert Nesting((4, 6, 8)).planes == (Plane(4, 4, 8), Plane(2, 2, 0), Plane(2, 0, 0))
    assert Nesting((4, 8), "compensated").planes == (Plane(4, 4, 8), Plane(5, 0, 16))
    assert Nesting((3, 5)).planes == (Plane(3, 5, 4), Plane(2, 3, 0))


@given(
    chain=st.sampled_from(CHAINS),
    scheme=st.sampled_from(Scheme),
    data=st.data(),
)
def test_any_codes_that_nest_survive_split_and_join(chain, scheme, data):
    """Codes are built from random planes, so that every nested choice of a rounding method is covered."""
    nesting = Nesting(chain, scheme)
    codes, previous = [], None
    for plane, level in zip(nesting.planes, chain, strict=True):
        raw = data.draw(st.integers(0, (1 << plane.bits) - 1)) - plane.zero
        step = plane.bits - (1 if scheme is Scheme.COMPENSATED and previous is not None else 0)
        value = raw if previous is None else (previous << step) + raw
        value = min(max(value, -(1 << (level - 1))), (1 << (level - 1)) - 1)
        if previous is not None and not 0 <= value - (previous << step) + plane.zero < 1 << plane.bits:
            value = previous << step
        codes.append(np.array([value], np.int8))
        previous = value
    planes = nesting.split(codes)
    for level, code in zip(chain, codes, strict=True):
        expected = (int(code[0]) << (8 - level)) + nesting.mid(level)
        assert nesting.join(planes, level).tolist() == [expected]


def test_codes_that_do_not_nest_are_refused():
    nesting = Nesting((4, 8))
    with pytest.raises(UsageError, match=r"level 8 do not nest: the 4-bit plane would hold 16\.\.16"):
        nesting.split([np.array([0], np.int8), np.array([16], np.int8)])
    with pytest.raises(UsageError, match=r"codes of level 4 lie in 8\.\.8, allowed is -8\.\.7"):
        nesting.split([np.array([8], np.int8), np.array([0], np.int8)])


def test_planes_that_join_outside_int8_are_refused():
    nesting = Nesting((4, 8), Scheme.COMPENSATED)
    with pytest.raises(FormatError, match=r"planes join to weights in -144\.\.-144, outside int8"):
        nesting.join([np.array([0], np.uint8), np.array([0], np.uint8)], 8)
    assert nesting.join([np.array([15], np.uint8), np.array([31], np.uint8)], 8).tolist() == [127]


def test_an_absent_level_is_named():
    with pytest.raises(UsageError, match="level 5 is not among the levels 4,8"):
        Nesting((4, 8)).index(5)


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ((), "a chain of levels is empty"),
        ((4, 4), "levels 4,4 do not increase"),
        ((8, 4), "levels 8,4 do not increase"),
        ((0, 8), r"levels 0,8 are not all within 1\.\.8"),
        ((4, 9), r"levels 4,9 are not all within 1\.\.8"),
        ((4, "8"), "not all whole numbers"),
        ((True, 8), "not all whole numbers"),
        ((4.0, 8), "not all whole numbers"),
    ],
)
def test_chains_that_make_no_sense(levels, message):
    with pytest.raises(UsageError, match=message):
        check_levels(levels)


def test_empty_filters_split_and_join():
    nesting = Nesting((4, 6, 8))
    empty = np.zeros((0, 3), np.int8)
    planes = nesting.split(nesting.truncate(empty))
    assert [plane.shape for plane in planes] == [(0, 3)] * 3
    assert nesting.join(planes, 6).shape == (0, 3)
