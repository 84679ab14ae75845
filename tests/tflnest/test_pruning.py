"""What nothing refers to is dropped; everything else keeps its meaning."""

from __future__ import annotations

import numpy as np
import pytest

from tests.models import add_offline_plan, add_raw_metadata, network, random_inputs
from tflnest.interpreter import Interpreter
from tflnest.model import Model, add_buffer, add_constant, opcode_index, pack_tree, set_metadata
from tflnest.pruning import offline_plan, prune, prune_buffers, prune_operator_codes
from tflnest.schema import schema


def littered() -> Model:
    """The network with unused tensors before, between and after the used ones, buffers and operator codes."""
    model = network().copy()
    tree, subgraph = model.tree, model.tree.subgraphs[0]
    opcode_index(tree, "GELU")
    add_buffer(tree, b"nobody reads this")
    add_constant(tree, subgraph, np.zeros(4, np.int8), "INT8", "unused tail")
    for position in (0, 5):
        shift_tensors(tree, subgraph, position)
    return Model.from_bytes(pack_tree(tree))


def shift_tensors(tree, subgraph, position):
    """Insert an unused tensor at a position."""

    def moved(values):
        return np.array([value + (value >= position) for value in values], np.int32)

    tensor = schema().TensorT()
    tensor.name, tensor.shape = "unused", [3]
    subgraph.tensors.insert(position, tensor)
    subgraph.inputs, subgraph.outputs = moved(subgraph.inputs), moved(subgraph.outputs)
    for operator in subgraph.operators:
        operator.inputs, operator.outputs = moved(operator.inputs), moved(operator.outputs)
    for item in tree.signatureDefs:
        for entry in [*item.inputs, *item.outputs]:
            entry.tensorIndex += entry.tensorIndex >= position


def pruned(model: Model) -> Model:
    copy = model.copy()
    prune(copy.tree)
    copy.changed()
    return Model.from_bytes(copy.to_bytes())


def test_unused_things_go_and_the_rest_computes_the_same():
    before = littered()
    after = pruned(before)
    assert len(before.graph.main.tensors) - len(after.graph.main.tensors) == 3
    assert [t.name for t in after.graph.main.tensors] == [t.name for t in network().graph.main.tensors]
    assert {code.builtinCode for code in after.tree.operatorCodes} == {3, 4, 9, 22}
    assert len(after.tree.buffers) == len(before.tree.buffers) - 2
    x = random_inputs(before, 3)
    np.testing.assert_array_equal(Interpreter(model=after).run(x), Interpreter(model=before).run(x))
    assert after.graph.metadata == before.graph.metadata
    main = after.graph.main
    signature = after.graph.signatures[0]
    assert signature.inputs == {"x": main.inputs[0]}
    assert signature.outputs == {"y": main.outputs[0]}


def test_pruning_twice_is_pruning_once():
    once = pruned(littered())
    assert pruned(once).to_bytes() == once.to_bytes()


def test_variables_signature_tensors_and_intermediates_stay():
    model = network().copy()
    subgraph = model.tree.subgraphs[0]
    for name in ("state", "named", "between"):
        tensor = schema().TensorT()
        tensor.name, tensor.shape, tensor.isVariable = name, [1], name == "state"
        subgraph.tensors.append(tensor)
    count = len(subgraph.tensors)
    model.tree.signatureDefs[0].outputs[0].tensorIndex = count - 2
    subgraph.operators[0].intermediates = [count - 1, -1]
    names = {tensor.name for tensor in pruned(Model.from_bytes(pack_tree(model.tree))).graph.main.tensors}
    assert {"state", "named", "between"} <= names


def test_the_offline_plan_is_renumbered():
    model = littered().copy()
    count = len(model.tree.subgraphs[0].tensors)
    add_offline_plan(model.tree, list(range(100, 100 + count)))
    names = {tensor.name: 100 + tensor.index for tensor in model.graph.main.tensors}
    model.changed()
    after = pruned(Model.from_bytes(model.to_bytes()))
    words = np.frombuffer(after.graph.metadata["OfflineMemoryAllocation"], "<i4")
    assert words[:3].tolist() == [1, 0, len(after.graph.main.tensors)]
    assert words[3:].tolist() == [names[tensor.name] for tensor in after.graph.main.tensors]


@pytest.mark.parametrize("content", [b"", b"123", bytes(8), bytes(13)])
def test_an_offline_plan_that_is_none_is_left_as_it_is(content):
    model = littered().copy()
    set_metadata(model.tree, "OfflineMemoryAllocation", content)
    assert offline_plan(model.tree) is None
    model.changed()
    after = pruned(Model.from_bytes(model.to_bytes()))
    assert after.graph.metadata["OfflineMemoryAllocation"] == content


def test_a_short_offline_plan_is_filled_up():
    model = littered().copy()
    add_offline_plan(model.tree, [7])
    model.changed()
    after = pruned(Model.from_bytes(model.to_bytes()))
    words = np.frombuffer(after.graph.metadata["OfflineMemoryAllocation"], "<i4")
    assert words[3:].tolist() == [-1] * len(after.graph.main.tensors)  # the first tensor was unused


def test_buffers_of_metadata_stay():
    model = network().copy()
    add_raw_metadata(model.tree, "kept", b"content")
    model.tree.metadataBuffer = [len(model.tree.buffers) - 1]
    add_buffer(model.tree, b"dropped")
    last = len(model.tree.buffers) - 1
    renumber = prune_buffers(model.tree)
    assert last not in renumber
    assert model.tree.metadataBuffer == [renumber[last - 1]]
    assert bytes(model.tree.buffers[model.tree.metadataBuffer[0]].data) == b"content"


def test_operator_codes_are_renumbered_in_order():
    model = network().copy()
    codes = [opcode_index(model.tree, "GELU"), opcode_index(model.tree, "ABS")]
    model.tree.subgraphs[0].operators[4].opcodeIndex = codes[1]
    prune_operator_codes(model.tree)
    model.changed()
    assert [operator.name for operator in model.graph.main.operators][4] == "ABS"
    assert 150 not in {code.builtinCode for code in model.tree.operatorCodes}
