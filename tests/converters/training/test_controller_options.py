"""Options of a controller of widths."""

from __future__ import annotations

import json
from typing import Any

import pytest

from converters.training.controller_options import ControllerOptions, Granularity
from tflnest.errors import UsageError


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"target": 0.0}, "target is 0.0, more than 0, at most 1"),
        ({"target": 1.5}, "target is 1.5"),
        ({"beta": -1.0}, "beta is -1.0, 0 or more"),
        ({"temperature": (1.0, 0.0)}, "temperature is 0.0, more than 0"),
        ({"hidden": 0}, "hidden is 0"),
        ({"annealing_steps": 0}, "annealing_steps is 0"),
        ({"confidence": 9.0}, "confidence is 9.0"),
        ({"granularity": "layer"}, "granularity is 'layer'"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ControllerOptions(**values)


def test_choices_are_by_default_the_levels() -> None:
    assert ControllerOptions().choices_of((2, 4, 8), activations=False) == ((2, 8), (4, 8), (8, 8))
    assert ControllerOptions().choices_of((2, 4, 8), activations=True) == ((2, 2), (4, 4), (8, 8))


@pytest.mark.parametrize("choices", [((4, 8),), ((4, 8), (4, 8)), ((4, 8), (3, 8)), ((4, 8), (8, 9))])
def test_choices_that_make_no_sense_are_refused(choices: Any) -> None:
    with pytest.raises(UsageError, match="choice"):
        ControllerOptions(choices=choices).choices_of((4, 8), activations=False)


def test_options_survive_a_round_trip_through_json() -> None:
    options = ControllerOptions(
        choices=((2, 8), (4, 4)), stem="stem", granularity=Granularity.NETWORK, target=0.4, train_network=True
    )
    assert ControllerOptions.from_dict(json.loads(json.dumps(options.to_dict()))) == options


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (((0, 1, 1),), "two or more of 3"),
        (((0, 1), (1, 1)), "two or more of 3"),
        (((0, 0, 0), (1, 1, 3)), "operator 2 has the choices"),
        (((0, 0, 0), (1, 0, 1), (1, 0, 2)), "operator 0 has the choices"),
    ],
)
def test_assignments_that_make_no_sense_are_refused(assignments: Any, message: str) -> None:
    options = ControllerOptions(granularity=Granularity.NETWORK, assignments=assignments)
    with pytest.raises(UsageError, match=message):
        options.assignments_of(3, 3)


def test_assignments_are_of_the_whole_network() -> None:
    assert ControllerOptions().assignments_of(2, 3) == ((0, 0, 0), (1, 1, 1))
    with pytest.raises(UsageError, match="of the whole network"):
        ControllerOptions(assignments=((0, 0), (1, 1))).assignments_of(2, 2)
