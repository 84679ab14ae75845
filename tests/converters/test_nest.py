"""Nested files: what stays, what is dropped, where everything lies."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from converters.nest import GROUPED_BYTES, drop_names, nest
from converters.parameters import LevelParameters, source_parameters
from converters.planning import plan_nesting, round_filters
from converters.recipe import Recipe, Rule, load_recipe, parse_recipe
from tests.models import (
    NetworkBuilder,
    add_offline_plan,
    add_raw_metadata,
    buffer_offsets,
    everything,
    nested,
    network,
    operators_of,
    plain,
    random_inputs,
)
from tests.shared import INT8_MODELS
from tflnest.interpreter import Interpreter
from tflnest.materialization import materialize
from tflnest.model import Model, opcode_index, pack_tree, set_metadata
from tflnest.packing import packed_bytes
from tflnest.schema import schema


def edited(change) -> Model:
    """The network after a change of its tree."""
    model = network().copy()
    change(model.tree)
    return Model.from_bytes(pack_tree(model.tree))


@pytest.mark.parametrize("preset", ["default", "uniform", "compensated"])
def test_the_same_input_gives_the_same_bytes(preset):
    recipe = load_recipe(preset)
    assert nested(network(), recipe).to_bytes() == nested(network(), recipe).to_bytes()


def test_the_source_is_not_changed():
    source = network()
    content, tree = source.to_bytes(), plain(source.tree)
    nested(source)
    assert source.to_bytes() == content
    assert plain(source.tree) == tree


@pytest.mark.parametrize("preset", ["default", "uniform", "compensated"])
def test_every_buffer_lies_at_a_multiple_of_16(preset):
    offsets = list(buffer_offsets(nested(network(), load_recipe(preset)).to_bytes()))
    assert len(offsets) > 10
    assert all(offset % 16 == 0 for offset in offsets)


def test_tensors_keep_their_positions_and_new_ones_are_appended():
    source = network()
    model = nested(source)
    old, new = source.graph.main.tensors, model.graph.main.tensors
    assert len(new) > len(old)
    for before, after in zip(old, new, strict=False):
        if not before.is_constant:
            assert after == before
        if before.name.endswith("/weights"):
            assert (after.name, after.type) == (before.name, "UINT8")
    assert model.graph.main.inputs == source.graph.main.inputs
    assert model.graph.main.outputs == source.graph.main.outputs


def test_planes_take_exactly_the_bits_of_their_weights():
    """No extra bit: all planes of a `bucket` filter take what int8 takes, up to padding to whole groups."""
    for operator in operators_of(nested(network())):
        planes = operator.nesting.planes
        total = sum(packed_bytes(operator.weights, plane.bits) for plane in planes)
        padded = -(-operator.weights // 32) * 32
        assert operator.weights <= total <= padded
        if operator.weights % 32 == 0:
            assert total == operator.weights


def test_pages_hold_the_planes_and_biases_of_their_level():
    model = nested(network())
    pages = [{segment.buffer for segment in page.segments} for page in model.directory.pages]
    tensors = model.graph.main.tensors
    for operator in operators_of(model):
        for position in range(3):
            assert tensors[operator.planes[position].tensor].buffer in pages[position]
        for part in (*operator.multipliers, *operator.shifts):
            assert tensors[part.tensor].buffer in pages[0]
    constants = {tensor.buffer for tensor in tensors if tensor.is_constant}
    assert set().union(*pages) == constants
    assert sum(len(page) for page in pages) == len(constants)


def test_equal_contents_are_stored_once():
    """All levels have the source's bias here: one buffer, in the base page."""
    model = nested(network())
    tensors = model.graph.main.tensors
    for operator in operators_of(model):
        assert len(set(operator.biases)) == len(set(operator.multipliers)) == 1
    main = model.graph.main
    named = {index for operator in main.operators for index in (*operator.inputs, *operator.outputs)}
    assert named == set(range(len(tensors)))  # no place is left empty


