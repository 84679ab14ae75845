"""Groups of like sigma."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from converters.search.clustering import cluster


def test_clear_groups_are_found_in_rising_order() -> None:
    values = [0.9, 0.01, 0.31, 0.88, 0.02, 0.3]
    assert cluster(values, 3, 0.0).tolist() == [2, 0, 1, 2, 0, 1]


def test_a_large_penalty_evens_the_groups() -> None:
    values = [0.01, 0.011, 0.012, 0.013, 0.014, 0.015, 0.016, 1.0]
    loose, even = cluster(values, 4, 0.0), cluster(values, 4, 1000.0)
    assert np.bincount(even, minlength=4).tolist() == [2, 2, 2, 2]
    assert np.bincount(loose, minlength=4).max() > 2


def test_equal_values_and_a_single_one_are_no_problem() -> None:
    assert set(cluster([0.5] * 5, 4, 0.1).tolist()) <= {0, 1, 2, 3}
    assert cluster([0.0], 4, 0.1).shape == (1,)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=30), st.integers(1, 6), st.floats(0, 2))
def test_without_a_penalty_groups_follow_the_order_of_the_values(
    values: list[int], groups: int, penalty: float
) -> None:
    result = cluster(values, groups, penalty)
    assert result.min() >= 0 and result.max() < groups
    order = cluster(values, groups, 0.0)
    pairs = sorted(zip(values, order.tolist(), strict=True))
    assert all(a[1] <= b[1] for a, b in pairwise(pairs) if a[0] < b[0])


@pytest.mark.parametrize("penalty", [0.0, 0.3])
def test_the_scale_of_sigma_does_not_matter(penalty: float) -> None:
    values = np.array([0.1, 0.2, 0.9, 0.5, 0.4, 0.15])
    assert cluster(values, 4, penalty).tolist() == cluster(values * 1000, 4, penalty).tolist()
