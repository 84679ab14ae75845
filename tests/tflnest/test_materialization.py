"""Levels written back as stock models."""

from __future__ import annotations

import numpy as np
import pytest

from converters.planning import plan_nesting, round_filters
from tests.models import (
    NetworkBuilder,
    add_offline_plan,
    buffer_offsets,
    everything,
    nested,
    network,
    plain,
    random_inputs,
)
from tests.shared import INT8_MODELS
from tflnest import materialization
from tflnest.errors import UnsupportedError, UsageError
from tflnest.interpreter import Interpreter
from tflnest.materialization import materialize
from tflnest.model import Model, opcode_index, pack_tree


def essence(model: Model) -> list[object]:
    """What a runtime reads: operators with options, and type, shape, data and activation scales of their tensors."""
    parts: list[object] = []
    for subgraph in model.graph.subgraphs:
        for operator in subgraph.operators:
            parts.append((operator.name, operator.version, dict(operator.options)))
            for tensor in (subgraph.tensors[i] for i in (*operator.inputs, *operator.outputs) if i >= 0):
                data = None if tensor.data is None else tensor.data.tobytes()
                parts.append((tensor.type, tensor.shape, data, tensor.quantization if data is None else None))
    return parts


@pytest.mark.parametrize("scheme", ["bucket", "compensated"])
def test_the_full_bit_level_is_the_source_again(scheme):
    source = network()
    full = materialize(nested(source, everything((4, 6, 8), scheme)))
    assert essence(full) == essence(source)
    assert [t.name for t in full.graph.main.tensors if t.name] == [
        t.name for t in source.graph.main.tensors if t.name and not t.name.endswith("/bias")
    ]
    assert full.directory is None
    assert full.graph.metadata == source.graph.metadata
    assert full.graph.signatures[0].key == "serve"


@pytest.mark.parametrize("scheme", ["bucket", "compensated"])
@pytest.mark.parametrize("level", [4, 6, 8])
def test_a_level_computes_what_the_nested_model_computes_there(scheme, level):
    model = nested(network(), everything((4, 6, 8), scheme))
    x = random_inputs(model, 4)
    expected = Interpreter(model=model, level=level).run(x)
    np.testing.assert_array_equal(Interpreter(model=materialize(model, level)).run(x), expected)


@pytest.mark.parametrize("level", [3, 5, 8])
def test_the_filters_of_a_level_are_the_rounded_ones(level):
    source = network()
    recipe = everything((3, 5, 8))
    rounded = {
        item.plan.tensor.name: item.levels[(3, 5, 8).index(level)]
        for item in round_filters(plan_nesting(source.graph, recipe), 0)
    }
    graph = materialize(nested(source, recipe), level).graph
    found = {tensor.name: tensor.data for tensor in graph.main.tensors if tensor.name in rounded}
    assert sorted(found) == sorted(rounded)
    for name, values in rounded.items():
        np.testing.assert_array_equal(found[name], values)


def test_materialized_files_are_aligned_small_and_reproducible():
    source = network()
    model = nested(source)
    for level in (4, 6, 8):
        content = materialize(model, level).to_bytes()
        assert all(offset % 16 == 0 for offset in buffer_offsets(content))
        assert len(content) <= len(source.to_bytes())
        assert materialize(model, level).to_bytes() == content


def test_the_nested_model_is_not_changed():
    model = nested(network())
    before, tree = model.to_bytes(), plain(model.tree)
    materialize(model, 4)
    assert model.to_bytes() == before
    assert plain(model.tree) == tree


def test_a_materialized_model_can_be_nested_again():
    model = nested(network())
    again = nested(materialize(model, 8))
    x = random_inputs(model, 3)
    for level in (4, 8):
        np.testing.assert_array_equal(
            Interpreter(model=again, level=level).run(x), Interpreter(model=model, level=level).run(x)
        )


def test_wrong_levels_and_plain_models():
    with pytest.raises(UsageError, match="the model is not nested"):
        materialize(network())
    with pytest.raises(UsageError, match="the model has no level 5, it has 4, 6, 8"):
        materialize(nested(network()), 5)


