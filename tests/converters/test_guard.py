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


def test_a_collapse_is_reported_and_truncated(monkeypatch):
    """Rounding that scrambles one filter: every level is far off, and the safe codes are used instead."""
    honest = fitting.round_filter

    def scrambled(plan, seed, *arguments, **keywords):
        result = honest(plan, seed, *arguments, **keywords)
        if plan.rounding != "joint" or plan.tensor.name != "point/weights":
            return result
        planes = tuple(plane[::-1].copy() for plane in result.planes)
        levels = tuple(plan.nesting.join(planes, level) for level in plan.nesting.levels)
        return replace(result, planes=planes, levels=levels)

    monkeypatch.setattr(fitting, "round_filter", scrambled)
    notes = []
    source, fitted = fitted_network(joint_recipe(), notes=notes)
    assert "level 8: the loss on 8 held-back samples is" in notes[-2]
    assert notes[-1] == "all filters were truncated instead, because levels collapsed"
    for item in fitted.filters:
        np.testing.assert_array_equal(item.levels[-1], item.plan.tensor.data)
        assert item.plan.rounding == "truncate"
    x = [random_inputs(source, 4)]
    assert level_losses(source.graph.main, fitted, 3, x)[-1] == 0


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
        ((0.3, 0.05, 0.02), (0.2, 0.1, 0.0), [0]),
        ((0.1, 0.05, 0.15), (0.2, 0.1, 0.0), [2]),
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
