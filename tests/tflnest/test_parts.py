"""What the levels of a nested operator bring, and where it lies."""

from __future__ import annotations

import numpy as np
import pytest

from tests.models import every_layout, operators_of
from tflnest.nested import nested_operators
from tflnest.parts import Layout, Part


def test_a_level_brings_what_none_below_has():
    layout = Layout(3, (16, 8, 8), biases=(0, 0, 1), sets=(0, 1, 0), is_separate=False)
    assert [layout.brings_bias(position) for position in range(3)] == [True, False, True]
    assert [layout.brings_set(position) for position in range(3)] == [True, True, False]
    assert layout.constants(0) == {12 + 5: 1, 12 + 15: 3}
    assert layout.constants(1) == {5: 1, 15: 3}
    assert layout.constants(2) == {12: 0}
    assert Layout(3, (16, 8), (0, 0), (0, 0), False).constants(1) == {}


def test_one_channel_has_one_multiplier():
    assert Layout(1, (16,), (0,), (0,), False).constants(0) == {4 + 5: 1}


@pytest.mark.parametrize(("dtype", "values"), [("<i4", [-2, 70000]), ("i1", [-2, -1, -1, -1, 112, 17, 1, 0])])
def test_values_are_those_of_their_bytes(dtype, values):
    content = np.frombuffer(b"\7\7\7" + np.array([-2, 70000], "<i4").tobytes() + b"\7", np.uint8)
    assert Part(0, 3, 8).values(content, dtype).tolist() == values


def test_parts_lie_one_behind_the_other_and_fill_their_tensors():
    model = every_layout()
    tensors = model.graph.main.tensors
    for operator in operators_of(model):
        parts = {
            part
            for kind in (operator.planes, operator.biases, operator.multipliers, operator.shifts)
            for part in kind
        }
        for index in operator.operator.inputs[1:]:
            at = 0
            for part in sorted(
                (part for part in parts if part.tensor == index), key=lambda part: part.offset
            ):
                assert part.offset == at
                at += part.size
            assert at == tensors[index].size


def test_operators_that_share_a_filter_share_its_planes_alone():
    (_, first), (_, second), *others = nested_operators(every_layout().graph)
    assert first.planes == second.planes
    assert not {*first.biases, *first.shifts} & {*second.biases, *second.shifts}
    for _, operator in others:
        assert operator.biases[0].tensor == operator.planes[0].tensor
        assert operator.biases[0].offset == operator.planes[0].size
