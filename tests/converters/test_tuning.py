"""Tuning biases by the outputs of a level."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from converters import tuning
from converters.conversion import convert
from converters.fitting import FittedLevels
from converters.guard import level_outputs
from converters.parameters import source_parameters
from converters.planning import plan_nesting, round_filters
from converters.recipe import Recipe, load_recipe, parse_recipe
from converters.sensitivity import loss_tensor, relative_error
from converters.tuning import HELD_BACK, MIN_SAMPLES, tune_levels
from tests.models import calm_network, everything, random_inputs
from tflnest.dataset import Dataset
from tflnest.errors import UsageError
from tflnest.model import Model

SAMPLES = 128


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "MIN_STEPS", 30)
    monkeypatch.setattr(tuning, "MAX_STEPS", 30)


def rounded_network(recipe: Recipe, samples: int = SAMPLES) -> tuple[Model, list[np.ndarray], FittedLevels]:
    """Levels with the source's biases: there is much to win."""
    source = calm_network()
    filters = round_filters(plan_nesting(source.graph, recipe), 0)
    levels = FittedLevels(filters, source_parameters(source.graph, filters))
    return source, [random_inputs(source, samples)], levels


def biases(levels: FittedLevels) -> list[np.ndarray]:
    return [own.bias for place in sorted(levels.parameters) for own in levels.parameters[place]]


def same(first: FittedLevels, second: FittedLevels) -> bool:
    return all(map(np.array_equal, biases(first), biases(second)))


def errors(source: Model, fitted: FittedLevels, levels: int, inputs: list[np.ndarray]) -> list[float]:
    subgraph = source.graph.main
    reference, *outputs = level_outputs(subgraph, fitted, levels, inputs)
    return [relative_error(loss_tensor(subgraph), reference, values) for values in outputs]


def test_levels_come_closer_on_samples_that_they_did_not_see(monkeypatch: pytest.MonkeyPatch) -> None:
    source, inputs, fitted = rounded_network(everything((2, 3, 8)))
    for own in fitted.parameters.values():
        own[:2] = [replace(level, bias=level.bias + 3000) for level in own[:2]]
    monkeypatch.setattr(tuning, "RATE", 0.03)
    tuned = tune_levels(source.graph.main, fitted, 3, inputs)
    held = [array[HELD_BACK - 1 :: HELD_BACK] for array in inputs]
    before, after = (errors(source, item, 3, held) for item in (fitted, tuned))
    assert after[0] < 0.9 * before[0]
    assert after[1] < 0.9 * before[1]
    assert before[2] == after[2] == 0.0


def test_only_biases_of_part_bit_levels_change() -> None:
    source, inputs, fitted = rounded_network(everything((2, 8)))
    done: list[tuple[int, int]] = []
    tuned = tune_levels(
        source.graph.main, fitted, 2, inputs, progress=lambda what, now, total: done.append((now, total))
    )
    assert tuned.filters is fitted.filters
    changed = 0
    for place, own in fitted.parameters.items():
        low, full = tuned.parameters[place]
        assert full is own[1]
        assert low.scales is own[0].scales
        changed += not np.array_equal(low.bias, own[0].bias)
    assert changed
    assert done[-1][0] == done[-1][1]
    assert [now for now, _ in done] == sorted(now for now, _ in done)


def test_equal_seeds_give_equal_biases() -> None:
    source, inputs, fitted = rounded_network(everything((2, 8)))
    runs = [tune_levels(source.graph.main, fitted, 2, inputs, seed=seed) for seed in (1, 1, 2)]
    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])


def test_what_several_levels_share_is_left_alone() -> None:
    """Levels 3 and 4 run the same own level of every filter."""
    recipe = parse_recipe("levels = [3, 4, 8]\nrules = [{scope = '.*', levels = [3, 8]}]")
    source, inputs, fitted = rounded_network(recipe)
    tuned = tune_levels(source.graph.main, fitted, 3, inputs)
    assert same(tuned, fitted)


def test_a_level_that_is_not_better_keeps_what_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    source, inputs, fitted = rounded_network(everything((2, 8)))
    monkeypatch.setattr(tuning, "RATE", 30.0)
    assert same(tune_levels(source.graph.main, fitted, 2, inputs), fitted)


def test_levels_that_are_hardly_off_and_few_samples_change_nothing() -> None:
    source, inputs, fitted = rounded_network(everything((7, 8)))
    assert same(tune_levels(source.graph.main, fitted, 2, inputs), fitted)
    source, inputs, fitted = rounded_network(everything((2, 8)), MIN_SAMPLES - 1)
    assert tune_levels(source.graph.main, fitted, 2, inputs) is fitted


def test_a_recipe_says_whether_biases_are_tuned(tmp_path) -> None:
    default = load_recipe("default")
    assert default.tuned
    assert "tuned = true\n" in default.to_toml()
    assert not load_recipe("uniform").tuned
    with pytest.raises(UsageError, match="tuned is true and bias is"):
        parse_recipe('tuned = true\nbias = "source"')
    path = tmp_path / "source.tflite"
    source = calm_network()
    source.save(path)
    x = (random_inputs(source, SAMPLES).astype(np.float32) + 3) * np.float32(0.05)
    made = [
        convert(path, levels=(2, 8), calibration=Dataset(x, None, "x"), recipe=recipe, keep="full-bit")
        for recipe in (default, parse_recipe('extends = "default"\ntuned = false'))
    ]
    assert made[0].model.to_bytes() != made[1].model.to_bytes()
    assert len(made[0].model.to_bytes()) == pytest.approx(len(made[1].model.to_bytes()), abs=200)
