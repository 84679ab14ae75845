"""Nested filters for TFLM_DECODE: what the file holds, what it computes here, and what is refused."""

from __future__ import annotations

import struct
import zlib
from itertools import pairwise

import numpy as np
import pytest

from converters.exporting.planes import export_planes
from converters.nest import nest
from converters.parameters import LevelParameters, source_parameters
from converters.planning import plan_nesting, round_filters
from tests.controllers import controlled, narrow_levels
from tests.exactness import random_inputs
from tests.models import NetworkBuilder, buffer_offsets, everything, nested, network, with_own_biases
from tflnest.container import page_image
from tflnest.errors import FormatError, UnsupportedError, UsageError
from tflnest.interpreter import Interpreter
from tflnest.lookup_table import DECODE
from tflnest.materialization import materialize
from tflnest.model import Model
from tflnest.nested import nested_operators
from tflnest.plane_decoding import METADATA_NAME, PAGES_HEADER, PAGES_ROW, TYPE, PlaneEncoding

SCHEMES = ["bucket", "compensated"]


@pytest.fixture(scope="module")
def model() -> Model:
    return with_own_biases(network())


def decoders(model: Model) -> list:
    return [item for item in model.graph.main.operators if item.name == DECODE]


@pytest.mark.parametrize("engine", ["reference", "native"])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_highest_level_is_that_of_the_nested_model(scheme, engine):
    source = with_own_biases(network(2), everything((2, 3, 5, 8), scheme))
    for level in (2, 3, 5, 8):
        made = export_planes(source, level)
        x = np.concatenate([row[0] for row in random_inputs(made.model.to_bytes(), 3)])
        expected = Interpreter(model=source, level=level).run(x)
        np.testing.assert_array_equal(Interpreter(model=made.model, engine=engine).run(x), expected)
        assert made.level == level and made.levels[-1] == level


def test_planes_and_biases_are_those_of_the_nested_file(model):
    for level, count in ((8, 3), (6, 2), (4, 1)):
        made = export_planes(model, level).model
        graph, source = made.graph.main, model.graph.main
        for decoder, (_, own) in zip(decoders(made), nested_operators(model.graph), strict=True):
            parts = [graph.tensors[index].data.tobytes() for index in decoder.inputs]
            planes, biases = (
                [part.values(source.tensors[part.tensor].data, "u1").tobytes() for part in places[:count]]
                for places in (own.planes, own.biases)
            )
            assert parts[0] == b"".join(planes)
            assert len(decoder.inputs) == 2 if count == 1 else parts[2] == b"".join(biases)
            encoding = PlaneEncoding.from_bytes(parts[1])
            assert encoding.nesting.levels == own.nesting.levels[:count]
            assert encoding.model_levels == tuple(range(count))


def test_parts_are_found_in_the_page_images_of_the_nested_file(model):
    made = export_planes(model).model
    images = [page_image(model.to_bytes(), page) for page in model.directory.pages]
    for decoder, (_, own) in zip(decoders(made), nested_operators(model.graph), strict=True):
        encoding = PlaneEncoding.from_bytes(made.graph.main.tensors[decoder.inputs[1]].data.tobytes())
        for position, places in enumerate(encoding.places):
            for page, offset, own_parts in (
                (places.plane_page, places.plane, own.planes),
                (places.bias_page, places.bias, own.biases),
            ):
                part = own_parts[position]
                content = part.values(model.graph.main.tensors[part.tensor].data, "u1").tobytes()
                assert images[page][offset : offset + len(content)] == content
    entry = made.graph.metadata[METADATA_NAME]
    header = PAGES_HEADER.unpack_from(entry)
    assert header[1:5] == (1, 48, 3, 0) and header[5] == model.directory.identity
    rows = list(PAGES_ROW.iter_unpack(entry[PAGES_HEADER.size :]))
    assert rows == [
        (level, 0, 0, len(image), zlib.crc32(image)) for level, image in zip((4, 6, 8), images, strict=True)
    ]


def test_decoded_tensors_are_the_constants_of_the_level(model):
    stock = materialize(model).graph.main
    graph = export_planes(model).model.graph.main
    plain = [item for item in graph.operators if item.name != DECODE]
    for operator, before in zip(plain, stock.operators, strict=True):
        assert (operator.name, operator.version) == (before.name, before.version)
        assert operator.options == before.options
        for index, old in zip(operator.inputs[1:3], before.inputs[1:3], strict=True):
            mine, theirs = graph.tensors[index], stock.tensors[old]
            assert (mine.shape, mine.type) == (theirs.shape, theirs.type)
            if theirs.quantization is not None:
                np.testing.assert_array_equal(mine.quantization.scale, theirs.quantization.scale)
                assert mine.quantization.axis == theirs.quantization.axis or not mine.quantization.per_channel
                assert mine.quantization.zero_point.tolist() == [0]


def test_one_bias_for_all_levels_is_not_decoded():
    made = export_planes(nested(network()))
    assert all(len(item.outputs) == 1 for item in decoders(made.model))
    assert [item.bias_bytes for item in made.filters] == [0] * 5


def test_every_decoder_stands_right_before_its_reader_and_buffers_are_aligned(model):
    made = export_planes(model)
    operators = made.model.graph.main.operators
    for first, second in pairwise(operators):
        if first.name == DECODE:
            assert second.inputs[1:3] == first.outputs
    assert operators[-1].name != DECODE
    assert all(offset % 16 == 0 for offset in buffer_offsets(made.model.to_bytes()))
    assert export_planes(model).model.to_bytes() == made.model.to_bytes()


