"""Models are read and written without losing what they hold."""

from __future__ import annotations

import numpy as np
import pytest

from tests.models import (
    NetworkBuilder,
    add_offline_plan,
    add_raw_metadata,
    buffer_offsets,
    nested,
    network,
    plain,
    signature,
    small_network,
)
from tests.tflnest import attacks
from tflnest.errors import FormatError, UsageError
from tflnest.graph import Quantization
from tflnest.model import Model, add_buffer, load, metadata_buffer, opcode_index, pack_tree, set_metadata
from tflnest.schema import enum_value, schema

SHARED_NAMES = (
    "ad01_int8",
    "hello_world_int8",
    "kws_ref_model",
    "micro_speech_quantized",
    "mobilenet_v2_quantized_1x3x224x224",
    "person_detect",
    "pretrainedResnet",
    "pretrainedResnet_quant",
    "vww_96_float",
    "vww_96_int8",
)


def rich_model() -> Model:
    """A model with one of everything that edits could lose."""
    model = network().copy()
    tree, module = model.tree, schema()
    tree.description = "a description with ü"
    add_raw_metadata(tree, "vendor.blob", bytes(range(256)))
    add_raw_metadata(tree, "empty", b"")
    add_offline_plan(tree, [-1] * len(tree.subgraphs[0].tensors))
    second = module.SubGraphT()
    second.name = "second"
    tensor = module.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.isVariable = (
        "state",
        [1, 4],
        enum_value("TensorType", "INT8"),
        True,
    )
    tensor.shapeSignature = [-1, 4]
    second.tensors, second.operators, second.inputs, second.outputs = [tensor], [], [0], [0]
    tree.subgraphs.append(second)
    tree.signatureDefs.append(signature("second", {"a": 0}, {"b": 0}, subgraph=1))
    custom = module.OperatorT()
    custom.opcodeIndex = opcode_index(tree, "VendorOp", custom=True)
    custom.inputs, custom.outputs = [0, -1], [0]
    custom.customOptions = np.arange(7, dtype=np.uint8)
    second.operators.append(custom)
    quantization = tree.subgraphs[0].tensors[0].quantization
    quantization.min, quantization.max = np.array([-1.0], np.float32), np.array([1.0], np.float32)
    tree.operatorCodes[0].deprecatedBuiltinCode = 3
    model.changed()
    return Model.from_bytes(model.to_bytes())


def rewritten(model: Model) -> Model:
    """Written again from its tree, not from its bytes."""
    copy = model.copy()
    copy.changed()
    return Model.from_bytes(copy.to_bytes())


@pytest.mark.parametrize("make", [small_network, network, rich_model, lambda: nested(network())])
def test_reading_and_writing_loses_nothing(make):
    model = make()
    again = rewritten(model)
    assert plain(again.tree) == plain(model.tree)
    assert again.graph == model.graph
    assert rewritten(again).to_bytes() == again.to_bytes()


@pytest.mark.shared
@pytest.mark.parametrize("name", SHARED_NAMES)
def test_reading_and_writing_public_models_loses_nothing(shared_models, name):
    model = Model.load(shared_models / f"{name}.tflite")
    assert model.to_bytes() == (shared_models / f"{name}.tflite").read_bytes()
    again = rewritten(model)
    assert plain(again.tree) == plain(model.tree)
    assert all(offset % 16 == 0 for offset in buffer_offsets(again.to_bytes()))


@pytest.mark.parametrize("make", [small_network, network, rich_model, lambda: nested(network())])
def test_every_buffer_lies_at_a_multiple_of_16(make):
    offsets = list(buffer_offsets(make().to_bytes()))
    assert offsets
    assert all(offset % 16 == 0 for offset in offsets)


def test_unedited_models_keep_their_bytes():
    content = network().to_bytes() + b"trailing bytes that a flatbuffer may have"
    assert Model.from_bytes(content).to_bytes() == content


def test_the_graph_says_what_the_tree_holds():
    graph = rich_model().graph
    assert [subgraph.name for subgraph in graph.subgraphs] == ["main", "second"]
    assert graph.description == "a description with ü"
    assert graph.metadata["vendor.blob"] == bytes(range(256))
    assert graph.metadata["empty"] == b""
    assert {item.key: item.subgraph for item in graph.signatures} == {"serve": 0, "second": 1}
    main = graph.main
    assert [operator.name for operator in main.operators] == [
        "CONV_2D",
        "DEPTHWISE_CONV_2D",
        "CONV_2D",
        "CONV_2D",
        "RESHAPE",
        "FULLY_CONNECTED",
    ]
    stem = main.operators[0]
    assert stem.options["padding"] == "SAME"
    assert stem.options["fused_activation_function"] == "RELU6"
    assert stem.version == 3
    weights = main.tensors[stem.inputs[1]]
    assert weights.name == "stem/weights"
    assert weights.is_constant
    assert weights.data.dtype == np.int8
    assert not weights.data.flags.writeable
    assert weights.quantization.per_channel
    custom = graph.subgraphs[1].operators[0]
    assert (custom.name, custom.is_custom, custom.inputs) == ("VendorOp", True, (0, -1))
    assert custom.options["custom_options"] == bytes(range(7))
    state = graph.subgraphs[1].tensors[0]
    assert (state.is_variable, state.shape, state.shape_signature) == (True, (1, 4), (-1, 4))