def test_biases_that_differ_lie_in_the_pages_of_their_levels():
    source = network()
    recipe = everything()
    filters = round_filters(plan_nesting(source.graph, recipe), 0)
    parameters = {
        place: [LevelParameters(level.bias + 7 * number) for number, level in enumerate(levels)]
        for place, levels in source_parameters(source.graph, filters).items()
    }
    model = nest(source, filters, parameters, recipe)
    pages = [{segment.buffer for segment in page.segments} for page in model.directory.pages]
    tensors = model.graph.main.tensors
    for operator in operators_of(model):
        for position, part in enumerate(operator.biases):
            assert tensors[part.tensor].buffer in pages[position]
            np.testing.assert_array_equal(
                part.values(tensors[part.tensor].data, "<i4"),
                parameters[0, operator.operator.index][position].bias,
            )
        stock = source.graph.main.operators[operator.operator.index]
        assert stock.inputs[2] in operator.operator.inputs  # a level takes the place of the source's bias


def test_scales_that_differ_are_requantization_sets_in_the_pages_of_their_levels():
    """One set per distinct vector of scales; the full-bit level stays the source, and every level its own twin."""
    source = network()
    recipe = everything()
    filters = round_filters(plan_nesting(source.graph, recipe), 0)
    parameters = source_parameters(source.graph, filters)
    for (_, index), levels in parameters.items():
        scales = source.graph.main.tensors[source.graph.main.operators[index].inputs[1]].quantization.scale
        levels[1] = LevelParameters(levels[1].bias, np.float32(1.25) * scales)
    model = nest(source, filters, parameters, recipe)
    pages = [{segment.buffer for segment in page.segments} for page in model.directory.pages]
    main = model.graph.main
    for operator in operators_of(model):
        assert operator.multipliers[0] == operator.multipliers[2] != operator.multipliers[1]
        assert main.tensors[operator.multipliers[0].tensor].buffer in pages[0]
        assert main.tensors[operator.multipliers[1].tensor].buffer in pages[1]
        stock = materialize(model, 6).graph.main.operators[operator.operator.index]
        scales = source.graph.main.tensors[source.graph.main.operators[stock.index].inputs[1]]
        got = materialize(model, 6).graph.main.tensors[stock.inputs[1]].quantization.scale
        np.testing.assert_allclose(got, np.float32(1.25) * scales.quantization.scale, rtol=1e-6)
    x = random_inputs(source, 3)
    np.testing.assert_array_equal(Interpreter(model=model).run(x), Interpreter(model=source).run(x))
    for level in (4, 6):
        expected = Interpreter(model=materialize(model, level)).run(x)
        np.testing.assert_array_equal(Interpreter(model=model, level=level).run(x), expected)


def test_the_recipe_is_stored():
    recipe = parse_recipe('extends = "default"\nlevels = [5, 8]\n[[rules]]\nscope = "ü"\nflat = true\n')
    assert parse_recipe(nested(network(), recipe).directory.recipe) == recipe


def test_unknown_metadata_descriptions_and_signatures_stay():
    def change(tree):
        tree.description = "keep me"
        add_raw_metadata(tree, "vendor", bytes(range(200)))
        add_raw_metadata(tree, "empty", b"")

    source = edited(change)
    graph = nested(source).graph
    assert graph.description == "keep me"
    assert {
        name: content for name, content in graph.metadata.items() if name != "TFLNEST"
    } == source.graph.metadata
    assert graph.signatures == source.graph.signatures


def test_old_operator_codes_stay_as_they_are():
    def change(tree):
        code = tree.operatorCodes[tree.subgraphs[0].operators[4].opcodeIndex]  # RESHAPE
        code.builtinCode, code.deprecatedBuiltinCode = 0, 22

    model = nested(edited(change))
    codes = [
        (code.builtinCode, code.deprecatedBuiltinCode, code.customCode) for code in model.tree.operatorCodes
    ]
    assert (0, 22, None) in codes
    assert model.graph.main.operators[4].name == "RESHAPE"