def test_what_the_report_says(model):
    made = export_planes(model)
    document = made.to_dict()
    assert document["bytes"] == len(made.model.to_bytes()) and document["nested_bytes"] == len(
        model.to_bytes()
    )
    assert document["levels"] == [4, 6, 8] and len(document["filters"]) == 5
    for item, (_, own) in zip(made.filters, nested_operators(model.graph), strict=True):
        assert item.decoded_bytes == own.weights + 4 * own.channels
        assert item.bias_bytes == 3 * 4 * own.channels
        assert item.plane_bytes >= own.weights and item.levels == (4, 6, 8)
    assert document["decoded_bytes"] == max(item.decoded_bytes for item in made.filters)


def test_a_shared_filter_is_stored_once_and_decoded_for_each_reader():
    net = NetworkBuilder()
    x = net.start((1, 4, 4, 24))
    weights, bias = net.filter((24, 3, 3, 24), name="shared"), net.bias(24, "bias")
    y = net.convolution(x, 24, weights=weights, bias=bias)
    source = nested(net.finish(net.convolution(y, 24, weights=weights, bias=bias)))
    made = export_planes(source).model
    first, second = decoders(made)
    assert first.inputs[0] == second.inputs[0] and first.outputs != second.outputs
    assert first.inputs[1] != second.inputs[1]  # each is told apart by what is its own
    x = random_inputs(made.to_bytes(), 1)[0][0]
    np.testing.assert_array_equal(Interpreter(model=made).run(x), Interpreter(model=source).run(x))


def test_a_filter_with_one_level_of_8_bits_stays_as_it_is():
    made = export_planes(nested(network(), everything((8,))))
    assert not decoders(made.model)
    assert [item.decoded_bytes for item in made.filters] == [0] * 5 and made.decoded_bytes == 0


def test_a_controller_is_left_out():
    made = export_planes(controlled())
    assert len(made.model.graph.subgraphs) == 1 and len(decoders(made.model)) == 5


def test_levels_that_stock_kernels_cannot_follow_are_refused():
    source = network()
    recipe = everything()
    filters = round_filters(plan_nesting(source.graph, recipe), 0)
    parameters = source_parameters(source.graph, filters)
    place, levels = next(iter(parameters.items()))
    operator = source.graph.main.operators[place[1]]
    scales = source.graph.main.tensors[operator.inputs[1]].quantization.scale
    levels[0] = LevelParameters(levels[0].bias, np.float32(1.25) * scales)
    model = nest(source, filters, parameters, recipe)
    with pytest.raises(
        UnsupportedError, match=r"has other scales at 4 bits than at 8, and stock kernels"
    ) as caught:
        export_planes(model)
    assert "--level 4 writes the lowest level alone" in (caught.value.hint or "")
    made = export_planes(model, 4)
    x = random_inputs(made.model.to_bytes(), 1)[0][0]
    np.testing.assert_array_equal(
        Interpreter(model=made.model).run(x), Interpreter(model=model, level=4).run(x)
    )
    narrow = narrow_levels(nested(network(1)), (4, 8, 8))
    with pytest.raises(UnsupportedError, match="reads its activation at 4 bits at its level of 4"):
        export_planes(narrow)
    with pytest.raises(UsageError, match="not nested"):
        export_planes(network())
    with pytest.raises(UsageError, match="the model has no level 5"):
        export_planes(nested(network()), 5)


# --------------------------------------------------------------------------------------------- encoding


def sound() -> bytes:
    made = export_planes(with_own_biases(network())).model
    return made.graph.main.tensors[decoders(made)[0].inputs[1]].data.tobytes()


def test_the_layout_is_that_of_the_specification():
    content = sound()
    assert content[:2] == bytes([TYPE, 1]) and TYPE >= 128
    assert content[4:8] == bytes([1, 0, 3, 3])
    assert content[16:32] == bytes([4, 6, 8, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0])
    rows = list(struct.iter_unpack("<IIBBH", content[32:]))
    assert len(rows) == 3 and [row[2:] for row in rows] == [(0, 0, 0), (1, 1, 0), (2, 2, 0)]
    assert PlaneEncoding.from_bytes(content).to_bytes() == content


@pytest.mark.parametrize("place", range(2, 28))
def test_ancillary_data_that_makes_no_sense_is_refused(place):
    content = bytearray(sound())
    content[place] = 77
    with pytest.raises((FormatError, UnsupportedError)):
        PlaneEncoding.from_bytes(bytes(content))
    with pytest.raises(FormatError):
        PlaneEncoding.from_bytes(bytes(sound()[:place]))


def test_encoded_data_of_another_size_is_refused():
    encoding = PlaneEncoding.from_bytes(sound())
    assert encoding.decode_weights(np.zeros(16, np.uint8), 20).tolist() == [-120] * 20  # level 4 alone
    for size in (0, 12, 20, 36):
        with pytest.raises(FormatError):
            encoding.decode_weights(np.zeros(size, np.uint8), 20)
    biases = np.arange(4, dtype="<i4").view(np.uint8)
    assert encoding.decode_bias(biases, 2).tolist() == [2, 3]
    for size, channels in ((0, 2), (12, 2), (32, 2), (8, 0)):
        with pytest.raises(FormatError):
            encoding.decode_bias(np.zeros(size, np.uint8), channels)
