"""Joint rounding: nested, better than truncation on what the layer sees, and never at a loss for an answer."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from converters.patches import by_group
from converters.rounding import LevelInputs, Problem, round_codes
from converters.rounding import registry as registry_module
from converters.rounding.joint import MAX_COLUMNS, Goal, goal, nested_codes
from tflnest.errors import UsageError
from tflnest.nesting import Nesting, Scheme

CHAINS = [(4, 6, 8), (3, 5, 8), (2, 8), (4,), (3, 5), (1, 2, 3, 4, 5, 6, 7, 8)]


def correlated(groups, rows, columns, seed=0):
    """Inputs that are alike, as those of a network are."""
    generator = np.random.default_rng(seed)
    common = generator.normal(0, 30, (groups, rows, max(columns // 4, 1)))
    mixing = generator.normal(0, 1, (groups, common.shape[2], columns))
    return (common @ mixing + generator.normal(20, 10, (groups, rows, columns))).astype(np.float32)


def problem(levels=(4, 6, 8), shape=(12, 3, 3, 4), axis=0, groups=1, rows=300, noise=4.0, seed=0):
    generator = np.random.default_rng(seed)
    weights = np.clip(np.rint(generator.normal(0, 40, shape)), -127, 127).astype(np.int8)
    columns = by_group(weights, axis, groups).shape[2]
    source = correlated(groups, rows, columns, seed)
    inputs = [
        (source + generator.normal(0, noise / 2**n, source.shape)).astype(np.float32)
        for n in range(len(levels))
    ]
    return Problem(weights, Nesting(levels), axis, seed, LevelInputs(source, inputs))


def output_errors(case, codes):
    """Per level the squared error of what varies in the outputs."""
    groups = len(case.inputs.source)
    nesting = case.nesting
    planes = nesting.split(codes)
    wanted = by_group(case.weights, case.channel_axis, groups) @ case.inputs.source.transpose(0, 2, 1)
    wanted -= wanted.mean(axis=2, keepdims=True)
    errors = []
    for level, rows in zip(nesting.levels, case.inputs.levels, strict=True):
        got = by_group(nesting.join(planes, level), case.channel_axis, groups) @ rows.transpose(0, 2, 1)
        errors.append(float(np.mean((got - got.mean(axis=2, keepdims=True) - wanted) ** 2)))
    return errors


@pytest.mark.parametrize("levels", CHAINS, ids=str)
@pytest.mark.parametrize(
    ("shape", "axis", "groups"),
    [
        ((6, 3, 3, 4), 0, 1),
        ((8, 3, 3, 2), 0, 4),
        ((1, 3, 3, 10), 3, 10),
        ((1, 3, 3, 10), 3, 5),
        ((7, 40), 0, 1),
    ],
)
def test_codes_of_every_chain_and_kind_of_filter_nest(levels, shape, axis, groups):
    case = problem(levels, shape, axis, groups)
    codes = round_codes("joint", case)
    planes = case.nesting.split(codes)  # refuses codes that do not nest
    assert [plane.shape for plane in planes] == [shape] * len(levels)
    assert all(level.dtype == np.int8 for level in codes)


@pytest.mark.parametrize("levels", [(4, 6, 8), (3, 5, 8), (2, 8)], ids=str)
@pytest.mark.parametrize(
    ("shape", "axis", "groups"), [((12, 3, 3, 4), 0, 1), ((1, 3, 3, 16), 3, 16), ((9, 50), 0, 1)]
)
def test_part_bit_outputs_are_closer_than_truncation_s(levels, shape, axis, groups):
    case = problem(levels, shape, axis, groups)
    joint = output_errors(case, round_codes("joint", case))
    truncated = output_errors(case, round_codes("truncate", case))
    assert joint[0] < 0.7 * truncated[0]
    assert all(ours < theirs for ours, theirs in zip(joint[:-1], truncated[:-1], strict=True))
    assert joint[-1] < truncated[0]


def test_the_best_codes_of_a_tiny_filter_are_nearly_found():
    """All codes of three columns, tried one by one."""
    generator = np.random.default_rng(4)
    nesting = Nesting((3, 8))
    rows = correlated(1, 200, 3, 4)
    target = generator.normal(0, 40, (1, 5, 3))
    goals = [goal(target, rows, rows)] * 2
    found = nested_codes(goals, nesting)
    base = Goal(goals[0].target, goals[0].moments)
    tried = np.array(list(itertools.product(range(-4, 4), repeat=3)))
    error = (tried * 32 + 16)[None] - target[0][:, None]
    best = np.einsum("ntk,kj,ntj->nt", error, base.moments[0], error).min(axis=1).sum()
    assert best <= base.cost(found[0] * 32.0 + 16) <= 1.3 * best


def test_equal_problems_give_equal_codes():
    first, second = (round_codes("joint", problem()) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("rows", [1, 2, 20])
@pytest.mark.parametrize("dead", ["none", "some", "all", "constant"])
def test_singular_layers_are_rounded_sensibly(rows, dead):
    """Too few samples, inputs that never vary, inputs that are always zero."""
    case = problem(rows=rows)
    source = case.inputs.source
    if dead == "some":
        source[..., ::3] = 0
    elif dead != "none":
        source[...] = 0 if dead == "all" else 7
    case = Problem(case.weights, case.nesting, 0, 0, LevelInputs(source, [source] * 3))
    codes = round_codes("joint", case)
    decoded = case.nesting.join(case.nesting.split(codes), 8).astype(int)
    assert np.abs(decoded - case.weights).max() <= 64
    if dead in ("all", "constant"):
        np.testing.assert_array_equal(decoded, case.weights)  # where nothing is seen, the weights themselves


def test_weights_that_are_no_integers_are_the_target_where_they_are_given():
    case = problem((8,))
    real = case.weights + np.random.default_rng(1).uniform(-0.5, 0.5, case.weights.shape)
    given = Problem(
        case.weights, case.nesting, 0, 0, LevelInputs(case.inputs.source, [case.inputs.source]), real
    )
    codes = round_codes("joint", given)[0]
    seen = goal(by_group(real, 0, 1), case.inputs.source, case.inputs.source)
    assert seen.cost(by_group(codes, 0, 1)) < 0.5 * seen.cost(by_group(case.weights, 0, 1))


def test_a_filter_that_is_wider_than_one_system_is_cut():
    case = problem((4, 8), (2, MAX_COLUMNS + 30), rows=64)
    codes = round_codes("joint", case)
    assert codes[0].shape == (2, MAX_COLUMNS + 30)
    case.nesting.split(codes)


def test_targets_make_up_for_the_inputs_of_the_level():
    """A level whose inputs are twice the source's wants weights that are smaller."""
    rows = correlated(1, 400, 8)
    weights = np.random.default_rng(0).normal(0, 40, (1, 5, 8))
    same = goal(weights, rows, rows)
    np.testing.assert_array_equal(same.target, weights)
    doubled = goal(weights, rows, 2 * rows)
    ratio = float(np.sum(doubled.target * weights) / np.sum(weights**2))
    assert 0.7 < ratio < 0.85


def test_it_is_known_to_need_data_and_fits_the_bucket_scheme():
    assert [name for name in registry_module.names() if registry_module.needs_data(name)] == ["joint"]
    with pytest.raises(UsageError, match="does not fit the scheme compensated"):
        registry_module.check("joint", Scheme.COMPENSATED)