def test_quantizations_compare_by_value():
    one = Quantization(np.array([0.5], np.float32), np.array([1]), 0)
    same = Quantization(np.array([0.5], np.float32), np.array([1]), 0)
    other = Quantization(np.array([0.5], np.float32), np.array([2]), 0)
    assert one == same
    assert hash(one) == hash(same)
    assert one != other


@pytest.mark.parametrize(
    ("builtin", "deprecated", "name"),
    [(0, 3, "CONV_2D"), (3, 0, "CONV_2D"), (3, 3, "CONV_2D"), (150, 127, "GELU")],
)
def test_old_and_new_operator_codes(builtin, deprecated, name):
    model = small_network().copy()
    code = model.tree.operatorCodes[0]
    code.builtinCode, code.deprecatedBuiltinCode = builtin, deprecated
    model.changed()
    again = Model.from_bytes(model.to_bytes())
    assert again.graph.main.operators[0].name == name
    assert (again.tree.operatorCodes[0].builtinCode, again.tree.operatorCodes[0].deprecatedBuiltinCode) == (
        builtin,
        deprecated,
    )


def test_an_edited_copy_leaves_the_model_alone():
    model = network()
    before = model.to_bytes()
    copy = model.copy()
    copy.tree.description = "other"
    copy.changed()
    assert copy.to_bytes() != before
    assert model.to_bytes() == before
    assert copy.graph.description == "other"


def test_save_and_load(tmp_path):
    path = tmp_path / "model.tflite"
    network().save(path)
    assert load(path).to_bytes() == network().to_bytes()
    with pytest.raises(UsageError, match="exists already"):
        network().save(path)
    small_network().save(path, force=True)
    assert load(path).to_bytes() == small_network().to_bytes()


def test_errors_name_the_file(tmp_path):
    path = tmp_path / "broken.tflite"
    path.write_bytes(b"\0" * 40)
    with pytest.raises(FormatError, match=r"broken\.tflite: not a TensorFlow Lite file"):
        load(path)


def test_metadata_is_added_replaced_and_found():
    tree = small_network().tree
    first = set_metadata(tree, "a", b"one")
    assert set_metadata(tree, "a", b"two") == first
    assert metadata_buffer(tree, "a") == first
    assert metadata_buffer(tree, "b") is None
    assert Model(tree).graph.metadata == {"a": b"two"}


def test_of_two_metadata_entries_of_one_name_the_first_counts():
    model = small_network().copy()
    add_raw_metadata(model.tree, "a", b"first")
    add_raw_metadata(model.tree, "a", b"second")
    model.changed()
    assert model.graph.metadata["a"] == b"first"
    assert metadata_buffer(model.tree, "a") == model.tree.metadata[0].buffer


def test_operator_codes_are_shared():
    tree = small_network().tree
    count = len(tree.operatorCodes)
    assert opcode_index(tree, "CONV_2D", 3) == 0
    assert opcode_index(tree, "CONV_2D", 5) == count
    assert opcode_index(tree, "Mine", custom=True) == opcode_index(tree, "Mine", custom=True) == count + 1
    code = tree.operatorCodes[opcode_index(tree, "GELU")]
    assert (code.builtinCode, code.deprecatedBuiltinCode) == (150, 127)


def test_large_data_behind_the_flatbuffer_is_read():
    content = attacks.large_data(1, 16, offset=4096).ljust(4096, b"\0") + bytes(range(16))
    model = Model.from_bytes(content)
    assert bytes(model.tree.buffers[0].data) == bytes(range(16))
    assert bytes(Model.from_bytes(model.to_bytes()).tree.buffers[0].data) == bytes(range(16))


@pytest.mark.parametrize(("count", "size", "offset"), [(1, 1 << 40, 16), (1, 16, 1 << 62), (3, 3000, 16)])
def test_large_data_outside_the_file_or_shared_is_refused(count, size, offset):
    content = attacks.large_data(count, size, offset).ljust(4096, b"\0")
    with pytest.raises(FormatError, match=r"buffer \d lies at .* and the file has 4,096"):
        Model.from_bytes(content)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((-1, 4), r"shape \[-1, 4\] has a negative dimension"),
        ((1 << 20, 1 << 20), r"has 1,099,511,627,776 elements, over 2,147,483,648"),
        ((2**31 - 1, 2**31 - 1, 0), "elements, over"),
        ((1,) * 33, "it has 33 dimensions, over 32"),
    ],
)
def test_shapes_that_nothing_can_hold(shape, message):
    model = small_network().copy()
    model.tree.subgraphs[0].tensors[0].shape = np.array(shape, np.int32)
    with pytest.raises(FormatError, match=message):
        Model.from_bytes(pack_tree(model.tree))


