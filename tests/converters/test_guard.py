"""Levels that collapse on samples that they were not fitted to are noticed and repaired."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from converters import fitting, guard
from converters.conversion import convert
from converters.fitting import fit_levels
from converters.guard import collapsed_levels, fit_guarded, level_losses, level_outputs
from converters.nest import nest
from converters.planning import plan_nesting
from converters.recipe import Scale
from converters.synthetic import synthetic_inputs
from tests.models import everything, network, random_inputs
from tflnest.dataset import Dataset
from tflnest.interpreter import Interpreter


def joint_recipe(scale=Scale.SOURCE, levels=(3, 5, 8)):
    return replace(everything(levels), rounding="joint", scale=scale)


def fitted_network(recipe, count=32, notes=None):
    source = network()
    x = random_inputs(source, count)
    plans = plan_nesting(source.graph, recipe)
    return source, fit_guarded(source.graph, plans, recipe, [x], notes=notes)


@pytest.mark.parametrize("scale", list(Scale))
def test_levels_are_scored_as_the_nested_file_runs_them(scale):
    recipe = joint_recipe(scale)
    source, fitted = fitted_network(recipe)
    model = nest(source, fitted.filters, fitted.parameters, recipe)
    x = random_inputs(source, 5, seed=9)
    outputs = level_outputs(source.graph.main, fitted, 3, [x])
    np.testing.assert_array_equal(outputs[0], Interpreter(model=source).run(x))
    for level, values in zip(recipe.levels, outputs[1:], strict=True):
        np.testing.assert_array_equal(values, Interpreter(model=model, level=level).run(x))


def test_joint_codes_that_serve_every_level_are_kept():
    """Smooth inputs, which are alike from pixel to pixel as those of real networks are."""
    source, recipe = network(), joint_recipe(levels=(4, 6, 8))
    samples = synthetic_inputs(source.graph.main.input_tensors(), 0, 160)[0]
    fitted_to, x = samples[:128], [samples[128:]]
    notes = []
    fitted = fit_guarded(source.graph, plan_nesting(source.graph, recipe), recipe, [fitted_to], notes=notes)
    assert notes == []
    assert not np.array_equal(fitted.filters[0].levels[-1], fitted.filters[0].plan.tensor.data)
    assert [item.plan.rounding for item in fitted.filters] == ["joint"] * 5
    truncated = fit_levels(source.graph, plan_nesting(source.graph, everything()), 3, [fitted_to])
    ours, theirs = (level_losses(source.graph.main, item, 3, x) for item in (fitted, truncated))
    assert ours[0] < theirs[0]
    assert ours[2] < theirs[1]
    assert theirs[2] == 0


def smooth_samples(source, count=160):
    """Alike from pixel to pixel, as the inputs of real networks are."""
    return synthetic_inputs(source.graph.main.input_tensors(), 0, count)[0]


def scramble(result):
    """The filters of the output channels in reverse order."""
    planes = tuple(plane[::-1].copy() for plane in result.planes)
    levels = tuple(result.plan.nesting.join(planes, level) for level in result.plan.nesting.levels)
    return replace(result, planes=planes, levels=levels)


def guarded_with(monkeypatch, round_filter):
    """Levels of the network with another way to round; and the notes."""
    monkeypatch.setattr(fitting, "round_filter", round_filter)
    source, recipe, notes = network(), joint_recipe(levels=(4, 6, 8)), []
    plans, samples = plan_nesting(source.graph, recipe), smooth_samples(source)
    fitted = fit_guarded(source.graph, plans, recipe, [samples[:128]], notes=notes)
    return source, fitted, samples[128:], notes


HONEST = fitting.round_filter


def test_only_the_filter_that_is_to_blame_is_truncated(monkeypatch):
    """Rounding that scrambles one filter: every level is far off, until that filter has safe codes."""

    def round_filter(plan, seed, *arguments, **keywords):
        result = HONEST(plan, seed, *arguments, **keywords)
        blamed = plan.rounding == "joint" and plan.tensor.name == "point/weights"
        return scramble(result) if blamed else result

    source, fitted, x, notes = guarded_with(monkeypatch, round_filter)
    rounding = {item.plan.tensor.name: item.plan.rounding for item in fitted.filters}
    assert rounding.pop("point/weights") == "truncate"
    assert set(rounding.values()) == {"joint"}
    assert any("level 8: the loss on 32 held-back samples is" in note for note in notes)
    (blame,) = [note for note in notes if note.endswith("it was truncated")]
    assert "(CONV_2D, filter 'point/weights'): its outputs are off by" in blame
    assert notes[-1] == blame
    plans = plan_nesting(source.graph, everything())
    truncated = fit_levels(source.graph, plans, 3, [smooth_samples(source)[:128]])
    losses, safe = (level_losses(source.graph.main, item, 3, [x]) for item in (fitted, truncated))
    assert collapsed_levels(losses, safe) == []


def test_codes_that_fail_on_inputs_of_their_levels_are_chosen_on_those_of_the_source(monkeypatch):
    """Rounding that fails where levels have inputs of their own: the other way is kept, no level collapses."""

    def round_filter(plan, seed, inputs=None, *arguments, **keywords):
        result = HONEST(plan, seed, inputs, *arguments, **keywords)
        own = inputs is not None and any(rows is not inputs.source for rows in inputs.levels)
        return scramble(result) if own and plan.rounding == "joint" else result

    _, fitted, _, notes = guarded_with(monkeypatch, round_filter)
    assert {item.plan.rounding for item in fitted.filters} == {"joint"}
    assert notes == []


def test_where_nothing_else_helps_all_filters_are_truncated(monkeypatch):
    def round_filter(plan, seed, *arguments, **keywords):
        result = HONEST(plan, seed, *arguments, **keywords)
        return scramble(result) if plan.rounding == "joint" else result

    monkeypatch.setattr(guard, "worse_alone", lambda *arguments: [])
    source, fitted, x, notes = guarded_with(monkeypatch, round_filter)
    assert notes[-1] == "all filters were truncated instead, because levels collapsed"
    for item in fitted.filters:
        np.testing.assert_array_equal(item.levels[-1], item.plan.tensor.data)
        assert item.plan.rounding == "truncate"
    assert level_losses(source.graph.main, fitted, 3, [x])[-1] == 0


def test_codes_do_not_depend_on_the_inputs_of_levels_unless_they_are_to():
    source, recipe = network(), joint_recipe(levels=(4, 6, 8))
    plans, x = plan_nesting(source.graph, recipe), smooth_samples(source, 48)
    sequential, apart = (
        fit_levels(source.graph, plans, 3, [x], sequential=choice) for choice in (True, False)
    )
    first, later = (
        [
            np.array_equal(a.levels[0], b.levels[0])
            for a, b in zip(sequential.filters, apart.filters, strict=True)
        ][part]
        for part in (0, slice(1, None))
    )
    assert first and not all(later)


def test_few_samples_are_all_used_and_it_is_said():
    notes = []
    fitted_network(joint_recipe(), guard.MIN_SAMPLES - 1, notes)
    assert notes == [
        "levels were not checked on samples of their own: 15 samples are too few to hold some back"
    ]


def test_nothing_is_held_back_where_no_method_looks_at_data():
    recipe = everything()
    source = network()
    plans, x = plan_nesting(source.graph, recipe), [random_inputs(source, 32)]
    guarded, plain = fit_guarded(source.graph, plans, recipe, x), fit_levels(source.graph, plans, 3, x)
    for place, levels in plain.parameters.items():
        for a, b in zip(levels, guarded.parameters[place], strict=True):
            np.testing.assert_array_equal(a.bias, b.bias)


@pytest.mark.parametrize(
    ("losses", "safe", "collapsed"),
    [
        ((0.1, 0.05, 0.02), (0.2, 0.1, 0.0), []),
        ((0.5, 0.05, 0.02), (0.2, 0.1, 0.0), [0]),
        ((0.3, 0.05, 0.02), (0.2, 0.1, 0.0), []),
        ((0.1, 0.05, 0.25), (0.2, 0.1, 0.0), [2]),
        ((0.1, 0.19, 0.11), (0.2, 0.1, 0.0), []),
        ((float("nan"), 0.1), (0.2, 0.0), [0]),
        ((0.1,), (0.0,), [0]),
        ((0.0,), (0.0,), []),
    ],
)
def test_what_counts_as_a_collapse(losses, safe, collapsed):
    assert collapsed_levels(losses, safe) == collapsed


def test_the_report_says_what_was_used(monkeypatch, tmp_path):
    monkeypatch.setattr(guard, "collapsed_levels", lambda losses, safe: [0])
    path = tmp_path / "source.tflite"
    network().save(path)
    x = np.random.default_rng(3).uniform(-5, 5, (32, 8, 8, 3)).astype(np.float32)
    result = convert(path, calibration=Dataset(x, name="x"), recipe="uniform", rounding="joint")
    assert {item.rounding for item in result.filters} == {"truncate"}
    assert any("held-back samples" in note for note in result.notes)