def test_custom_operators_and_other_subgraphs_stay():
    def change(tree):
        module = schema()
        second = module.SubGraphT()
        second.name, second.inputs, second.outputs = "second", [0], [0]
        tensor = module.TensorT()
        tensor.name, tensor.shape = "x", [2]
        operator = module.OperatorT()
        operator.opcodeIndex = opcode_index(tree, "VendorOp", version=3, custom=True)
        operator.inputs, operator.outputs = [0], [0]
        operator.customOptions = np.arange(9, dtype=np.uint8)
        second.tensors, second.operators = [tensor], [operator]
        tree.subgraphs.append(second)

    source = edited(change)
    model = nested(source)
    assert plain(model.tree.subgraphs[1].operators[0].customOptions) == plain(np.arange(9, dtype=np.uint8))
    operator = model.graph.subgraphs[1].operators[0]
    assert (operator.name, operator.version, operator.is_custom) == ("VendorOp", 3, True)


def test_filters_in_a_second_subgraph_are_nested():
    def change(tree):
        other = network(1).tree
        base = len(tree.buffers)
        tree.buffers += other.buffers
        for tensor in other.subgraphs[0].tensors:
            tensor.buffer += base
        tree.subgraphs.append(other.subgraphs[0])

    source = edited(change)
    model = nested(source)
    assert len(operators_of(model)) == 10
    again = materialize(model)
    for before, after in zip(source.graph.subgraphs, again.graph.subgraphs, strict=True):
        for tensor in before.tensors:
            if tensor.name.endswith("/weights"):
                twin = next(item for item in after.tensors if item.name == tensor.name)
                np.testing.assert_array_equal(twin.data, tensor.data)


def test_the_offline_plan_covers_the_new_tensors():
    offsets = list(range(0, 16 * len(network().graph.main.tensors), 16))
    model = nested(edited(lambda tree: add_offline_plan(tree, offsets)))
    words = np.frombuffer(model.graph.metadata["OfflineMemoryAllocation"], "<i4").tolist()
    count = len(model.graph.main.tensors)
    assert words == [1, 0, count, *offsets, *[-1] * (count - len(offsets))]


@pytest.mark.parametrize("content", [b"", b"123", bytes(10)])
def test_an_offline_plan_that_is_none_is_left_as_it_is(content):
    model = nested(edited(lambda tree: set_metadata(tree, "OfflineMemoryAllocation", content)))
    assert model.graph.metadata["OfflineMemoryAllocation"] == content


def test_recorded_ranges_are_dropped_and_scales_kept():
    def change(tree):
        quantization = tree.subgraphs[0].tensors[0].quantization
        quantization.min, quantization.max = [-1.0], [1.0]

    model = nested(edited(change))
    quantization = model.tree.subgraphs[0].tensors[0].quantization
    assert (quantization.min, quantization.max) == (None, None)
    assert model.graph.main.tensors[0].quantization == network().graph.main.tensors[0].quantization


def test_names_can_be_dropped():
    model = nested(network())
    slim = drop_names(model)
    assert len(slim.to_bytes()) < len(model.to_bytes())
    names = [tensor.name for tensor in slim.graph.main.tensors]
    main = model.graph.main
    for index in (*main.inputs, *main.outputs):
        assert names[index] == main.tensors[index].name
    assert "stem/out" not in names
    assert [item.scope for item in operators_of(slim)] == [item.scope for item in operators_of(model)]
    x = random_inputs(model, 2)
    np.testing.assert_array_equal(Interpreter(model=slim).run(x), Interpreter(model=model).run(x))