def test_a_shape_with_a_huge_rank_is_refused_at_once():
    with pytest.raises(FormatError, match="it has 100,000 dimensions"):
        Model.from_bytes(attacks.deep_shape(100_000, 2**31 - 1))


def _set(tree, change):
    change(tree, tree.subgraphs[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda tree, sub: setattr(sub.tensors[0], "buffer", 99),
            "subgraph 0, tensor 0: its buffer is 99, and there are",
        ),
        (lambda tree, sub: setattr(sub.tensors[0], "type", 99), "type 99 is not defined"),
        (lambda tree, sub: setattr(sub, "inputs", [77]), "an input tensor is 77, and there are"),
        (lambda tree, sub: setattr(sub, "outputs", [-1]), "an output tensor is -1, and there are"),
        (
            lambda tree, sub: setattr(sub.operators[0], "inputs", [0, 99]),
            r"\(CONV_2D\): an input .*tensor is 99",
        ),
        (
            lambda tree, sub: setattr(sub.operators[0], "inputs", [-2]),
            r"\(CONV_2D\): an input .*tensor is -2",
        ),
        (lambda tree, sub: setattr(sub.operators[0], "outputs", [99]), "an output tensor is 99"),
        (lambda tree, sub: setattr(sub.operators[0], "outputs", [-1]), "an output tensor is -1"),
        (lambda tree, sub: setattr(sub.operators[0], "intermediates", [99]), "intermediate tensor is 99"),
        (
            lambda tree, sub: setattr(sub.operators[0], "opcodeIndex", 99),
            "its operator code is 99, and there are",
        ),
        (lambda tree, sub: setattr(tree.operatorCodes[0], "builtinCode", 9999), "operator code 0 is 9999"),
        (lambda tree, sub: setattr(tree, "metadataBuffer", [99]), "a metadata buffer is 99, and there are"),
        (lambda tree, sub: setattr(tree, "subgraphs", []), "the model has no subgraph"),
        (
            lambda tree, sub: setattr(tree, "signatureDefs", [signature("s", {"x": 99}, {})]),
            "argument 'x' of signature 's' is 99",
        ),
        (
            lambda tree, sub: setattr(tree, "signatureDefs", [signature("s", {}, {}, 5)]),
            "signature 's' names subgraph 5, and there are 1",
        ),
        (
            lambda tree, sub: setattr(tree.buffers[sub.tensors[2].buffer], "data", np.zeros(3, np.uint8)),
            r"takes \d+ bytes, its buffer has 3",
        ),
        (
            lambda tree, sub: setattr(sub.tensors[0].quantization, "zeroPoint", np.zeros(2, np.int64)),
            "1 scales and 2 zero points",
        ),
    ],
)
def test_indices_and_sizes_that_contradict_each_other(change, message):
    model = small_network().copy()
    _set(model.tree, change)
    with pytest.raises(FormatError, match=message):
        Model.from_bytes(pack_tree(model.tree))


def test_a_metadata_entry_without_its_buffer():
    model = small_network().copy()
    entry = schema().MetadataT()
    entry.name, entry.buffer = "x", 99
    model.tree.metadata = [entry]
    with pytest.raises(FormatError, match="the buffer of metadata 'x' is 99"):
        Model.from_bytes(pack_tree(model.tree))


def test_a_tree_without_vectors_can_be_edited():
    model = Model.from_bytes(attacks.many_tables("SubGraph", 1))
    assert model.tree.subgraphs[0].tensors == []
    assert add_buffer(model.tree, b"abc") == 1
    assert opcode_index(model.tree, "ADD") == 0


def test_sub_byte_constants_are_kept_as_bytes():
    net = NetworkBuilder()
    x = net.start((1, 2, 2, 4))
    packed = net.tensor((5,), "INT4", buffer=add_buffer(net.tree, bytes([1, 2, 3])))
    model = net.finish(net.convolution(x, 4, kernel=1))
    tensor = model.graph.main.tensors[packed]
    assert (tensor.bytes, tensor.data.tolist()) == (3, [1, 2, 3])
    net.subgraph.tensors[packed].shape = [7]
    with pytest.raises(FormatError, match=r"INT4\[7\] takes 4 bytes, its buffer has 3"):
        Model.from_bytes(pack_tree(net.tree))
