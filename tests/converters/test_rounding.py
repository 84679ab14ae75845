"""The registry of rounding methods, and what the two basic ones give."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from converters import rounding
from converters.rounding import Problem, check, default, names, round_codes
from tflnest.errors import UsageError
from tflnest.nesting import Nesting, Scheme

filters = arrays.arrays(np.int8, arrays.array_shapes(min_dims=2, max_dims=4, max_side=5))
chains = st.sampled_from(
    [(8,), (4, 8), (6, 8), (4, 6, 8), (3, 5, 8), (4, 6), (2, 4, 6, 8), (1, 2, 3, 4, 5, 6, 7, 8)]
)


#: Methods that round by the weights alone.
DATA_FREE = ("truncate", "nearest", "hierarchical", "squant")


def methods(scheme: Scheme) -> list[str]:
    """The data-free methods that fit a scheme."""
    fitting = []
    for name in DATA_FREE:
        try:
            check(name, scheme)
        except UsageError:
            continue
        fitting.append(name)
    return fitting


def test_the_defaults():
    assert default(Scheme.BUCKET) == "truncate"
    assert default(Scheme.COMPENSATED) == "nearest"
    assert set(DATA_FREE) <= set(names())


def test_methods_that_do_not_exist_or_do_not_fit():
    with pytest.raises(UsageError, match="there is no rounding method 'magic'") as caught:
        check("magic", Scheme.BUCKET)
    assert "methods are truncate, nearest" in caught.value.hint
    with pytest.raises(UsageError, match="rounding 'truncate' does not fit the scheme compensated") as caught:
        round_codes("truncate", Problem(np.zeros((1, 1), np.int8), Nesting((4, 8), "compensated")))
    assert caught.value.hint.startswith("use nearest")


@pytest.mark.parametrize("scheme", Scheme)
@given(weights=filters, chain=chains)
def test_every_data_free_method_gives_codes_that_nest(scheme, weights, chain):
    nesting = Nesting(chain, scheme)
    for name in methods(scheme):
        codes = round_codes(name, Problem(weights, nesting, seed=1))
        assert [code.shape for code in codes] == [weights.shape] * len(chain)
        planes = nesting.split(codes)
        for level, code in zip(chain, codes, strict=True):
            limit = 1 << (level - 1)
            assert code.min() >= -limit
            assert code.max() < limit
            joined = nesting.join(planes, level).astype(int)
            np.testing.assert_array_equal(joined, (code.astype(int) << (8 - level)) + nesting.mid(level))


@given(weights=filters, chain=chains)
def test_truncate_keeps_every_weight_in_its_bucket(weights, chain):
    nesting = Nesting(chain)
    codes = round_codes("truncate", Problem(weights, nesting))
    for level, code in zip(chain, codes, strict=True):
        np.testing.assert_array_equal(code, weights.astype(int) >> (8 - level))


@given(weights=filters, chain=chains)
def test_nearest_is_the_nearest_code_there_is(weights, chain):
    nesting = Nesting(chain, Scheme.COMPENSATED)
    codes = round_codes("nearest", Problem(weights, nesting))
    for level, code in zip(chain, codes, strict=True):
        step = 1 << (8 - level)
        every = np.arange(-(1 << (level - 1)), 1 << (level - 1)) * step
        best = np.abs(weights.astype(int)[..., None] - every).min(axis=-1)
        np.testing.assert_array_equal(np.abs(weights.astype(int) - code.astype(int) * step), best)


def test_hierarchical_codes_follow_a_target():
    """At 8 bits flips move a weight by less than a step; the sum over a filter follows the target's."""
    generator = np.random.default_rng(2)
    target = np.clip(generator.normal(0, 30, (8, 3, 3, 16)), -120, 120)
    weights = np.rint(target).astype(np.int8)
    nesting = Nesting((4, 8))
    plain, followed = (
        round_codes("hierarchical", Problem(weights, nesting, target=aim))[-1].astype(float)
        for aim in (None, target)
    )
    sums = [np.abs((codes - target).sum(axis=(1, 2, 3))).mean() for codes in (plain, followed)]
    assert sums[1] < sums[0]
    assert np.mean((followed - target) ** 2) < 1.1 * np.mean((plain - target) ** 2)


def test_a_new_method_plugs_in(monkeypatch):
    entries = dict(rounding.registry._METHODS)
    monkeypatch.setattr(rounding.registry, "_METHODS", entries)

    @rounding.method("all-zero", Scheme.BUCKET)
    def all_zero(problem: Problem) -> list[np.ndarray]:
        return [np.zeros_like(problem.weights) for _ in problem.nesting.levels]

    assert "all-zero" in names()
    codes = round_codes("all-zero", Problem(np.ones((2, 2), np.int8), Nesting((4, 8))))
    assert not np.any(codes)
    assert default(Scheme.BUCKET) == "truncate"