@pytest.mark.parametrize("scheme", ["bucket", "compensated"])
def test_shared_filters_shared_biases_and_missing_biases(scheme):
    net = NetworkBuilder(3)
    x = net.start((1, 4, 4, 8))
    weights, bias = net.filter((8, 3, 3, 8), name="shared"), net.bias(8, "bias")
    y = net.convolution(x, 8, weights=weights, bias=bias)
    y = net.convolution(y, 8, weights=weights, bias=-1)
    y = net.convolution(y, 8, bias=bias, name="own")
    y = net.convolution(y, 8, groups=4, bias=-1, name="grouped")
    source = net.finish(y)
    model = nested(source, everything((4, 6, 8), scheme))
    first, second, third, grouped = operators_of(model)
    assert first.planes == second.planes != third.planes
    assert grouped.filter_shape == (8, 3, 3, 2)
    tensors = model.graph.main.tensors
    for part in (*second.biases, *grouped.biases):
        assert not part.values(tensors[part.tensor].data, "<i4").any()
    separate = [len(item.operator.inputs) - 4 for item in (first, second, third, grouped)]
    assert separate == [1, 1, 0, 0]  # one bias and one set in a tensor of their own
    x = random_inputs(source, 4)
    np.testing.assert_array_equal(Interpreter(model=model).run(x), Interpreter(model=source).run(x))
    for level in (4, 6):
        expected = Interpreter(model=materialize(model, level)).run(x)
        np.testing.assert_array_equal(Interpreter(model=model, level=level).run(x), expected)


def test_equal_filters_are_stored_once():
    """Two tensors of equal content, with biases of their own, share their planes."""
    net = NetworkBuilder(3)
    x = net.start((1, 4, 4, 8))
    weights = net.filter((8, 3, 3, 8), name="first")
    tensor = net.subgraph.tensors[weights]
    twin = net.constant(np.zeros((8, 3, 3, 8), np.int8), tensor.quantization.scale, 0, 0)
    net.subgraph.tensors[twin].buffer = tensor.buffer
    y = net.convolution(net.convolution(x, 8, weights=weights), 8, weights=twin, name="second")
    source = net.finish(y)
    model = nested(source, everything((4, 6, 8)))
    first, second = operators_of(model)
    tensors = model.graph.main.tensors
    for part, other in zip(first.planes, second.planes, strict=True):
        assert tensors[part.tensor].buffer == tensors[other.tensor].buffer
    assert first.biases != second.biases
    x = random_inputs(source, 2)
    np.testing.assert_array_equal(Interpreter(model=model).run(x), Interpreter(model=source).run(x))


def test_a_model_with_nothing_to_nest_has_one_full_base_page():
    recipe = Recipe(levels=(4, 8), rules=(Rule(flat=True),))
    source = network()
    model = nested(source, recipe)
    assert operators_of(model) == []
    assert [page.size > 0 for page in model.directory.pages] == [True, False]
    x = random_inputs(source, 2)
    np.testing.assert_array_equal(Interpreter(model=model, level=4).run(x), Interpreter(model=source).run(x))


@pytest.mark.shared
@pytest.mark.parametrize("name", INT8_MODELS)
def test_public_models_nest_reproducibly_and_aligned(shared_models, name):
    source = Model.load(shared_models / f"{name}.tflite")
    model = nested(source, load_recipe("default"))
    assert nested(source, load_recipe("default")).to_bytes() == model.to_bytes()
    assert all(offset % 16 == 0 for offset in buffer_offsets(model.to_bytes()))
    for operator in operators_of(model):
        stock = source.graph.subgraphs[0].operators[operator.operator.index]
        assert operator.stock == stock.name
    assert set(source.graph.metadata) <= set(model.graph.metadata)


def test_large_buffers_lie_page_by_page() -> None:
    net = NetworkBuilder()
    x = net.start((1, 64))
    for number in range(4):
        x = net.dense(x, 64, name=f"layer_{number}")
    directory = nested(net.finish(x), everything((4, 6, 8))).directory
    pages = [[s for s in page.segments if s.size >= GROUPED_BYTES] for page in directory.pages]
    assert [len(segments) for segments in pages] == [4, 4, 4]
    extents = sorted((min(s.offset for s in page), max(s.offset + s.size for s in page)) for page in pages)
    assert all(end <= start for (_, end), (start, _) in pairwise(extents))
