"""Nested operators: what a file may say of one, and what it is at a level."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flatbuffers import flexbuffers

from converters.planning import plan_nesting, round_filters
from tests.models import everything, nested, network, operators_of, small_network
from tflnest import container
from tflnest.errors import FormatError
from tflnest.model import Model, add_buffer, opcode_index, pack_tree, set_metadata
from tflnest.nested import encode_options, nested_operators, parse, unusable_option
from tflnest.nesting import Nesting, Scheme

#: Options of the first operator of `victim`, a 1x1 convolution with 4 channels of 4 weights.
OPTIONS = {
    "bias": [0, 0, 0],
    "filter_shape": [4, 1, 1, 4],
    "levels": [4, 6, 8],
    "model_levels": [0, 1, 2],
    "version": 3,
}


def victim() -> Model:
    """A nested model whose tree is edited."""
    return nested(small_network()).copy()


def flexbuffer(values: dict[str, Any]) -> np.ndarray:
    builder = flexbuffers.Builder()
    with builder.Map():
        for name in sorted(values):
            if isinstance(values[name], list):
                builder.TypedVectorFromElements(name, values[name])
            else:
                builder.Add(name, values[name])
    return np.frombuffer(bytes(builder.Finish()), np.uint8)


def parse_first(model: Model) -> Any:
    """Parse the first operator of an edited tree, without the directory in the way."""
    model.changed()
    subgraph = model.graph.main
    return parse(subgraph.operators[0], subgraph)


def with_options(**changes: Any) -> Model:
    """The victim with other options in its first operator; None removes one."""
    values = {name: value for name, value in {**OPTIONS, **changes}.items() if value is not None}
    model = victim()
    model.tree.subgraphs[0].operators[0].customOptions = flexbuffer(values)
    return model


def test_the_options_used_here_are_sound():
    operator = parse_first(with_options())
    assert operator.nesting == Nesting((4, 6, 8))
    assert operator.filter_shape == (4, 1, 1, 4)
    assert (operator.stock, operator.stock_version, operator.channels, operator.weights) == (
        "CONV_2D",
        3,
        4,
        16,
    )


@pytest.mark.parametrize("scheme", Scheme)
def test_parsing_gives_what_was_nested(scheme):
    source = network()
    recipe = everything((4, 6, 8), scheme)
    filters = round_filters(plan_nesting(source.graph, recipe), 0)
    operators = operators_of(nested(source, recipe))
    assert len(operators) == len(filters) == 5
    for operator, rounded in zip(operators, filters, strict=True):
        assert operator.nesting == rounded.plan.nesting
        assert operator.filter_shape == rounded.plan.tensor.shape
        assert operator.model_levels == (0, 1, 2)
        assert operator.scope == rounded.plan.tensor.name
        stock = source.graph.main.operators[operator.operator.index]
        assert operator.stock == stock.name
        assert operator.stock_version == stock.version
        assert {name: stock.options[name] for name in operator.options} == {
            name: bool(value) if name == "keep_num_dims" else value
            for name, value in operator.options.items()
        }


@pytest.mark.parametrize("scheme", Scheme)
def test_the_stock_form_has_the_weights_scales_and_biases_of_the_source(scheme):
    source = network()
    recipe = everything((3, 5, 8), scheme)
    filters = {item.plan.tensor.name: item for item in round_filters(plan_nesting(source.graph, recipe), 0)}
    model = nested(source, recipe)
    for subgraph, operator in nested_operators(model.graph):
        rounded = filters[operator.scope]
        stock = source.graph.main.operators[operator.operator.index]
        weights, bias = (source.graph.main.tensors[index] for index in stock.inputs[1:])
        for position, level in enumerate(operator.nesting.levels):
            form = operator.stock_form(subgraph, level, lambda tensor: tensor.data)
            np.testing.assert_array_equal(form.filter.data, rounded.levels[position])
            assert form.filter.quantization.axis == (
                weights.quantization.axis if weights.quantization.per_channel else 0
            )
            np.testing.assert_array_equal(form.bias.data, bias.data)
            if operator.stock != "FULLY_CONNECTED":
                np.testing.assert_array_equal(form.filter.quantization.scale, weights.quantization.scale)
        np.testing.assert_array_equal(form.filter.data, weights.data)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"filter_shape": None}, "the option 'filter_shape' is missing"),
        ({"levels": None}, "the option 'levels' is missing"),
        ({"model_levels": None}, "the option 'model_levels' is missing"),
        ({"version": None}, "the option 'version' is missing"),
        ({"version": 0}, r"version 0 is not within 1\.\.2147483647"),
        ({"version": 1 << 40}, "version 1099511627776 is not within"),
        ({"version": 1.5}, "the option 'version' is no integer"),
        ({"version": [1]}, "the option 'version' is no integer"),
        ({"levels": 8}, "the option 'levels' is no list of integers"),
        ({"levels": []}, "levels"),
        ({"levels": [8, 4, 6]}, "levels 8,4,6 do not increase"),
        ({"levels": [4, 6, 9]}, r"not all within 1\.\.8"),
        ({"levels": [0, 4, 8]}, r"not all within 1\.\.8"),
        ({"levels": [1.5, 4.0, 8.0]}, "no list of integers"),
        ({"levels": list(range(1, 18))}, "at most 16 are allowed"),
        ({"levels": [4, 8]}, r"model_levels \[0, 1, 2\] do not rise to the last of 2 own levels"),
        ({"model_levels": [0, 1]}, r"do not rise to the last of 3 own levels"),
        ({"model_levels": [0, 2, 1]}, "do not rise"),
        ({"model_levels": [-1, 1, 2]}, "do not rise"),
        ({"model_levels": [0, 1, 3]}, "do not rise"),
        ({"scheme": 2}, "scheme 2 is unknown"),
        ({"scheme": -1}, "scheme -1 is unknown"),
        ({"scheme": 1}, "a plane is a constant UINT8 with"),
        ({"requantization": [0, 0]}, r"requantization \[0, 0\] does not fit 3 levels"),
        ({"requantization": [0, 0, 2]}, "does not fit 3 levels"),
        ({"requantization": [1, 0, 0]}, "does not fit 3 levels"),
        ({"requantization": [0, -1, 0]}, "does not fit 3 levels"),
        ({"requantization": [0, 1, 1]}, "what a level brings is a constant UINT8 with 9 or 24"),
        ({"bias": [0, 2, 1]}, r"bias \[0, 2, 1\] does not fit 3 levels"),
        ({"bias": None}, "what a level brings is a constant UINT8 with 20"),
        ({"separate": 1}, "it has 4 inputs, its options ask for 5"),
        ({"separate": 2}, r"separate 2 is not within 0\.\.1"),
        ({"padding": 7}, "padding 7 is unknown"),
        ({"fused_activation_function": 99}, "fused_activation_function 99 is unknown"),
        ({"stride_w": 0}, "stride_w 0 is not within"),
        ({"stride_h": -1}, "stride_h -1 is not within"),
        ({"dilation_w_factor": 1 << 31}, "dilation_w_factor 2147483648 is not within"),
        ({"surprise": 1}, r"unknown keys \['surprise'\]"),
        ({"depth_multiplier": 1}, r"unknown keys \['depth_multiplier'\]"),
        ({"filter_shape": [4, 1, 1]}, r"filter_shape \[4, 1, 1\] is no shape of a CONV_2D filter"),
        ({"filter_shape": [4, 4]}, "is no shape of a CONV_2D filter"),
        ({"filter_shape": [0, 1, 1, 4]}, "is no shape"),
        ({"filter_shape": [4, -1, 1, 4]}, "is no shape"),
        ({"filter_shape": [1 << 24, 1, 1, 1]}, "is no shape"),
        ({"filter_shape": [4, 1 << 20, 1 << 20, 1 << 20]}, "is no shape"),
        ({"filter_shape": [4, 1, 1, 5]}, "what a level brings is a constant UINT8 with 37 or 52"),
        ({"filter_shape": [2, 1, 1, 8]}, "what a level brings is a constant UINT8 with 21 or 26"),
    ],
)
def test_options_that_make_no_sense(changes, message):
    with pytest.raises(FormatError, match=message):
        parse_first(with_options(**changes))


@pytest.mark.parametrize("options", [b"", b"\0", b"\x01\x02", bytes(100), b"\xff" * 64, bytes(range(200))])
def test_options_that_are_no_flexbuffer(options):
    model = victim()
    model.tree.subgraphs[0].operators[0].customOptions = np.frombuffer(options, np.uint8)
    with pytest.raises(FormatError, match=r"subgraph 0, operator 0 \(TFLNEST_CONV_2D\): its options"):
        parse_first(model)


def test_every_damaged_byte_of_the_options_is_handled():
    """Vectors that contain themselves, keys that never end, counts that nothing backs."""
    sound = bytes(victim().tree.subgraphs[0].operators[0].customOptions)
    model = victim()
    refused = 0
    for position in range(len(sound)):
        for value in (0, 1, 0x7F, 0x80, 0xFF, sound[position] ^ 1, sound[position] ^ 4):
            damaged = bytearray(sound)
            damaged[position] = value
            model.tree.subgraphs[0].operators[0].customOptions = np.frombuffer(bytes(damaged), np.uint8)
            try:
                parse_first(model)
            except FormatError:
                refused += 1
    assert refused > len(sound)


def operator_of(model: Model) -> Any:
    return model.tree.subgraphs[0].operators[0]


def tensor_of(model: Model, position: int) -> Any:
    """A tensor among the inputs of the first operator: activation, and what 3 levels bring."""
    return model.tree.subgraphs[0].tensors[operator_of(model).inputs[position]]


def _drop_input(model: Model) -> None:
    operator_of(model).inputs = list(operator_of(model).inputs)[:-1]


def _missing_input(model: Model) -> None:
    operator_of(model).inputs = [*list(operator_of(model).inputs)[:-1], -1]


def _two_outputs(model: Model) -> None:
    operator_of(model).outputs = [*operator_of(model).outputs, 0]


def _swap(first: int, second: int) -> Callable[[Model], None]:
    def change(model: Model) -> None:
        inputs = list(operator_of(model).inputs)
        inputs[first], inputs[second] = inputs[second], inputs[first]
        operator_of(model).inputs = inputs

    return change


def _activation_as_plane(model: Model) -> None:
    tensor_of(model, 2).buffer = 0


def _short_plane(model: Model) -> None:
    tensor_of(model, 2).shape = [2]
    tensor_of(model, 2).buffer = add_buffer(model.tree, bytes(2))


def _float_activation(model: Model) -> None:
    tensor_of(model, 0).type = 0


def _bare_activation(model: Model) -> None:
    tensor_of(model, 0).quantization = None


def _three_multipliers(model: Model) -> None:
    tensor_of(model, 1).shape = [39]
    tensor_of(model, 1).buffer = add_buffer(model.tree, bytes(39))


def _type_of_a_level(model: Model) -> None:
    tensor_of(model, 3).type = 9  # INT8


def _version(model: Model) -> None:
    model.tree.operatorCodes[operator_of(model).opcodeIndex].version = 2


def _name(model: Model) -> None:
    operator_of(model).opcodeIndex = opcode_index(model.tree, "TFLNEST_SOFTMAX", custom=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_drop_input, "it has 3 inputs, its options ask for 4"),
        (_missing_input, "it has 4 inputs"),
        (_two_outputs, "it has 4 inputs"),
        (_swap(1, 2), "with 4 elements; what a level brings is a constant UINT8 with 29 or 44"),
        (_swap(0, 1), "what a level brings is a constant UINT8"),
        (_swap(0, 2), "a plane is a constant UINT8"),
        (_activation_as_plane, "a plane is a constant UINT8"),
        (_short_plane, "with 2 elements; a plane is a constant UINT8 with 4"),
        (_float_activation, "is no quantized INT8 activation"),
        (_bare_activation, "is no quantized INT8 activation"),
        (_three_multipliers, "with 39 elements; what a level brings is a constant UINT8 with 29 or 44"),
        (_type_of_a_level, "is INT8 with 4 elements; a plane is a constant UINT8 with 4"),
        (_version, "it has version 2, this tflnest reads version 1"),
        (_name, "there is no such nested operator"),
    ],
)
def test_tensors_that_make_no_sense(change, message):
    model = victim()
    change(model)
    with pytest.raises(FormatError, match=message):
        parse_first(model)


@pytest.mark.parametrize("scale", [np.nan, 0.0, -1.0, np.inf])
def test_activation_scales_must_be_positive_numbers(scale):
    model = victim()
    tensor_of(model, 0).quantization.scale = np.array([scale], np.float32)
    with pytest.raises(FormatError, match="is no quantized INT8 activation"):
        parse_first(model)


def test_multipliers_that_no_scale_gives():
    model = victim()
    content = bytes(24) + np.array([1 << 30, 0, -5, 7], "<i4").tobytes() + bytes(4)
    tensor_of(model, 1).buffer = add_buffer(model.tree, content)
    operator = parse_first(model)
    with pytest.raises(FormatError, match="no float32 scale gives the multiplier"):
        operator.stock_form(model.graph.main, 8, lambda tensor: tensor.data)


def test_a_nested_model_without_its_directory_is_refused():
    model = victim()
    model.tree.metadata = [entry for entry in model.tree.metadata if entry.name != b"TFLNEST"]
    with pytest.raises(FormatError, match="nested operators and no TFLNEST metadata"):
        Model.from_bytes(pack_tree(model.tree))


def test_a_directory_with_other_levels_is_refused():
    model = victim()
    source = victim()
    directory = source.directory
    levels = container.new_directory(
        (6, 8),
        [
            [s.buffer for p in directory.pages[:2] for s in p.segments],
            [s.buffer for s in directory.pages[2].segments],
        ],
        "",
    )
    set_metadata(model.tree, "TFLNEST", container.encode(levels))
    model.changed()
    with pytest.raises(FormatError, match="model_levels has 3 entries for 2 levels of the model"):
        Model.from_bytes(model.to_bytes())


def test_constants_must_lie_in_pages_that_are_resident_when_they_are_read():
    for move_to, message in (
        (1, r"lies in page 1, and is read when pages 0 to 0 are resident"),
        (None, "lies in no page"),
    ):
        model = victim()
        buffers = [[segment.buffer for segment in page.segments] for page in model.directory.pages]
        moved = buffers[0].pop()
        if move_to is not None:
            buffers[move_to].append(moved)
        set_metadata(model.tree, "TFLNEST", container.encode(container.new_directory((4, 6, 8), buffers, "")))
        model.changed()
        with pytest.raises(FormatError, match=message):
            Model.from_bytes(model.to_bytes())


def test_two_directories_are_refused():
    model = victim()
    model.tree.metadata = [*model.tree.metadata, model.tree.metadata[0]]
    model.changed()
    with pytest.raises(FormatError, match="more than one TFLNEST metadata entry"):
        Model.from_bytes(model.to_bytes())


def test_options_are_written_as_short_as_they_can_be():
    """What equals the default is left out, so that the file stays small."""
    nesting = Nesting((4, 8))
    defaults = {
        "padding": "SAME",
        "stride_w": 1,
        "stride_h": 1,
        "dilation_w_factor": 1,
        "dilation_h_factor": 1,
        "fused_activation_function": "NONE",
    }
    short = flexbuffers.GetRoot(
        bytearray(
            encode_options(
                "CONV_2D", 1, defaults, nesting, (0, 1), (1, 1, 1, 1), bias=(0, 1), requantization=(0, 0)
            )
        )
    ).AsMap
    assert sorted(key.AsKey for key in short.Keys) == ["filter_shape", "levels", "model_levels", "version"]
    full = flexbuffers.GetRoot(
        bytearray(
            encode_options(
                "CONV_2D",
                1,
                {**defaults, "padding": "VALID", "stride_w": 2},
                Nesting((4, 8), "compensated"),
                (0, 1),
                (1, 1, 1, 1),
                bias=(0, 0),
                requantization=(0, 1),
                is_separate=True,
            )
        )
    ).AsMap
    assert full["padding"].AsInt == 1
    assert full["stride_w"].AsInt == 2
    assert full["scheme"].AsInt == 1
    assert full["separate"].AsInt == 1
    assert [item.AsInt for item in full["bias"].AsTypedVector] == [0, 0]
    assert [item.AsInt for item in full["requantization"].AsTypedVector] == [0, 1]


def test_stock_options_that_do_not_nest_are_named():
    assert unusable_option("CONV_2D", 1, {"padding": "SAME", "stride_w": 2}) is None
    assert unusable_option("CONV_2D", 1, {"padding": 9}) == "padding 9 makes no sense"
    assert unusable_option("CONV_2D", 1, {"stride_h": 0}) == "stride_h 0 makes no sense"
    assert unusable_option("FULLY_CONNECTED", -1, {}) == "version -1 makes no sense"
