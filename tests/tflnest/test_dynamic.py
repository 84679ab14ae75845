"""Widths that a controller chooses: against static runs at the same widths, in both engines, and limited by pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from converters.recipe import Recipe, Rule
from tests.controllers import CHOICES, controlled, controller_model, with_activation_bits
from tests.models import everything, nested, network, random_inputs
from tests.oracle import Job, MicroOracle, require_wheel
from tflnest.controller import attach, stand_alone
from tflnest.controller_entry import Choice
from tflnest.errors import UsageError
from tflnest.interpreter import Interpreter
from tflnest.model import Model
from tflnest.nested import nested_operators
from tflnest.pages import FilePages, PageNotResidentError

ENGINES = ("reference", "native")


def samples(model: Model, count: int = 12) -> np.ndarray:
    """Inputs of different brightness, so that the controller chooses differently."""
    rng = np.random.default_rng(1)
    x = random_inputs(model, count).astype(int)
    return np.clip(
        x // rng.integers(1, 6, (count, 1, 1, 1)) + rng.integers(-60, 60, (count, 1, 1, 1)), -128, 127
    ).astype(np.int8)


def static_run(model: Model, x: np.ndarray, widths: Sequence[tuple[int, int]]) -> np.ndarray:
    """One sample, with (level, activation bits) of every nested operator, by a model that has these alone."""
    operators = [item for _, item in nested_operators(model.graph)]
    bits = {item.operator.index: pair[1] for item, pair in zip(operators, widths, strict=True)}
    interpreter = Interpreter(model=with_activation_bits(model, bits))
    interpreter.set_level({f"^{item.scope}$": pair[0] for item, pair in zip(operators, widths, strict=True)})
    return interpreter.run(x)


def flat_stem() -> Model:
    """The same network with a stem that is the same at all levels, so that the controller sees the same."""
    return controlled(
        nested(network(), Recipe(levels=(4, 6, 8), rules=(Rule(scope="stem", flat=True),))), seed=1
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_every_sample_runs_at_the_widths_that_were_chosen(engine: str) -> None:
    model = controlled()
    x = samples(model)
    interpreter = Interpreter(model=model, engine=engine, policy="dynamic")
    outputs = interpreter.run(x)
    widths = interpreter.widths
    columns = [place for place, item in enumerate(widths.operators) if item.index < 6]
    assert [widths.operators[place].index for place in columns] == [0, 1, 2, 3, 5]
    chosen = np.stack([widths.weight_bits, widths.activation_bits], axis=2)[:, columns]
    assert len(np.unique(chosen.reshape(len(x), -1), axis=0)) > 2, "the controller must choose differently"
    for row, sample, output in zip(chosen, x, outputs, strict=True):
        pairs = [(int(level), int(bits)) for level, bits in row]
        assert np.array_equal(static_run(model, sample[None], pairs)[0], output)
    assert not widths.limited.any()


def test_the_choice_is_that_of_the_controller_in_tflm() -> None:
    require_wheel()
    model = controlled()
    controller, x = model.controller, samples(model, 6)
    assert controller is not None
    interpreter = Interpreter(model=model, policy="dynamic")
    interpreter.run(x)
    widths = interpreter.widths
    alone = stand_alone(model)
    full = Interpreter(model=model)
    full.allocate_tensors()
    stems = []
    for sample in x:
        full.set_tensor(full.get_input_details()[0]["index"], sample[None])
        full.invoke()
        stems.append(full.get_tensor(controller.stem))
    with MicroOracle() as oracle:
        answers = oracle.run(Job(alone.to_bytes(), [[stem] for stem in stems]))
    for number, (stem, answer) in enumerate(zip(stems, answers, strict=True)):
        logits = answer[alone.graph.main.outputs[0]]
        assert np.array_equal(logits, Interpreter(model=alone).run(stem))
        for row, index in enumerate(controller.operators):
            position = int(np.argmax(logits.reshape(len(controller.operators), -1)[row]))
            column = next(place for place, item in enumerate(widths.operators) if item.index == index)
            assert (
                Choice(int(widths.weight_bits[number, column]), int(widths.activation_bits[number, column]))
                == controller.choices[position]
            )


def test_both_engines_and_single_invokes_agree() -> None:
    model = controlled(seed=3)
    x = samples(model, 9)
    runs = [Interpreter(model=model, engine=engine, policy="dynamic") for engine in ENGINES]
    threaded = Interpreter(model=model, engine="native", policy="dynamic", threads=3)
    expected = runs[0].run(x)
    assert np.array_equal(runs[1].run(x), expected)
    assert np.array_equal(threaded.run(x), expected)
    assert np.array_equal(threaded.widths.weight_bits, runs[0].widths.weight_bits)
    for engine, run in zip(ENGINES, runs, strict=True):
        single = Interpreter(model=model, engine=engine, policy="dynamic")
        single.allocate_tensors()
        rows = run.widths
        for number, sample in enumerate(x):
            single.set_tensor(single.get_input_details()[0]["index"], sample[None])
            single.invoke()
            output = single.get_tensor(single.get_output_details()[0]["index"])
            assert np.array_equal(output[0], expected[number])
            assert np.array_equal(single.widths.weight_bits[0], rows.weight_bits[number])
            assert np.array_equal(single.widths.activation_bits[0], rows.activation_bits[number])


@pytest.mark.parametrize("engine", ENGINES)
def test_the_level_that_is_set_is_the_highest_that_is_chosen(engine: str) -> None:
    model = flat_stem()
    x = samples(model)
    free = Interpreter(model=model, engine=engine, policy="dynamic")
    free.run(x)
    capped = Interpreter(model=model, engine=engine, level=6, policy="dynamic")
    capped.run(x)
    wanted, given = free.widths, capped.widths
    held = [place for place, item in enumerate(given.operators) if item.index in model.controller.operators]
    assert (wanted.weight_bits[:, held] == 8).any()
    assert np.array_equal(given.weight_bits[:, held], np.minimum(wanted.weight_bits[:, held], 6))
    assert np.array_equal(given.limited[:, held], wanted.weight_bits[:, held] > 6)
    assert np.array_equal(given.activation_bits, wanted.activation_bits)


class Resident:
    """The first pages of a file."""

    def __init__(self, model: Model, count: int) -> None:
        self.pages, self.count = FilePages(model.to_bytes(), model.directory), count
        self.levels = model.directory.levels

    def read(self, page: int) -> bytes:
        if page >= self.count:
            raise PageNotResidentError(page, self.levels[page])
        return self.pages.read(page)


def test_pages_that_are_not_resident_limit_the_choice() -> None:
    model = flat_stem()
    x = samples(model)
    pages = Resident(model, 2)
    interpreter = Interpreter(model=model, policy="dynamic", pages=pages)
    outputs = interpreter.run(x)
    assert interpreter.widths.limited.any()
    capped = Interpreter(model=model, policy="dynamic", level=6)
    assert np.array_equal(outputs, capped.run(x))
    pages.count = 3
    assert np.array_equal(interpreter.run(x), Interpreter(model=model, policy="dynamic").run(x))
    assert not interpreter.widths.limited.any()
    with pytest.raises(PageNotResidentError):
        Interpreter(model=model, pages=Resident(model, 2)).run(x)


@pytest.mark.parametrize("engine", ENGINES)
def test_flat_operators_change_their_activation_alone(engine: str) -> None:
    recipe = Recipe(levels=(4, 8), rules=(Rule(operator="FULLY_CONNECTED", flat=True),))
    source = nested(network(), recipe)
    main = source.graph.main
    stem = main.tensors[main.operators[0].outputs[0]]
    model = attach(source, controller_model(stem, 2), stem.index, [5], [(8, 2), (8, 8)])
    x = samples(model)
    interpreter = Interpreter(model=model, engine=engine, policy="dynamic")
    outputs, widths = interpreter.run(x), interpreter.widths
    column = next(place for place, item in enumerate(widths.operators) if item.index == 5)
    assert set(widths.activation_bits[:, column]) == {2, 8} and (widths.weight_bits[:, column] == 8).all()
    full = Interpreter(model=model).run(x)
    same = widths.activation_bits[:, column] == 8
    assert np.array_equal(outputs[same], full[same]) and not np.array_equal(outputs[~same], full[~same])


def test_a_stem_that_is_the_input_of_the_model() -> None:
    source = nested(network(), everything())
    stem = source.graph.main.input_tensors()[0]
    model = attach(source, controller_model(stem, 4, seed=1), stem.index, [0, 3], [(4, 8), (8, 8)])
    x = samples(model)
    first, second = (Interpreter(model=model, engine=engine, policy="dynamic") for engine in ENGINES)
    assert np.array_equal(first.run(x), second.run(x))
    assert set(first.widths.weight_bits[:, [0, 1]].reshape(-1).tolist()) <= {4, 8}


def test_levels_can_change_under_a_controller() -> None:
    model = controlled()
    x = samples(model)
    interpreter = Interpreter(model=model, policy="dynamic")
    full = interpreter.run(x)
    interpreter.set_level(4)
    low = interpreter.run(x)
    assert (interpreter.widths.weight_bits[:, [0]] == 4).all()
    interpreter.set_level(8)
    assert np.array_equal(interpreter.run(x), full) and not np.array_equal(low, full)


def test_without_a_controller_the_policy_is_refused() -> None:
    with pytest.raises(UsageError, match="needs a controller"):
        Interpreter(model=nested(network(), everything()), policy="dynamic")
    with pytest.raises(UsageError, match="no policy"):
        Interpreter(model=controlled(), policy="sometimes")
    with pytest.raises(UsageError, match="nothing has run"):
        Interpreter(model=controlled(), policy="dynamic").widths  # noqa: B018


def test_choices_of_full_widths_give_the_static_level() -> None:
    source = nested(network(), everything())
    for choice in CHOICES:
        wide = replace(choice, activation_bits=8)
        model = controlled(source, [wide])
        x = samples(model, 4)
        interpreter = Interpreter(model=source)
        interpreter.set_level({"depthwise|point|grouped|head": choice.level})
        assert np.array_equal(Interpreter(model=model, policy="dynamic").run(x), interpreter.run(x))
