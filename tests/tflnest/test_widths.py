"""What widths cost: bit operations, shifts, and who ran with which."""

from __future__ import annotations

import numpy as np

from tests.controllers import controlled
from tests.models import everything, nested, network, random_inputs
from tflnest.interpreter import Interpreter
from tflnest.materialization import materialize
from tflnest.widths import Widths, bit_operations, multiply_accumulates, weighted_operators


def test_operators_are_counted_alike_nested_and_not() -> None:
    model = nested(network(), everything())
    ours, stock = (weighted_operators(item.graph.main) for item in (model, materialize(model)))
    assert [(item.index, item.macs, item.weights, item.activations) for item in ours] == [
        (item.index, item.macs, item.weights, item.activations) for item in stock
    ]
    # stem 3x3x3 -> 16 on 8x8, depthwise 3x3 on 4x4x16, 1x1x16 -> 24, grouped 3x3x12 -> 16 on 2x2, 64 -> 10
    assert [item.macs for item in ours] == [27648, 2304, 6144, 6912, 640]
    assert [item.weights for item in ours] == [432, 144, 384, 1728, 640]
    assert [item.activations for item in ours] == [192, 1024, 256, 384, 64]
    main = model.graph.main
    assert multiply_accumulates(main, main.operators[0]) == 27648


def test_bit_operations_by_hand() -> None:
    assert bit_operations(3, 4, 8) == 96
    assert bit_operations([100, 300], np.array([[2, 8], [8, 127]], np.int8), np.int8(127)).tolist() == [
        [25400, 304800],
        [101600, 4838700],
    ]


def test_a_static_level_costs_its_widths() -> None:
    model = nested(network(), everything())
    interpreter = Interpreter(model=model, level=4)
    interpreter.run(random_inputs(model, 3))
    widths = interpreter.widths
    assert widths.bit_operations().tolist() == [43648 * 4 * 8] * 3
    assert widths.narrowed_activations().tolist() == [0] * 3
    assert widths.narrowed_weights().tolist() == [3328] * 3
    assert widths.distribution() == [{(4, 8): 1.0}] * 5


def test_rows_are_counted_one_by_one() -> None:
    operators = weighted_operators(nested(network(), everything()).graph.main)[:2]
    widths = Widths(
        operators,
        np.array([0, 1, 1]),
        np.array([[4, 8], [8, 8], [2, 6]], np.int8),
        np.array([[8, 8], [4, 8], [2, 1]], np.int8),
        np.zeros((3, 2), bool),
    )
    assert widths.bit_operations().tolist() == [
        27648 * 32 + 2304 * 64,
        27648 * 32 + 2304 * 64,
        27648 * 4 + 2304 * 6,
    ]
    assert widths.narrowed_activations().tolist() == [0, 192, 192 + 1024]
    assert widths.narrowed_weights().tolist() == [432, 0, 432 + 144]
    assert widths.distribution()[0] == {(2, 2): 1 / 3, (4, 8): 1 / 3, (8, 4): 1 / 3}
    assert widths.of_samples(np.array([7, 9])).samples.tolist() == [7, 9, 9]
    assert len(Widths.joined([widths, widths]).samples) == 6


def test_a_controller_is_counted_with_what_it_controls() -> None:
    model = controlled()
    interpreter = Interpreter(model=model, policy="dynamic")
    interpreter.run(random_inputs(model, 2))
    widths = interpreter.widths
    inner = [item for item in widths.operators if item.index >= 6]
    assert [item.macs for item in inner] == [16 * 16, 16 * 12]
    macs = np.array([item.macs for item in widths.operators])
    expected = (widths.weight_bits.astype(int) * widths.activation_bits * macs).sum(axis=1)
    assert np.array_equal(widths.bit_operations(), expected)