def test_a_shared_filter_stays_shared_and_a_shared_bias_is_divided_where_it_must():
    net = NetworkBuilder()
    x = net.start((1, 4, 4, 8))
    weights, bias = net.filter((8, 1, 1, 8), name="shared"), net.bias(8, "bias")
    y = net.convolution(x, 8, kernel=1, weights=weights, bias=bias)
    y = net.convolution(y, 8, kernel=1, weights=weights, bias=bias)
    y = net.convolution(y, 8, kernel=1, bias=bias, name="own")
    source = net.finish(y)
    model = nested(source)
    x_values = random_inputs(source, 3)
    for level in (4, 8):
        stock = materialize(model, level)
        operators = stock.graph.main.operators
        assert operators[0].inputs[1] == operators[1].inputs[1] != operators[2].inputs[1]
        np.testing.assert_array_equal(
            Interpreter(model=stock).run(x_values), Interpreter(model=model, level=level).run(x_values)
        )
    np.testing.assert_array_equal(
        Interpreter(model=materialize(model)).run(x_values), Interpreter(model=source).run(x_values)
    )


def test_a_plane_that_a_stock_operator_reads_as_well_is_not_overwritten():
    model = nested(network()).copy()
    subgraph = model.tree.subgraphs[0]
    plane = int(subgraph.operators[0].inputs[-3])
    subgraph.outputs = [*subgraph.outputs, plane]
    model.changed()
    model = Model.from_bytes(model.to_bytes())
    before = model.graph.main.output_tensors()[-1].data.tobytes()
    stock = materialize(model, 8)
    assert stock.graph.main.output_tensors()[-1].data.tobytes() == before
    x = random_inputs(model, 2)
    np.testing.assert_array_equal(Interpreter(model=stock).run(x)[0], Interpreter(model=model).run(x)[0])


def test_an_offline_plan_stays_in_step():
    source = network().copy()
    offsets = [16 * number for number in range(len(source.tree.subgraphs[0].tensors))]
    add_offline_plan(source.tree, offsets)
    source = Model.from_bytes(pack_tree(source.tree))
    for level in (4, 8):
        stock = materialize(nested(source), level)
        words = np.frombuffer(stock.graph.metadata["OfflineMemoryAllocation"], "<i4")
        names = {tensor.name: offsets[tensor.index] for tensor in source.graph.main.tensors}
        assert words[2] == len(words) - 3 == len(stock.graph.main.tensors)
        for tensor, offset in zip(stock.graph.main.tensors, words[3:], strict=True):
            if tensor.name:
                assert offset == names[tensor.name]


def test_filters_that_decode_to_too_much_are_refused(monkeypatch):
    model = nested(network())
    monkeypatch.setattr(materialization, "MAX_WEIGHTS", 1000)
    with pytest.raises(UnsupportedError, match=r"have \d,\d+ weights, up to 1,000 are supported"):
        materialize(model)


def test_a_custom_operator_of_the_same_model_is_left_alone():
    source = network().copy()
    subgraph = source.tree.subgraphs[0]
    operator = subgraph.operators[4]  # RESHAPE
    operator.opcodeIndex = opcode_index(source.tree, "VendorOp", version=7, custom=True)
    operator.builtinOptionsType, operator.builtinOptions = 0, None
    operator.customOptions = np.arange(5, dtype=np.uint8)
    source = Model.from_bytes(pack_tree(source.tree))
    stock = materialize(nested(source)).graph.main.operators[4]
    assert (stock.name, stock.version, stock.options["custom_options"]) == ("VendorOp", 7, bytes(range(5)))


@pytest.mark.shared
@pytest.mark.parametrize("name", INT8_MODELS)
def test_public_models_come_back_from_their_nested_form(shared_models, name):
    source = Model.load(shared_models / f"{name}.tflite")
    full = materialize(nested(source))
    assert essence(full) == essence(source)
