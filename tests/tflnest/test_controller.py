"""Controllers in nested files: attached, read back, left out, and ignored where nothing needs them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from converters.recipe import Recipe, Rule
from tests.controllers import CHOICES, controlled, controller_model, narrow_levels
from tests.models import add_offline_plan, everything, nested, network, plain, random_inputs
from tflnest.controller import attach, detach, read, stand_alone
from tflnest.controller_entry import METADATA_NAME, Choice, Controller, decode, encode
from tflnest.errors import FormatError, UnsupportedError, UsageError
from tflnest.interpreter import Interpreter
from tflnest.materialization import materialize
from tflnest.model import Model
from tflnest.narrowing import narrowed
from tflnest.pruning import prune


def test_the_entry_is_read_as_it_was_written() -> None:
    controller = Controller(3, 70_000, (4, 9, 300), (Choice(2, 1), Choice(8, 8)))
    assert decode(encode(controller)) == controller
    assert len(encode(controller)) == 32 + 4 * 3 + 4 * 2
    assert controller.logits == 6


def test_a_controller_is_part_of_the_file_and_of_the_base_page() -> None:
    source = nested(network(), everything())
    model = controlled(source)
    controller = read(model)
    assert controller is not None and controller.choices == CHOICES
    assert controller.operators == (1, 2, 3, 5)
    assert len(model.graph.subgraphs) == 2 == len(source.graph.subgraphs) + 1
    assert read(source) is None
    assert model.directory is not None and source.directory is not None
    assert [page.size for page in model.directory.pages[1:]] == [
        page.size for page in source.directory.pages[1:]
    ]
    constants = {tensor.buffer for tensor in model.graph.subgraphs[1].tensors if tensor.is_constant}
    assert constants <= {segment.buffer for segment in model.directory.pages[0].segments}
    assert Model.from_bytes(model.to_bytes()).controller == controller
    assert plain(model.tree.subgraphs[0].operators) == plain(source.tree.subgraphs[0].operators)


def test_levels_are_what_they_were_without_a_controller() -> None:
    source = nested(network(), everything())
    model, x = controlled(source), random_inputs(source, 4)
    for level in (4, 6, 8):
        expected = Interpreter(model=source, level=level).run(x)
        assert np.array_equal(Interpreter(model=model, level=level).run(x), expected)
        assert np.array_equal(Interpreter(model=model, level=level, engine="native").run(x), expected)


def test_a_level_reads_its_activations_at_its_bits() -> None:
    source = nested(network(), everything())
    model, x = narrow_levels(source, (3, 5, 8)), random_inputs(source, 6)
    full, low = (Interpreter(model=item, level=4) for item in (source, model))
    full.allocate_tensors()
    low.allocate_tensors()
    place = full.get_input_details()[0]["index"]
    full.set_tensor(place, narrowed(x[:1], 3))
    low.set_tensor(place, x[:1])
    full.invoke()
    low.invoke()
    first = model.graph.main.operators[0].outputs[0]
    assert np.array_equal(low.get_tensor(first), full.get_tensor(first))
    assert not np.array_equal(low.run(x), Interpreter(model=source, level=4).run(x))
    for level in (4, 6, 8):
        expected = Interpreter(model=model, level=level).run(x)
        assert np.array_equal(Interpreter(model=model, level=level, engine="native").run(x), expected)
    assert np.array_equal(expected, Interpreter(model=source).run(x))


def test_materialize_leaves_the_controller_out() -> None:
    source = nested(network(), everything())
    model = controlled(source)
    for level in (4, 8):
        slim, expected = materialize(model, level), materialize(source, level)
        assert METADATA_NAME not in slim.graph.metadata and len(slim.graph.subgraphs) == 1
        assert [vars(item) for item in slim.graph.main.operators] == [
            vars(item) for item in expected.graph.main.operators
        ]
        assert len(slim.to_bytes()) == len(expected.to_bytes())


def test_a_detached_controller_leaves_nothing_behind() -> None:
    source = nested(network(), everything())
    assert detach(controlled(source)).to_bytes() == source.to_bytes()
    assert detach(source) is source
    with pytest.raises(UsageError, match="not nested"):
        detach(network())


def test_the_controller_stands_alone_as_it_was_given() -> None:
    source = nested(network(), everything())
    main = source.graph.main
    stem = main.tensors[main.operators[0].outputs[0]]
    given = controller_model(stem, 6)
    model = attach(source, given.to_bytes(), stem.index, [1, 2], CHOICES)
    alone, x = stand_alone(model), random_inputs(given, 5)
    assert alone.directory is None and len(alone.graph.subgraphs) == 1
    assert np.array_equal(Interpreter(model=alone).run(x), Interpreter(model=given).run(x))
    with pytest.raises(UsageError, match="no controller"):
        stand_alone(source)


def test_the_first_of_equal_logits_is_chosen() -> None:
    controller = Controller(1, 0, (1, 2), (Choice(4), Choice(6), Choice(8)))
    logits = np.array([[[5, 5, 1, -3, 7, 7]], [[-128, -128, -128, 0, 1, 2]]], np.int8)
    assert controller.chosen(logits).tolist() == [[0, 1], [0, 2]]


def test_pruning_keeps_the_stem() -> None:
    source = controlled()
    model = source.copy()
    stem = source.graph.main.tensors[source.controller.stem]
    subgraph = model.tree.subgraphs[0]
    extra = type(subgraph.tensors[0])()
    subgraph.tensors.insert(0, extra)
    for owner in (subgraph, *subgraph.operators):
        owner.inputs = [int(index) + 1 for index in owner.inputs]
        owner.outputs = [int(index) + 1 for index in owner.outputs]
    for item in model.tree.signatureDefs[0].inputs + model.tree.signatureDefs[0].outputs:
        item.tensorIndex += 1
    moved = replace(source.controller, stem=source.controller.stem + 1)
    entry = next(item for item in model.tree.metadata if item.name in (METADATA_NAME, METADATA_NAME.encode()))
    model.tree.buffers[entry.buffer].data = np.frombuffer(encode(moved), np.uint8)
    prune(model.tree)
    model.changed()
    assert model.controller == source.controller
    assert model.graph.main.tensors[model.controller.stem].name == stem.name


def test_an_offline_plan_has_an_offset_for_every_tensor() -> None:
    source = network()
    add_offline_plan(source.tree, [-1] * len(source.graph.main.tensors))
    source.changed()
    model = controlled(nested(Model.from_bytes(source.to_bytes()), everything()))
    words = np.frombuffer(model.graph.metadata["OfflineMemoryAllocation"], "<i4")
    assert words[2] == sum(len(subgraph.tensors) for subgraph in model.graph.subgraphs)
    slim = materialize(model)
    words = np.frombuffer(slim.graph.metadata["OfflineMemoryAllocation"], "<i4")
    assert words[2] == len(slim.graph.main.tensors)


def test_what_cannot_be_attached_is_refused() -> None:
    source = nested(network(), everything())
    main = source.graph.main
    stem = main.tensors[main.operators[0].outputs[0]]
    good = controller_model(stem, 3)
    with pytest.raises(UsageError, match="not nested"):
        attach(network(), good, stem.index, [1], CHOICES)
    with pytest.raises(UsageError, match="already"):
        attach(controlled(source), good, stem.index, [1], CHOICES)
    with pytest.raises(UsageError, match="plain model of one subgraph"):
        attach(source, controlled(source), stem.index, [1], CHOICES)
    with pytest.raises(FormatError, match="3 values"):
        attach(source, good, stem.index, [1, 2], CHOICES)
    with pytest.raises(FormatError, match="operator 4"):
        attach(source, controller_model(stem, 6), stem.index, [1, 4], CHOICES)
    with pytest.raises(FormatError, match="operator 0"):
        attach(source, controller_model(stem, 6), stem.index, [0, 1], CHOICES)
    with pytest.raises(FormatError, match="level 5"):
        attach(source, good, stem.index, [1], [(4, 8), (5, 8), (8, 8)])
    other = main.tensors[main.operators[1].outputs[0]]
    with pytest.raises(FormatError, match="the stem is"):
        attach(source, good, other.index, [2], CHOICES)


def test_a_flat_operator_can_be_controlled() -> None:
    recipe = Recipe(levels=(4, 8), rules=(Rule(operator="FULLY_CONNECTED", flat=True),))
    flat = nested(network(), recipe)
    main = flat.graph.main
    stem = main.tensors[main.operators[0].outputs[0]]
    model = attach(flat, controller_model(stem, 2), stem.index, [5], [(8, 4), (8, 8)])
    assert model.controller is not None and model.controller.operators == (5,)
    assert model.graph.main.operators[5].name == "FULLY_CONNECTED"


def test_levels_that_narrow_activations_are_not_materialized() -> None:
    model = narrow_levels(nested(network(), everything()), (4, 8, 8))
    materialize(model, 8)
    materialize(model, 6)
    with pytest.raises(UnsupportedError, match="reads its activation at 4 bits at level 4"):
        materialize(model, 4)
