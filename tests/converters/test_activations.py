from __future__ import annotations

import pytest

from converters.activations import plan_activations
from converters.affine import SIGNED_UNIT, UNIT, from_range
from converters.calibration import Range
from tests.single_operator import GraphBuilder
from tflnest.model import Model


def plan(operators, ranges):
    """Plan a chain of (name, inputs, outputs) over as many float tensors as there are ranges."""
    graph = GraphBuilder()
    for _ in ranges:
        graph.tensor((1, 4), "FLOAT32")
    for name, inputs, outputs in operators:
        graph.operator(name, inputs, outputs)
    subgraph = Model.from_bytes(graph.build([])).graph.main
    return plan_activations(subgraph, dict(enumerate(ranges)))


def test_free_operators_keep_their_own_ranges():
    result = plan([("ADD", [0, 1], [2])], [Range(-1, 1), Range(0, 2), Range(-1, 3)])
    assert [result.parameters[index] for index in range(3)] == [
        from_range(Range(-1, 1)),
        from_range(Range(0, 2)),
        from_range(Range(-1, 3)),
    ]
    assert result.requantized == ()


@pytest.mark.parametrize("name", ["CONCATENATION", "MAXIMUM", "PACK"])
def test_joined_inputs_share_the_union(name):
    result = plan([(name, [0, 1], [2])], [Range(-1, 1), Range(0, 2), Range(-1, 2)])
    assert {result.parameters[index] for index in range(3)} == {from_range(Range(-1, 2))}


def test_groups_reach_through_chains():
    operators = [
        ("RESHAPE", [0], [1]),
        ("MAX_POOL_2D", [1], [2]),
        ("PAD", [3], [4]),
        ("CONCATENATION", [2, 4], [5]),
    ]
    ranges = [Range(0, 1), Range(0, 1), Range(0, 0.5), Range(-4, 0), Range(-4, 0), Range(-4, 0.5)]
    result = plan(operators, ranges)
    assert {result.parameters[index] for index in range(6)} == {from_range(Range(-4, 1))}


@pytest.mark.parametrize(
    ("name", "fixed"),
    [("SOFTMAX", UNIT), ("LOGISTIC", UNIT), ("TANH", SIGNED_UNIT), ("L2_NORMALIZATION", SIGNED_UNIT)],
)
def test_fixed_outputs_stay_fixed_through_reshapes(name, fixed):
    result = plan([(name, [0], [1]), ("RESHAPE", [1], [2])], [Range(-9, 9), Range(0, 0.3), Range(0, 0.3)])
    assert result.parameters[0] == from_range(Range(-9, 9))
    assert result.parameters[1] == result.parameters[2] == fixed


def test_equal_fixed_inputs_are_joined():
    operators = [("LOGISTIC", [0], [1]), ("LOGISTIC", [0], [2]), ("CONCATENATION", [1, 2], [3])]
    result = plan(operators, [Range(-9, 9)] + [Range(0, 0.9)] * 3)
    assert result.parameters[3] == UNIT and result.requantized == ()


def test_a_fixed_input_beside_a_free_one_is_requantized():
    operators = [("LOGISTIC", [0], [1]), ("CONCATENATION", [0, 1], [2])]
    result = plan(operators, [Range(-9, 9), Range(0, 0.9), Range(-9, 9)])
    assert result.parameters[1] == UNIT
    assert result.parameters[0] == result.parameters[2] == from_range(Range(-9, 9))
    assert result.requantized == ((1, 1),)


def test_different_fixed_inputs_are_both_requantized():
    operators = [("LOGISTIC", [0], [1]), ("TANH", [0], [2]), ("CONCATENATION", [1, 2], [3])]
    result = plan(operators, [Range(-9, 9), Range(0, 0.9), Range(-0.9, 0.9), Range(-0.9, 0.9)])
    assert result.requantized == ((2, 0), (2, 1))
    assert result.parameters[3] == from_range(Range(-0.9, 0.9))


def test_a_fixed_input_is_requantized_where_the_output_leaves_its_range():
    """PADV2 with a value that 1/256 steps from 0 to 1 cannot hold."""
    result = plan([("SOFTMAX", [0], [1]), ("PADV2", [1], [2])], [Range(-9, 9), Range(0, 1), Range(-2, 1)])
    assert result.requantized == ((1, 0),)
    assert result.parameters[2] == from_range(Range(-2, 1))


def test_integer_operators_are_passed_over():
    assert plan([("RESHAPE", [], [])], [Range(0, 1)]).requantized == ()
