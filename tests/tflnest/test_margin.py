"""Thresholds of margins: the accuracy or the cost that was asked for, by counting over again."""

from __future__ import annotations

import numpy as np
import pytest

from tests.models import calm_network, everything, nested, network, random_inputs
from tflnest.errors import BudgetError, UsageError
from tflnest.interpreter import Interpreter
from tflnest.margin import calibrate_margin
from tflnest.model import Model
from tflnest.policy import Margin, margins, parse_policy


@pytest.fixture(scope="module")
def case() -> tuple[Model, np.ndarray, np.ndarray]:
    """A model, inputs, and labels that the full-bit level mostly gets right."""
    model = nested(calm_network(), everything())
    x = random_inputs(model, 120)
    labels = Interpreter(model=model).run(x).argmax(axis=1).astype(np.int64)
    labels[::7] = (labels[::7] + 1) % 10
    return model, x, labels


def count(model: Model, x: np.ndarray, labels: np.ndarray | None, steps: int) -> tuple[float, float, float]:
    """Drop in points, repeated share and cost of a threshold."""
    low, full = (Interpreter(model=model, level=level).run(x) for level in (4, 8))
    again = margins(low) < steps
    wanted = full.argmax(axis=1) if labels is None else labels
    classes = np.where(again, full.argmax(axis=1), low.argmax(axis=1))
    drop = 100 * ((full.argmax(axis=1) == wanted).mean() - (classes == wanted).mean())
    return float(drop), float(again.mean()), 0.5 + float(again.mean())


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("max_drop", [0.0, 2.0, 10.0])
def test_the_smallest_threshold_that_keeps_the_accuracy(
    case: tuple[Model, np.ndarray, np.ndarray], max_drop: float, labelled: bool
) -> None:
    model, x, labels = case
    given = labels if labelled else None
    found = calibrate_margin(model, x, given, max_drop=max_drop, engine="reference")
    assert found.policy.threshold is not None
    steps = round(found.policy.threshold / model.graph.main.output_tensors()[0].scale)
    assert (found.drop, found.repeated, found.cost) == pytest.approx(count(model, x, given, steps))
    assert found.drop <= max_drop + 1e-9
    assert steps == 0 or count(model, x, given, steps - 1)[0] > max_drop
    interpreter = Interpreter(model=model, policy=parse_policy(str(found.policy)))
    classes = interpreter.run(x).argmax(axis=1)
    assert len(interpreter.widths.samples) == round(len(x) * (1 + found.repeated))
    if labelled:
        full = Interpreter(model=model).run(x).argmax(axis=1)
        assert 100 * ((full == labels).mean() - (classes == labels).mean()) == pytest.approx(found.drop)


def test_the_largest_threshold_that_keeps_to_the_cost(case: tuple[Model, np.ndarray, np.ndarray]) -> None:
    model, x, labels = case
    costs = sorted({count(model, x, labels, steps)[2] for steps in range(60)})
    for budget in (costs[0], (costs[1] + costs[2]) / 2, costs[-1]):
        found = calibrate_margin(model, x, labels, max_cost=budget, engine="reference")
        assert found.cost == pytest.approx(max(cost for cost in costs if cost <= budget + 1e-9))
    with pytest.raises(BudgetError, match=r"takes 50\.0 %"):
        calibrate_margin(model, x, labels, max_cost=0.49, engine="reference")
    with pytest.raises(BudgetError, match="a drop of at most 0 points"):
        calibrate_margin(model, x, labels, max_drop=0.0, max_cost=0.5, engine="reference")
    with pytest.raises(BudgetError, match="every threshold"):
        calibrate_margin(model, x, labels, max_drop=-50.0, engine="reference")


def test_what_cannot_be_calibrated_is_refused(case: tuple[Model, np.ndarray, np.ndarray]) -> None:
    model, x, labels = case
    with pytest.raises(UsageError, match="calibrated for something"):
        calibrate_margin(model, x, labels)
    with pytest.raises(UsageError, match="no level 8 below"):
        calibrate_margin(model, x, labels, max_drop=1.0, level=8)
    with pytest.raises(UsageError, match="no level 8 below"):
        calibrate_margin(network(), x, labels, max_drop=1.0)


def test_names_of_thresholds_are_exact() -> None:
    scale = 0.1906380206346512
    for steps in range(1, 256):
        policy = parse_policy(str(Margin(steps * scale)))
        assert isinstance(policy, Margin) and policy.threshold == pytest.approx(steps * scale, rel=1e-8)
