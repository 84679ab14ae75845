from __future__ import annotations

import numpy as np
import pytest

from converters.folding import FOLD_LIMIT_BYTES, fix_batch
from tests.single_operator import GraphBuilder
from tflnest.errors import TflnestError, UnsupportedError
from tflnest.interpreter import Interpreter
from tflnest.model import Model
from tflnest.schema import runtime


def set_signature(graph, index, signature):
    graph.subgraph.tensors[index].shapeSignature = list(signature)


def flatten(graph, x, size, y):
    """What exporters write for a flatten over an unknown batch: SHAPE, STRIDED_SLICE, PACK, RESHAPE."""
    rank = len(graph.subgraph.tensors[x].shape)
    shape, batch, target = (
        graph.tensor((rank,), "INT32"),
        graph.tensor((), "INT32"),
        graph.tensor((2,), "INT32"),
    )
    graph.operator("SHAPE", [x], [shape], out_type=2)
    bounds = [graph.constant(np.array([value], np.int32)) for value in (0, 1, 1)]
    graph.operator("STRIDED_SLICE", [shape, *bounds], [batch], shrink_axis_mask=1)
    graph.operator("PACK", [batch, graph.constant(np.int32(size))], [target], values_count=2, axis=0)
    graph.operator("RESHAPE", [x, target], [y])


def dynamic_model(type_name="INT8", scale=0.5):
    graph = GraphBuilder()
    x = graph.input((1, 2, 3), type_name, scale)
    kept = graph.tensor((1, 2, 3), type_name, scale)
    y = graph.tensor((1, 6), type_name, scale)
    graph.operator("RELU", [x], [kept])
    flatten(graph, kept, 6, y)
    for index, signature in ((x, (-1, 2, 3)), (kept, (-1, 2, 3)), (y, (-1, 6))):
        set_signature(graph, index, signature)
    return Model.from_bytes(graph.build([y]))


@pytest.mark.parametrize(("type_name", "scale"), [("INT8", 0.5), ("FLOAT32", None)])
def test_shape_arithmetic_becomes_a_constant(type_name, scale):
    model = dynamic_model(type_name, scale)
    fixed = fix_batch(model)
    main = fixed.graph.main
    assert [operator.name for operator in main.operators] == ["RELU", "RESHAPE"]
    assert main.tensors[main.operators[1].inputs[1]].data.tolist() == [1, 6]
    assert all(tensor.shape_signature == tensor.shape for tensor in main.tensors)
    assert len(main.tensors) == 4
    assert len(fixed.tree.buffers) == 2
    assert {code.builtinCode for code in fixed.tree.operatorCodes} == {
        model.tree.operatorCodes[0].builtinCode,
        model.tree.operatorCodes[-1].builtinCode,
    }


def test_outputs_are_unchanged_and_the_source_too():
    model = dynamic_model()
    before = model.to_bytes()
    fixed = fix_batch(model)
    assert model.to_bytes() == before
    x = np.arange(-3, 3, dtype=np.int8).reshape(1, 2, 3)
    results = []
    for content in (before, fixed.to_bytes()):
        interpreter = runtime().Interpreter(model_content=content)
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
        interpreter.invoke()
        results.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    ours = Interpreter(model_content=fixed.to_bytes())
    ours.allocate_tensors()
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(np.asarray(ours.run(x)).reshape(1, 6), results[0])


@pytest.mark.shared
@pytest.mark.parametrize(
    "name", ["person_detect", "micro_speech_quantized", "mobilenet_v2_quantized_1x3x224x224"]
)
def test_static_models_come_back_themselves(shared_models, name):
    model = Model.load(shared_models / f"{name}.tflite")
    assert fix_batch(model) is model


@pytest.mark.shared
@pytest.mark.parametrize("name", ["pretrainedResnet", "vww_96_float", "vww_96_int8", "ad01_int8"])
def test_known_batches_lose_nothing(shared_models, name):
    model = Model.load(shared_models / f"{name}.tflite")
    fixed = fix_batch(model)
    before, after = model.graph.main, fixed.graph.main
    assert [item.name for item in after.operators] == [item.name for item in before.operators]
    assert [item.name for item in after.tensors] == [item.name for item in before.tensors]
    assert all(-1 not in item.shape_signature for item in after.tensors)
    for old, new in zip(before.tensors, after.tensors, strict=True):
        assert (old.data is None and new.data is None) or np.array_equal(old.data, new.data)


def test_folding_is_idempotent():
    fixed = fix_batch(dynamic_model())
    assert fix_batch(fixed) is fixed


def test_unknown_dimensions_of_an_input_are_refused():
    graph = GraphBuilder()
    x, y = graph.input((1, 1, 3), scale=1.0), graph.tensor((1, 1, 3), scale=1.0)
    graph.operator("RELU", [x], [y])
    set_signature(graph, x, (-1, -1, 3))
    with pytest.raises(UnsupportedError, match=r"shape \[-1, -1, 3\]: only the batch may be unknown"):
        fix_batch(Model.from_bytes(graph.build([y])))


def test_unknown_dimensions_of_activations_are_found():
    graph = GraphBuilder()
    x, y = graph.input((1, 2, 3), "FLOAT32"), graph.tensor((1, 1), "FLOAT32")
    z = graph.tensor((1, 1), "FLOAT32")
    flatten(graph, x, 6, y)
    graph.operator("RELU", [y], [z])
    for index, signature in ((x, (-1, 2, 3)), (y, (-1, -1)), (z, (-1, -1))):
        set_signature(graph, index, signature)
    main = fix_batch(Model.from_bytes(graph.build([z]))).graph.main
    assert [tensor.shape for tensor in main.output_tensors()] == [(1, 6)]
    assert main.tensors[main.operators[0].outputs[0]].shape == (1, 6)


def test_large_constants_are_not_unfolded():
    graph = GraphBuilder()
    small = graph.constant(np.zeros((1, 1, 1, 1), np.int8), scale=1.0)
    size = FOLD_LIMIT_BYTES
    wide = graph.tensor((1, 2, size // 2 + 1, 1), scale=1.0)
    x, y = graph.input((1, 1, 1, 1), scale=1.0), graph.tensor((1, 2, size // 2 + 1, 1), scale=1.0)
    target = graph.constant(np.array([2, size // 2 + 1], np.int32))
    graph.operator("RESIZE_NEAREST_NEIGHBOR", [small, target], [wide])
    graph.operator("ADD", [x, wide], [y])
    model = Model.from_bytes(graph.build([y]))
    assert fix_batch(model) is model


def test_a_model_that_ignores_its_input_is_refused():
    graph = GraphBuilder()
    x = graph.input((1, 2), scale=1.0)
    shape = graph.tensor((2,), "INT32")
    graph.operator("SHAPE", [x], [shape], out_type=2)
    with pytest.raises(TflnestError, match="every operator of the model is constant"):
        fix_batch(Model.from_bytes(graph.build([x])))
