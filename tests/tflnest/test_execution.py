from __future__ import annotations

import numpy as np
import pytest

from tests.single_operator import GraphBuilder
from tflnest.errors import FormatError, UnsupportedError
from tflnest.execution import MAX_ACTIVATION_BYTES, Program, check_dataflow
from tflnest.graph import Operator, Subgraph, Tensor
from tflnest.interpreter import Interpreter


def tensor(index: int, shape: tuple[int, ...] = (1, 2), **fields: object) -> Tensor:
    return Tensor(index, f"t{index}", shape, shape, "INT8", None, 0, **fields)


def subgraph(
    operators: list[tuple[tuple[int, ...], tuple[int, ...]]], tensors: list[Tensor], **ends: tuple
) -> Subgraph:
    made = tuple(Operator(n, "RELU", 1, inputs, outputs, {}) for n, (inputs, outputs) in enumerate(operators))
    return Subgraph(0, "main", tuple(tensors), made, ends.get("inputs", (0,)), ends.get("outputs", ()))


def test_sound_dataflow_is_accepted() -> None:
    constant = tensor(3, data=np.zeros((1, 2), np.int8))
    tensors = [tensor(0), tensor(1), tensor(2), constant, tensor(4, is_variable=True)]
    check_dataflow(subgraph([((0, 3, -1), (1,)), ((1, 4), (2,))], tensors, outputs=(2, 0)))


@pytest.mark.parametrize(
    ("operators", "outputs", "message"),
    [
        ([((1,), (2,))], (2,), r"operator 0 \(RELU\) reads tensor 1 \('t1'\), which is neither"),
        ([((1,), (2,)), ((0,), (1,))], (2,), r"operator 0 \(RELU\) reads tensor 1"),
        ([((1,), (1,))], (1,), r"reads tensor 1"),
        ([((0,), (1,)), ((0,), (1,))], (1,), r"operator 1 \(RELU\) writes tensor 1 .* has a value already"),
        ([((0,), (0,))], (0,), r"writes tensor 0"),
        ([((0,), (3,))], (), r"writes tensor 3"),
        ([((0,), (1,))], (2,), r"no operator writes the model's output, tensor 2"),
    ],
)
def test_broken_dataflow_is_refused(operators: list, outputs: tuple[int, ...], message: str) -> None:
    tensors = [tensor(0), tensor(1), tensor(2), tensor(3, data=np.zeros((1, 2), np.int8))]
    with pytest.raises(FormatError, match=message):
        check_dataflow(subgraph(operators, tensors, outputs=outputs))


def test_large_tensors_are_refused_before_anything_is_allocated() -> None:
    tensors = [tensor(0), tensor(1, (1, MAX_ACTIVATION_BYTES + 1))]
    with pytest.raises(
        UnsupportedError,
        match=r"the activations take 1,073,741,827 bytes, the largest is tensor 1 .*; up to 1,073,741,824 are",
    ):
        Program(subgraph([((0,), (1,))], tensors, outputs=(1,)), lambda *_: pytest.fail("prepared"))


def dynamic_flatten() -> tuple[bytes, int, int]:
    """RELU, then SHAPE, STRIDED_SLICE, PACK and RESHAPE: how Keras flattens an unknown number of samples."""
    builder = GraphBuilder()
    x = builder.input((1, 2, 3), "INT8", 0.1, 0)
    relu = builder.tensor((1, 2, 3), "INT8", 0.1)
    shape, first, target = (builder.tensor(s, "INT32") for s in ((3,), (), (2,)))
    flat = builder.tensor((1, 6), "INT8", 0.1)
    begin, end, step = (builder.constant(np.array([value], np.int32)) for value in (0, 1, 1))
    builder.operator("RELU", [x], [relu])
    builder.operator("SHAPE", [relu], [shape], out_type=2)
    builder.operator("STRIDED_SLICE", [shape, begin, end, step], [first], shrink_axis_mask=1)
    builder.operator(
        "PACK", [first, builder.constant(np.array(6, np.int32))], [target], values_count=2, axis=0
    )
    builder.operator("RESHAPE", [relu, target], [flat])
    return builder.build([flat]), target, flat


def test_constant_operators_are_folded() -> None:
    content, target, flat = dynamic_flatten()
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    assert interpreter.get_tensor(target).tolist() == [1, 6]
    program = interpreter._program
    assert program is not None
    assert [step.operator.name for step in program.steps] == ["RELU", "RESHAPE"]
    assert program.batchable
    x = np.arange(-9, 9, dtype=np.int8).reshape(3, 2, 3)
    np.testing.assert_array_equal(interpreter.run(x), np.maximum(x, 0).reshape(3, 6))
    interpreter.set_tensor(0, x[:1])
    interpreter.invoke()
    np.testing.assert_array_equal(interpreter.get_tensor(flat), np.maximum(x[:1], 0).reshape(1, 6))


def test_a_constant_output_is_repeated_for_every_sample() -> None:
    builder = GraphBuilder()
    x = builder.input((1, 2), "INT8", 0.1, 0)
    shape, relu = builder.tensor((2,), "INT32"), builder.tensor((1, 2), "INT8", 0.1)
    builder.operator("SHAPE", [x], [shape], out_type=2)
    builder.operator("RELU", [x], [relu])
    outputs = Interpreter(model_content=builder.build([relu, shape])).run(np.full((3, 2), -5, np.int8))
    assert [output.tolist() for output in outputs] == [[[0, 0]] * 3, [1, 2] * 3]


def test_wrong_shapes_in_the_file_are_refused() -> None:
    builder = GraphBuilder()
    x = builder.input((1, 4), "INT8", 0.1, 0)
    y = builder.tensor((1, 3), "INT8", 0.1)
    builder.operator("RELU", [x], [y])
    interpreter = Interpreter(model_content=builder.build([y]))
    with pytest.raises(FormatError, match="RELU"):
        interpreter.allocate_tensors()
        interpreter.invoke()
