"""Base widths under a budget."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from converters.allocation import allocate_widths, mix_widths
from converters.planning import PlannedFilter, plan_nesting
from converters.recipe import Recipe, load_recipe
from converters.sensitivity import Sensitivity
from tests.models import NetworkBuilder, network, random_inputs
from tflnest.errors import UsageError
from tflnest.graph import Tensor
from tflnest.nesting import Nesting


def sensitivity(index: int, weights: int, factor: float) -> Sensitivity:
    """A filter whose loss falls by four with every bit."""
    tensor = Tensor(index, f"filter{index}", (weights,), (weights,), "INT8", None, 1)
    plan = PlannedFilter(0, tensor, (index,), "CONV_2D", Nesting((4, 8)), (0, 1), "truncate", "", True)
    losses = {width: factor * 4.0**-width for width in range(1, 8)} | {8: 0.0}
    return Sensitivity(plan, losses)


def at_least(width: int, items: list[Sensitivity] | None = None) -> dict[tuple[int, int], int]:
    """The same lowest width for all filters."""
    return {item.plan.key: width for item in items or ITEMS}


ITEMS = [
    sensitivity(0, 100, 5.0),
    sensitivity(1, 900, 1.0),
    sensitivity(2, 300, 20.0),
    sensitivity(3, 50, 0.01),
]


def total_loss(widths: dict[tuple[int, int], int]) -> float:
    return sum(item.losses[widths[0, item.plan.tensor.index]] for item in ITEMS)


def size(widths: dict[tuple[int, int], int]) -> int:
    return sum(item.weights * widths[0, item.plan.tensor.index] for item in ITEMS)


@pytest.mark.parametrize("bits", [3.0, 3.5, 4.0, 4.2, 5.0, 6.5, 8.0])
def test_the_budget_is_kept_and_nearly_used(bits: float) -> None:
    budget = int(bits * 1350)
    widths = allocate_widths(ITEMS, budget, at_least(3))
    assert set(widths.values()) <= set(range(3, 9))
    assert size(widths) <= budget
    # What is left is less than one more bit for any filter that could take one.
    assert all(
        item.weights > budget - size(widths) or widths[0, item.plan.tensor.index] == 8 for item in ITEMS
    )


@pytest.mark.parametrize("bits", [3.5, 4.0, 5.0])
def test_no_assignment_of_the_same_size_is_more_accurate(bits: float) -> None:
    widths = allocate_widths(ITEMS, int(bits * 1350), at_least(3))
    for other in itertools.product(range(3, 9), repeat=len(ITEMS)):
        candidate = {(0, index): width for index, width in enumerate(other)}
        if size(candidate) <= size(widths):
            assert total_loss(candidate) >= total_loss(widths) - 1e-12


def test_sensitive_filters_get_more_bits() -> None:
    widths = allocate_widths(ITEMS, 4 * 1350, at_least(3))
    assert widths[0, 0] > widths[0, 1]
    assert widths[0, 2] > widths[0, 1]


def test_a_plateau_is_crossed_where_it_pays() -> None:
    step = sensitivity(0, 10, 0.0)
    losses = {1: 1.0, 2: 1.0, 3: 1.0, 4: 0.0, 5: 0.0, 6: 0.0, 7: 0.0, 8: 0.0}
    items = [Sensitivity(step.plan, losses), sensitivity(1, 10, 0.01)]
    assert allocate_widths(items, 70, at_least(3, items))[0, 0] == 4


def test_a_level_starts_from_the_widths_of_the_one_below() -> None:
    base = allocate_widths(ITEMS, 4 * 1350, at_least(3))
    above = allocate_widths(ITEMS, 6 * 1350, base)
    assert all(above[key] >= width for key, width in base.items())
    assert size(base) < size(above) <= 6 * 1350
    assert above != base
    # A budget that the widths below exceed already adds nothing.
    assert allocate_widths(ITEMS, 3 * 1350, base) == base


def inputs() -> list[np.ndarray]:
    return [random_inputs(network(3), 8)]


def test_mixing_keeps_the_bits_of_a_uniform_base() -> None:
    graph = network(3).graph
    recipe = load_recipe("default")
    planned = plan_nesting(graph, recipe)
    mixed = mix_widths(graph.main, planned, recipe, inputs()).filters
    before = sum(4 * plan.tensor.size for plan in planned if plan.adjustable and plan.nesting)
    after = 0
    for old, new in zip(planned, mixed, strict=True):
        if old.adjustable and old.nesting:
            width = 8 if new.nesting is None else new.nesting.levels[0]
            assert f"sensitivity: {width} bits" in new.reason
            after += width * new.tensor.size
        else:
            assert new == old
    assert 0 < after <= before


@pytest.mark.parametrize("levels", [(4, 6, 8), (3, 5, 8), (3, 4, 5, 6, 7)])
def test_every_level_takes_the_bits_of_its_name_and_no_more(levels: tuple[int, ...]) -> None:
    graph = network(3).graph
    recipe = load_recipe("default").with_options(levels=levels)
    mixed = mix_widths(graph.main, plan_nesting(graph, recipe), recipe, inputs()).filters
    weights = sum(plan.tensor.size for plan in mixed)
    flat = sum(8 * plan.tensor.size for plan in mixed if not plan.adjustable or plan.nesting is None)
    smallest = min(plan.tensor.size for plan in mixed if plan.nesting is not None)
    for position, level in enumerate(levels[1:-1], 1):
        own = {plan.key: plan.nesting.levels[plan.model_levels[position]] for plan in mixed if plan.nesting}
        bits = flat + sum(own[plan.key] * plan.tensor.size for plan in mixed if plan.key in own)
        assert level * weights - smallest * 8 < bits <= level * weights
    for plan in mixed:
        if plan.nesting is not None:
            assert plan.nesting.levels[plan.model_levels[-1]] == levels[-1]
            assert list(plan.model_levels) == sorted(plan.model_levels)


def test_dense_filters_keep_the_level_where_they_do_much_of_the_work() -> None:
    builder = NetworkBuilder(3)
    y = builder.convolution(builder.start(), 16, name="stem")
    y = builder.convolution(y, 32, stride=4, name="late")
    y = builder.dense(builder.flatten(y), 256, name="first")
    graph = builder.finish(builder.dense(y, 256, name="second")).graph
    recipe = load_recipe("default")
    mixed = mix_widths(graph.main, plan_nesting(graph, recipe), recipe, inputs()).filters
    dense = [plan for plan in mixed if plan.operator_name == "FULLY_CONNECTED"]
    assert len(dense) == 2
    for plan in dense:
        base, middle, _ = (plan.nesting.levels[position] for position in plan.model_levels)
        assert middle == max(6, base)


def test_a_budget_that_cannot_be_met_names_the_smallest_that_can() -> None:
    graph = network(3).graph
    recipe = load_recipe("uniform").with_options(base_bits=2.5)
    with pytest.raises(
        UsageError, match=r"a base of 2\.5 bits per weight can't be had: .*3\.00 bits per weight"
    ):
        mix_widths(graph.main, plan_nesting(graph, recipe), recipe, inputs())


def test_a_budget_in_bytes_is_kept() -> None:
    graph = network(3).graph
    total = sum(plan.tensor.size for plan in plan_nesting(graph, load_recipe("uniform")))
    recipe = load_recipe("uniform").with_options(base_bytes=total * 5 // 8)
    mixed = mix_widths(graph.main, plan_nesting(graph, recipe), recipe, inputs()).filters
    bits = sum((8 if plan.nesting is None else plan.nesting.levels[0]) * plan.tensor.size for plan in mixed)
    assert bits <= 8 * (total * 5 // 8)


def test_two_budgets_are_one_too_many() -> None:
    with pytest.raises(UsageError, match="base_bits and base_bytes are both given"):
        Recipe(base_bits=4.0, base_bytes=1000)


def test_widths_are_mixed_only_where_it_pays_or_is_asked_for() -> None:
    default = load_recipe("default")
    assert default.mixes_widths
    assert default.with_options(levels=(6, 8)).mixes_widths
    assert not default.with_options(levels=(7, 8)).mixes_widths
    assert default.with_options(levels=(7, 8), base_bits=7.1).mixes_widths
    assert not load_recipe("uniform").mixes_widths
    assert load_recipe("uniform").with_options(base_bytes=5000).mixes_widths
