"""Margins: a low level first, the full one where its outputs are too close."""

from __future__ import annotations

import numpy as np
import pytest

from tests.controllers import controlled
from tests.models import NetworkBuilder, calm_network, everything, nested, network, random_inputs
from tflnest.errors import UnsupportedError, UsageError
from tflnest.interpreter import Interpreter
from tflnest.policy import Dynamic, Margin, Static, margin_steps, margins, parse_policy

ENGINES = ("reference", "native")


def test_policies_have_names() -> None:
    for text, policy in (
        ("static", Static()),
        ("dynamic", Dynamic()),
        ("margin:0.2", Margin(0.2)),
        ("margin:0.25:4", Margin(0.25, 4)),
        ("margin:auto", Margin(None)),
        ("margin:auto:6", Margin(None, 6)),
    ):
        assert parse_policy(text) == policy and str(policy) == text
    assert parse_policy(Margin(1.0)) == Margin(1.0)
    for text in ("", "fast", "margin", "margin:", "margin:x", "margin:1:2:3", "static:4", "margin:1:low"):
        with pytest.raises(UsageError, match="no policy"):
            parse_policy(text)
    for text in ("margin:-1", "margin:nan", "margin:inf"):
        with pytest.raises(UsageError, match="makes no sense"):
            parse_policy(text)


def test_a_margin_is_the_difference_of_the_two_largest() -> None:
    outputs = np.array([[1, 5, -3], [127, -128, -128], [7, 7, 7], [-5, -9, -7]], np.int8)
    assert margins(outputs).tolist() == [4, 255, 0, 2]
    assert margins(outputs[:, :2].reshape(4, 1, 2)).tolist() == [4, 255, 0, 4]


def test_steps_are_exact_where_the_threshold_is_a_multiple_of_the_scale() -> None:
    output = network().graph.main.output_tensors()[0]
    for steps in range(50):
        assert margin_steps(steps * output.scale, output) == steps
    assert margin_steps(1.5 * output.scale, output) == 2


@pytest.mark.parametrize("engine", ENGINES)
def test_unsure_inputs_run_at_the_full_level(engine: str) -> None:
    model = nested(calm_network(), everything())
    x = random_inputs(model, 40)
    low, full = (Interpreter(model=model, level=level).run(x) for level in (4, 8))
    scale = model.graph.main.output_tensors()[0].scale
    steps = max(int(np.median(margins(low))), 1)
    threshold, unsure = steps * scale, margins(low) < steps
    assert 0 < unsure.sum() < len(x)
    interpreter = Interpreter(model=model, engine=engine, policy=Margin(threshold))
    outputs, widths = interpreter.run(x), interpreter.widths
    assert np.array_equal(outputs, np.where(unsure[:, None], full, low))
    assert np.array_equal(np.bincount(widths.samples, minlength=len(x)), 1 + unsure)
    assert set(widths.weight_bits[:40].reshape(-1)) == {4} and set(widths.weight_bits[40:].reshape(-1)) == {8}
    single = Interpreter(model=model, engine=engine, policy=f"margin:{threshold!r}")
    single.allocate_tensors()
    for number in range(10):
        single.set_tensor(single.get_input_details()[0]["index"], x[number : number + 1])
        single.invoke()
        output = single.get_tensor(single.get_output_details()[0]["index"])
        assert np.array_equal(output[0], outputs[number])
        assert len(single.widths.samples) == 1 + unsure[number]


def test_extreme_thresholds_run_one_level_alone() -> None:
    model = nested(network(), everything())
    x = random_inputs(model, 6)
    scale = model.graph.main.output_tensors()[0].scale
    never = Interpreter(model=model, policy=Margin(0.0, 6))
    assert np.array_equal(never.run(x), Interpreter(model=model, level=6).run(x))
    assert len(never.widths.samples) == 6
    always = Interpreter(model=model, policy=Margin(256 * scale))
    assert np.array_equal(always.run(x), Interpreter(model=model).run(x))
    assert len(always.widths.samples) == 12


def test_margins_that_make_no_sense_are_refused() -> None:
    model = nested(network(), everything())
    with pytest.raises(UsageError, match="no threshold"):
        Interpreter(model=model, policy="margin:auto")
    with pytest.raises(UsageError, match="below the full-bit"):
        Interpreter(model=model, policy="margin:0.1:8")
    with pytest.raises(UsageError, match="no level 5"):
        Interpreter(model=model, policy="margin:0.1:5")
    with pytest.raises(UsageError, match="below the full-bit"):
        Interpreter(model=network(), policy="margin:0.1")
    net = NetworkBuilder()
    alone = nested(net.finish(net.dense(net.flatten(net.start((1, 2, 2, 4))), 1)), everything())
    with pytest.raises(UnsupportedError, match="two values"):
        Interpreter(model=alone, policy="margin:0.1")


def test_a_controller_does_not_mind_a_margin() -> None:
    model = controlled()
    x = random_inputs(model, 5)
    assert np.array_equal(
        Interpreter(model=model, policy=Margin(0.0)).run(x), Interpreter(model=model, level=4).run(x)
    )
