"""FORMAT.md against the code: constants, examples, and a second reader that was written from it."""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flatbuffers import flexbuffers

from converters.nest import nest
from converters.parameters import LevelParameters
from converters.planning import plan_nesting, round_filters, source_bias
from converters.recipe import Recipe, Rule, load_recipe
from tests import format_example, second_reader
from tests.controllers import controlled, controller_model
from tests.models import every_layout
from tests.second_reader import RejectedError
from tests.shared import ROOT
from tests.single_operator import GraphBuilder
from tflnest import container, controller_entry, nested
from tflnest.controller import attach
from tflnest.controller_entry import Choice
from tflnest.errors import FormatError
from tflnest.graph import Subgraph
from tflnest.materialization import materialize
from tflnest.model import Model, set_metadata
from tflnest.narrowing import narrowed
from tflnest.nested import NestedOperator, nested_operators
from tflnest.nesting import Nesting, Scheme
from tflnest.packing import FIELD_ALIGNMENT, GROUP, fields, pack, packed_bytes
from tflnest.requantization import effective_scales
from tflnest.schema import enum_names

TEXT = (ROOT / "FORMAT.md").read_text(encoding="utf-8")
CHAINS = [(4, 6, 8), (6, 8), (3, 5, 8), (2, 4, 6, 8), (4, 6), (8,)]
SHARED_FILE = "pretrainedResnet_quant.tflite"


def section(title: str) -> str:
    """The text from a heading to the next one."""
    _, _, rest = TEXT.partition(f" {title}\n")
    assert rest, f"FORMAT.md has no heading {title!r}"
    return re.split(r"^##", rest, maxsplit=1, flags=re.MULTILINE)[0]


def table(title: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its head."""
    lines = section(title)[section(title).index("\n|") + 1 :].splitlines()
    rows = []
    for line in lines:
        if not line.startswith("|"):
            break
        rows.append([cell.strip().strip("`") for cell in line.strip("|").split("|")])
    return rows[2:]


# --------------------------------------------------------------------------------------------- constants


@pytest.mark.parametrize(
    ("title", "layout", "names"),
    [
        ("8.1 Header", container.HEADER, 10),
        ("8.2 Level row", container.LEVEL, 3),
        ("8.3 Page row", container.PAGE, 6),
        ("8.4 Segment row", container.SEGMENT, 3),
        ("15.1 Controller header", controller_entry.HEADER, 9),
        ("15.2 Operator row", controller_entry.OPERATOR, 1),
        ("15.3 Choice row", controller_entry.CHOICE, 3),
    ],
)
def test_tables_agree_with_the_struct_layouts(title: str, layout: struct.Struct, names: int) -> None:
    rows = table(title)
    codes = {"u8": "B", "u16": "H", "u32": "I"}
    form = "".join(codes.get(kind) or f"{size}s" for _, size, kind, *_ in rows)
    assert struct.Struct(f"<{form}").format == layout.format
    offsets = [int(row[0]) for row in rows]
    sizes = [int(row[1]) for row in rows]
    assert offsets == [sum(sizes[:index]) for index in range(names)]
    assert sum(sizes) == layout.size


def test_header_values_agree() -> None:
    rows = {field: (int(offset), value) for offset, _, _, field, value in table("8.1 Header")}
    assert bytes.fromhex(rows["magic"][1].split("`")[0]) == container.MAGIC
    assert int(rows["version"][1]) == container.VERSION
    assert int(rows["header_size"][1]) == container.HEADER.size
    assert rows["identity"][0] == container.IDENTITY_OFFSET
    assert rows["crc32"][0] == container.CRC_OFFSET
    assert "`TFLNEST`" in section("8. The page directory") and container.METADATA_NAME == "TFLNEST"


def test_limits_agree() -> None:
    assert [int(value) for _, value in table("10. Limits")] == [
        container.MAX_LEVELS,
        container.MAX_SEGMENTS,
        container.MAX_RECIPE_BYTES,
        nested.MAX_OPTION_ITEMS,
        nested.MAX_DIMENSION,
        nested.MAX_WEIGHTS,
        2**31 - 1,
        container.BUFFER_ALIGNMENT,
        container.SEGMENT_ALIGNMENT,
        FIELD_ALIGNMENT,
        GROUP,
        controller_entry.MAX_OPERATORS,
        controller_entry.MAX_CHOICES,
    ]


def test_option_table_agrees() -> None:
    rows = {key: (default, operators, text) for key, _, default, operators, text in table("6.3 Option map")}
    everywhere = {key for key, (_, operators, _) in rows.items() if operators == "all"}
    for stock, options in nested.STOCK_OPTIONS.items():
        assert {key for key, row in rows.items() if stock in row[1].split(", ")} | everywhere == {
            *options,
            "filter_shape",
            "levels",
            "model_levels",
            "version",
            "bias",
            "requantization",
            "scheme",
            "separate",
            "activation_bits",
        }
    for key, enum in (("padding", "Padding"), ("fused_activation_function", "ActivationFunctionType")):
        stated = dict(re.findall(r"(\d) (\w+)", rows[key][2]))
        assert {int(value): name for value, name in stated.items()} == enum_names(enum)
    assert list(dict(re.findall(r"(\d) (\w+)", rows["scheme"][2])).values()) == [
        item.value for item in Scheme
    ]


def test_operator_table_agrees() -> None:
    rows = table("6.1 Operator codes")
    assert {code: (stock, int(axis)) for code, stock, _, axis in rows} == {
        nested.PREFIX + stock: (stock, axis) for stock, axis in nested.CHANNEL_AXIS.items()
    }


def test_planes_agree() -> None:
    for scheme, chain, *cells in _plane_examples():
        nesting = Nesting(tuple(map(int, chain.split(","))), Scheme(scheme))
        stated = [tuple(map(int, re.findall(r"\d+", cell))) for cell in cells[:4] if cell]
        assert stated == [(plane.bits, plane.shift, plane.zero) for plane in nesting.planes]
        assert int(cells[4]) == nesting.stored_bits(nesting.levels[-1])


def _plane_examples() -> list[list[str]]:
    lines = [
        line
        for line in section("4.1 Planes").splitlines()
        if re.match(r"\| (bucket|compensated) \| \d", line)
    ]
    assert len(lines) == 9
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_decoding_examples_agree() -> None:
    bucket, compensated = Nesting((4, 6, 8)), Nesting((6, 8), Scheme.COMPENSATED)
    rows = [(bucket, *row[:1], row[2], row[3:]) for row in table("4.2 `bucket`")]
    rows += [(compensated, *row[:1], row[2], row[3:]) for row in table("4.3 `compensated`")]
    assert len(rows) == 7
    for nesting, weight, codes, levels in rows:
        planes = [np.array([int(code)], np.uint8) for code in codes.split(",")]
        decoded = [int(nesting.join(planes, level)[0]) for level in nesting.levels]
        assert decoded == [int(cell.split("=")[-1]) for cell in levels]
        if nesting.levels[-1] == 8:
            assert decoded[-1] == int(weight)


def test_packing_examples_agree() -> None:
    widths = next(row for row in TEXT.splitlines() if row.startswith("| fields, most significant first"))
    assert [tuple(map(int, cell.split("+"))) for cell in widths.strip("|").split("|")[1:]] == [
        fields(bits) for bits in range(1, 9)
    ]
    for count, *sizes in table("5.3 Sizes"):
        assert [int(size) for size in sizes] == [packed_bytes(int(count), bits) for bits in range(1, 9)]
    example = section("5.3 Sizes")
    ramp = np.arange(16, dtype=np.uint8)
    for codes, bits in ((ramp, 4), (ramp % 4, 2), ((ramp % 4 == 0).astype(np.uint8), 1)):
        assert f"`{pack(codes, bits).hex(' ')}`" in example


@pytest.mark.parametrize("width", [4, 2, 1])
def test_group_diagrams_agree(width: int) -> None:
    """The diagram of a group, read as positions, is what `pack` does."""
    cells = next(
        names
        for names in (
            re.findall(r"w(\d+)", line) for line in section("5.2 Groups").splitlines() if "| w" in line
        )
        if len(names) == 16 and {4: "4", 2: "8", 1: "9"}[width] == names[1]
    )
    for position, weight in enumerate(cells):
        codes = np.zeros(16, np.uint8)
        codes[int(weight)] = 1
        bits = int.from_bytes(pack(codes, width)[: 2 * width], "big")
        assert bits == 1 << (width * (15 - position))


def test_multiplier_examples_agree() -> None:
    rows = table("7.3 From multiplier to scale")
    assert len(rows) == 3
    input_scale, output_scale = float(np.float32(0.1)), float(np.float32(0.3))
    for scale, factor, multiplier, shift, stated in rows:
        pair = int(multiplier), int(shift)
        exact = float(np.float32(scale))
        assert second_reader.multiplier_of(input_scale, exact, output_scale) == pair
        assert second_reader.recover_scale(input_scale, output_scale, *pair) == float(stated) == exact
        recovered = nested.recover_filter_scales(
            input_scale,
            output_scale,
            np.array([pair[0]], np.int32),
            np.array([pair[1]], np.int8),
        )
        assert recovered[0] == float(stated)
        effective = effective_scales(input_scale, np.array([scale], np.float32), output_scale)
        assert effective[0] == float(factor)


# ----------------------------------------------------------------------------------------------- example


@pytest.fixture(scope="module")
def example() -> bytes:
    """The file of section 14, from its listing."""
    lines = re.findall(
        r"^[0-9a-f]{4}  ((?:[0-9a-f]{2} ?| )+)  ", section("14. A complete example"), re.MULTILINE
    )
    return bytes.fromhex("".join(lines))


def test_the_example_is_what_the_writer_writes(example: bytes) -> None:
    written, listed = Model.from_bytes(format_example.build()), Model.from_bytes(example)
    assert len(example) == 1136
    for ours, theirs in zip(written.graph.main.tensors, listed.graph.main.tensors, strict=True):
        assert ours == theirs
        assert np.array_equal(ours.data, theirs.data) if ours.is_constant else theirs.data is None
    assert written.graph.main.operators == listed.graph.main.operators
    assert written.directory is not None and listed.directory is not None
    assert written.directory.recipe == listed.directory.recipe
    assert [(page.size, page.crc32) for page in written.directory.pages] == [
        (page.size, page.crc32) for page in listed.directory.pages
    ]


def test_the_example_decodes_to_what_is_stated(example: bytes) -> None:
    file = second_reader.read(example)
    operator = file.operators[0]
    text = section("14. A complete example")
    assert f"identity {file.directory.identity.hex()}" in text
    stated = {
        row[0]: [
            [int(item) if item.strip("- ").isdigit() else float(item) for item in cell.split(",")]
            for cell in row[1:]
        ]
        for row in (
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in text.splitlines()
            if re.match(r"\| (codes|weights|bias|multiplier|shift|filter scale)", line)
        )
    }
    for own, level in enumerate(format_example.LEVELS):
        assert stated[f"weights at level {level}"] == operator.weights(own).tolist()
        assert stated[f"bias at level {level}"] == [[value] for value in operator.bias(own)]
        codes = second_reader.unpack(operator.plane(own), operator.plane_shape(own)[0], 18)
        assert stated[f"codes of plane {own}"] == codes.reshape(3, 6).tolist()
    multiplier, shift = operator.requantization(0)
    assert stated["multiplier"] == [[value] for value in multiplier]
    assert stated["shift"] == [[value] for value in shift]
    assert np.array_equal(np.float32(np.ravel(stated["filter scale"])), np.float32(operator.filter_scales(0)))
    assert np.array_equal(operator.weights(2), format_example.weights())
    for page in file.directory.pages:
        assert f"level {page.level}, {len(page.image)} bytes, CRC-32 {page.crc32:#010x}" in text


def test_the_example_has_its_parts_where_it_says(example: bytes) -> None:
    model = Model.from_bytes(example)
    assert model.directory is not None
    rows = [
        (int(offset, 16), int(size), content)
        for offset, size, content in re.findall(r"\| (0x[0-9a-f]{3}) \| (\d+) \| (.*) \|", TEXT)
    ]
    assert len(rows) == 12
    segments = {s.buffer: (s.offset, s.size) for page in model.directory.pages for s in page.segments}
    listed = {
        int(re.findall(r"buffer (\d)", text)[0]): (at, size) for at, size, text in rows if "buffer" in text
    }
    assert listed == segments
    named = {text: example[at : at + size] for at, size, text in rows}
    assert named["file identifier"] == b"TFL3"
    assert named["directory: header"][:8] == container.MAGIC
    assert named["directory: identity"] == model.directory.identity
    assert named["directory: recipe"].decode() == model.directory.recipe
    assert named["option map"] == model.graph.main.operators[0].options["custom_options"]
    whole = b"".join(named[f"directory: {part} table"] for part in ("level", "page", "segment"))
    assert (
        container.encode(model.directory) == named["directory: header"] + whole + named["directory: recipe"]
    )
    images = re.findall(
        r"^(?:page \d|      )   ((?:[0-9a-f]{2} )+)", section("14. A complete example"), re.MULTILINE
    )
    pages = [container.page_image(example, page) for page in model.directory.pages]
    assert bytes.fromhex("".join(images)) == b"".join(pages)


# ---------------------------------------------------------------------------------------- second reader


def mixed_model(seed: int = 3) -> Model:
    """A depthwise and an ordinary convolution, then fully connected per channel and per tensor."""
    rng = np.random.default_rng(seed)

    def constant(shape: tuple[int, ...], scales: Any, axis: int) -> int:
        values = rng.integers(-128, 128, shape).astype(np.int8)
        values.flat[:2] = -128, 127
        return builder.constant(values, scale=scales, axis=axis)

    def bias(channels: int) -> int:
        return builder.constant(
            rng.integers(-5000, 5000, channels).astype(np.int32), scale=[0.001] * channels
        )

    def scales(channels: int) -> list[float]:
        return rng.uniform(0.001, 0.1, channels).tolist()

    builder = GraphBuilder()
    x = builder.input((1, 7, 5, 3), scale=0.0471, zero_point=-7)
    tensors = [
        builder.tensor(shape, scale=scale, zero_point=4)
        for shape, scale in (((1, 7, 5, 6), 0.083), ((1, 4, 3, 5), 0.31), ((1, 19), 1.7), ((1, 3), 0.9))
    ]
    window = {"stride_w": 1, "stride_h": 1, "dilation_w_factor": 1, "dilation_h_factor": 1}
    builder.operator(
        "DEPTHWISE_CONV_2D",
        [x, constant((1, 3, 3, 6), scales(6), 3), bias(6)],
        tensors[:1],
        depth_multiplier=2,
        fused_activation_function="RELU6",
        **window,
    )
    builder.operator(
        "CONV_2D",
        [tensors[0], constant((5, 3, 3, 6), scales(5), 0), bias(5)],
        tensors[1:2],
        padding="SAME",
        **window | {"stride_w": 2, "stride_h": 2},
    )
    builder.operator(
        "FULLY_CONNECTED", [tensors[1], constant((19, 60), scales(19), 0), bias(19)], tensors[2:3]
    )
    last = constant((3, 19), scales(1), 0)
    builder.operator("FULLY_CONNECTED", [tensors[2], last, -1], tensors[3:], version=4, keep_num_dims=True)
    return Model.from_bytes(builder.build(tensors[3:]))


def nested_model(source: Model, recipe: Recipe) -> Model:
    """Nest, with a bias per level that tells levels apart."""
    filters = round_filters(plan_nesting(source.graph, recipe), 0)
    parameters = {}
    for item in filters:
        for index in item.plan.operators:
            subgraph = source.graph.subgraphs[item.plan.subgraph]
            bias = source_bias(subgraph, subgraph.operators[index])
            parameters[item.plan.subgraph, index] = [
                LevelParameters((bias + 10 * own).astype(np.int32)) for own in range(len(item.levels))
            ]
    return nest(source, filters, parameters, recipe)


def check_agreement(model: Model) -> int:
    """Compare both readers on everything that they say of a file; returns the number of nested operators."""
    content = model.to_bytes()
    file, directory = second_reader.read(content), model.directory
    assert directory is not None
    assert (tuple(file.directory.levels), file.directory.identity) == (directory.levels, directory.identity)
    assert file.directory.recipe == directory.recipe
    for theirs, page in zip(file.directory.pages, directory.pages, strict=True):
        assert theirs.image == container.page_image(content, page)
        assert (theirs.level, theirs.crc32, len(theirs.image)) == (page.level, page.crc32, page.size)
    operators = nested_operators(model.graph)
    for view, (subgraph, operator) in zip(file.operators, operators, strict=True):
        check_operator(view, subgraph, operator)
    return len(operators)


def check_operator(view: second_reader.OperatorView, subgraph: Subgraph, operator: NestedOperator) -> None:
    assert (view.subgraph, view.index, view.stock) == (
        subgraph.index,
        operator.operator.index,
        operator.stock,
    )
    assert (view.version, view.scope) == (operator.stock_version, operator.scope)
    assert tuple(view.model_levels) == operator.model_levels
    assert tuple(view.activation_bits) == operator.activation_bits
    assert view.compensated is (operator.nesting.scheme is Scheme.COMPENSATED)
    by_name = {"padding": "Padding", "fused_activation_function": "ActivationFunctionType"}
    assert operator.options == {
        name: enum_names(by_name[name])[value] if name in by_name else value
        for name, value in view.options.items()
    }
    assert tuple(view.levels) == operator.nesting.levels
    for own, level in enumerate(view.levels):
        form = operator.stock_form(subgraph, level, lambda tensor: tensor.data)
        assert np.array_equal(view.weights(own), form.filter.data)
        assert np.array_equal(view.bias(own), form.bias.data)
        assert form.filter.quantization is not None and form.bias.quantization is not None
        scales = np.float32(view.filter_scales(own))
        assert np.array_equal(scales, form.filter.quantization.scale)
        input_scale = np.float32(view.activation.scales[0])
        assert np.array_equal(input_scale * scales, form.bias.quantization.scale)
        assert view.page_of(own) == operator.page_of(own)


@pytest.mark.parametrize("levels", CHAINS, ids=lambda levels: "-".join(map(str, levels)))
@pytest.mark.parametrize("scheme", list(Scheme))
def test_both_readers_agree(scheme: Scheme, levels: tuple[int, ...]) -> None:
    source = mixed_model()
    model = nested_model(source, Recipe(levels=levels, scheme=scheme))
    assert check_agreement(model) == 4
    if levels[-1] == 8:
        full = second_reader.read(model.to_bytes()).operators
        for view, operator in zip(full, source.graph.main.operators, strict=True):
            original = source.graph.main.tensors[operator.inputs[1]].data
            assert np.array_equal(view.weights(len(levels) - 1), original)


def test_both_readers_agree_on_mixed_chains() -> None:
    rules = (
        Rule(operator="DEPTHWISE_CONV_2D", levels=(6, 8)),
        Rule(operator="CONV_2D", levels=(3, 8), scheme=Scheme.COMPENSATED),
        Rule(smaller_than=100, flat=True),
        Rule(operator="FULLY_CONNECTED", levels=(2, 4)),
    )
    model = nested_model(mixed_model(), Recipe(levels=(2, 4, 6, 8), rules=rules))
    assert check_agreement(model) == 3
    views = second_reader.read(model.to_bytes()).operators
    assert [view.model_levels for view in views] == [[0, 0, 0, 1], [0, 0, 0, 1], [0, 1, 1, 1]]


def test_both_readers_agree_on_requantization_sets() -> None:
    """Two sets for three levels, one of them with a single multiplier."""
    model = Model.from_bytes(format_example.build())
    subgraph = model.tree.subgraphs[0]
    example = second_reader.read(model.to_bytes()).operators[0]
    scale = float(np.float32(0.01))
    multiplier, shift = second_reader.multiplier_of(
        example.activation.scales[0], scale, example.output.scales[0]
    )
    more = np.frombuffer(np.int32(multiplier).tobytes() + np.int8(shift).tobytes(), np.uint8)
    buffer = model.tree.buffers[subgraph.tensors[subgraph.operators[0].inputs[2]].buffer]
    buffer.data = np.concatenate([np.array(buffer.data), more])
    subgraph.tensors[subgraph.operators[0].inputs[2]].shape = [len(buffer.data)]
    edit_options(model, requantization=[0, 1, 1])
    model.changed()
    content = model.to_bytes()
    assert check_agreement(Model.from_bytes(content)) == 1
    view = second_reader.read(content).operators[0]
    assert (len(view.filter_scales(0)), len(view.filter_scales(1))) == (3, 1)
    assert second_reader.read(content).operators[0].sets == [0, 1, 1]


def test_both_readers_agree_on_every_layout_of_constants() -> None:
    model = every_layout()
    assert check_agreement(model) == 5
    views = second_reader.read(model.to_bytes()).operators
    assert [view.separate for view in views] == [True, True, False, False, False]
    assert {tuple(view.sets) for view in views} == {(0, 1, 0, 1)}
    assert {tuple(view.biases) for view in views} == {(0, 0, 1, 1), (0, 0, 1, 2)}


def test_second_reader_agrees_with_what_materialize_writes() -> None:
    model = nested_model(mixed_model(), Recipe(levels=(3, 5, 8), scheme=Scheme.COMPENSATED))
    views = second_reader.read(model.to_bytes()).operators
    for position, level in enumerate((3, 5, 8)):
        main = materialize(model, level).graph.main
        for view, operator in zip(views, main.operators, strict=True):
            assert (operator.name, operator.version) == (view.stock, view.version)
            filter_tensor, bias = main.tensors[operator.inputs[1]], main.tensors[operator.inputs[2]]
            own = view.model_levels[position]
            assert np.array_equal(filter_tensor.data, view.weights(own))
            assert np.array_equal(bias.data, view.bias(own))
            assert filter_tensor.quantization is not None
            assert np.array_equal(filter_tensor.quantization.scale, np.float32(view.filter_scales(own)))
            assert filter_tensor.quantization.axis == second_reader.OPERATORS[view.stock][2]
            assert not filter_tensor.quantization.zero_point.any()


@pytest.mark.shared
@pytest.mark.parametrize("preset", ["default", "compensated"])
def test_both_readers_agree_on_a_real_model(shared_models: Path, preset: str) -> None:
    model = nested_model(Model.load(shared_models / SHARED_FILE), load_recipe(preset))
    assert check_agreement(model) >= 9


# ------------------------------------------------------------------------------------------ what is rejected


def edit_options(model: Model, drop: tuple[str, ...] = (), **changes: Any) -> None:
    """Rewrite the option map of the first operator; lists become typed vectors."""
    operator = model.tree.subgraphs[0].operators[0]
    values = flexbuffers.Loads(bytes(bytearray(operator.customOptions))) | changes
    builder = flexbuffers.Builder()
    with builder.Map():
        for name in sorted(set(values) - set(drop)):
            if isinstance(values[name], list):
                builder.TypedVectorFromElements(name, values[name])
            else:
                builder.Add(name, values[name])
    operator.customOptions = np.frombuffer(bytes(builder.Finish()), np.uint8)


def list_in_directory(model: Model, page: int, buffers: list[int]) -> None:
    """Put buffers in a page, at its end."""
    assert model.directory is not None
    pages = [[segment.buffer for segment in item.segments] for item in model.directory.pages]
    replace_pages(
        model,
        [[b for b in item if b not in buffers] for item in pages[:page]]
        + [[b for b in pages[page] if b not in buffers] + buffers]
        + [[b for b in item if b not in buffers] for item in pages[page + 1 :]],
    )


def replace_pages(model: Model, pages: list[list[int]]) -> None:
    assert model.directory is not None
    fresh = container.new_directory(model.directory.levels, pages, model.directory.recipe)
    entry = next(item for item in model.tree.metadata if item.name in (b"TFLNEST", "TFLNEST"))
    model.tree.buffers[entry.buffer].data = np.frombuffer(container.encode(fresh), np.uint8)


def both_reject(content: bytes) -> None:
    with pytest.raises(RejectedError):
        second_reader.read(content)
    with pytest.raises(FormatError):
        Model.from_bytes(content)


def patched(content: bytes, at: int, replacement: bytes) -> bytes:
    """Change bytes of the directory, given from its start, and make CRC and identity right again."""
    start = content.index(container.MAGIC, 0x80)
    size = struct.unpack_from("<I", content, start - 4)[0]
    changed = bytearray(content)
    changed[start + at : start + at + len(replacement)] = replacement
    changed[start + 16 : start + 48] = bytes(32)
    changed[start + 60 : start + 64] = bytes(4)
    entry = bytes(changed[start : start + size])
    changed[start + 60 : start + 64] = struct.pack("<I", zlib.crc32(entry))
    changed[start + 16 : start + 48] = hashlib.sha256(changed).digest()
    return bytes(changed)


def test_patching_alone_changes_nothing(example: bytes) -> None:
    assert patched(example, 0, container.MAGIC) == example


@pytest.mark.parametrize(
    ("at", "replacement"),
    [
        pytest.param(0, b"T", id="nothing, to prove the harness"),
        pytest.param(0, b"t", id="magic"),
        pytest.param(8, struct.pack("<H", 2), id="version"),
        pytest.param(10, struct.pack("<H", 68), id="header size"),
        pytest.param(12, struct.pack("<I", 1), id="flags"),
        pytest.param(48, struct.pack("<HH", 0, 0), id="no levels"),
        pytest.param(50, struct.pack("<H", 2), id="page count"),
        pytest.param(52, struct.pack("<I", 9), id="segment count"),
        pytest.param(52, struct.pack("<I", 0xFFFFFFFF), id="segment limit"),
        pytest.param(56, struct.pack("<I", 77), id="recipe size"),
        pytest.param(64, b"\0", id="level 0"),
        pytest.param(64, b"\6", id="levels do not increase"),
        pytest.param(65, b"\1", id="reserved byte"),
        pytest.param(66, b"\1", id="reserved word"),
        pytest.param(76, b"\1", id="page index"),
        pytest.param(78, b"\5", id="level of a page"),
        pytest.param(80, struct.pack("<I", 56), id="page size"),
        pytest.param(84, struct.pack("<I", 0), id="page CRC"),
        pytest.param(88, struct.pack("<I", 1), id="first segment"),
        pytest.param(92, struct.pack("<I", 2), id="segments of a page"),
        pytest.param(136, struct.pack("<I", 2), id="a buffer twice"),
        pytest.param(136, struct.pack("<I", 99), id="no such buffer"),
        pytest.param(136, struct.pack("<I", 3), id="another buffer"),
        pytest.param(140, struct.pack("<I", 0x1E4), id="segment offset"),
        pytest.param(144, struct.pack("<I", 42), id="segment size"),
        pytest.param(172, b"\xff", id="recipe is no UTF-8"),
    ],
)
def test_both_readers_reject_a_wrong_directory(example: bytes, at: int, replacement: bytes) -> None:
    content = patched(example, at, replacement)
    if replacement == b"T":
        second_reader.read(content)
        Model.from_bytes(content)
        return
    both_reject(content)


@pytest.mark.parametrize(
    "at",
    [0x090, 0x0BC, 0x0C4, 0x12C, 0x208, 0x20B, 0x1E0, 0x27C, 0x35D],
    ids=["identity", "CRC", "level", "recipe", "shift", "padding", "plane", "option", "scale"],
)
def test_both_readers_reject_a_flipped_bit(example: bytes, at: int) -> None:
    damaged = bytearray(example)
    damaged[at] ^= 1
    both_reject(bytes(damaged))


@pytest.mark.parametrize("size", [0, 7, 40, 160, 1000, 1135])
def test_both_readers_reject_a_short_file(example: bytes, size: int) -> None:
    both_reject(example[:size])


def _empty(model: Model) -> None:
    model.tree.metadata = None


def _twice(model: Model) -> None:
    model.tree.metadata = model.tree.metadata * 2


def _operator_version(model: Model) -> None:
    model.tree.operatorCodes[0].version = 2


def _operator_name(model: Model) -> None:
    model.tree.operatorCodes[0].customCode = "TFLNEST_SVDF"


def _inputs(change: Callable[[list[int]], list[int]]) -> Callable[[Model], None]:
    def edit(model: Model) -> None:
        operator = model.tree.subgraphs[0].operators[0]
        operator.inputs = change([int(index) for index in operator.inputs])

    return edit


def _options(drop: tuple[str, ...] = (), **changes: Any) -> Callable[[Model], None]:
    return lambda model: edit_options(model, drop, **changes)


def _plane_too_high(model: Model) -> None:
    list_in_directory(model, 2, [2])  # plane 1 and its bias, which level 6 reads


def _constant_in_no_page(model: Model) -> None:
    assert model.directory is not None
    pages = [[segment.buffer for segment in item.segments] for item in model.directory.pages]
    replace_pages(model, [[buffer for buffer in item if buffer != 3] for item in pages])


def _type_of_plane(model: Model) -> None:
    model.tree.subgraphs[0].tensors[1].type = 9  # INT8


def _activation_without_scale(model: Model) -> None:
    model.tree.subgraphs[0].tensors[0].quantization = None


def _activation_scale(value: float) -> Callable[[Model], None]:
    def edit(model: Model) -> None:
        model.tree.subgraphs[0].tensors[3].quantization.scale = [value]

    return edit


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(_empty, id="no directory"),
        pytest.param(_twice, id="two directories"),
        pytest.param(_operator_version, id="operator version"),
        pytest.param(_operator_name, id="operator name"),
        pytest.param(_inputs(lambda inputs: inputs[:-1]), id="an input less"),
        pytest.param(_inputs(lambda inputs: [*inputs, inputs[-1]]), id="an input more"),
        pytest.param(_inputs(lambda inputs: [*inputs[:-1], -1]), id="an absent input"),
        pytest.param(
            _inputs(lambda inputs: [*inputs[:1], inputs[2], *inputs[2:]]), id="a plane of another size"
        ),
        pytest.param(
            _inputs(lambda inputs: [inputs[0], inputs[0], *inputs[2:]]), id="a plane that is no constant"
        ),
        pytest.param(_type_of_plane, id="type of a plane"),
        pytest.param(_activation_without_scale, id="activation without scale"),
        pytest.param(_activation_scale(0.0), id="scale 0"),
        pytest.param(_activation_scale(float("nan")), id="scale NaN"),
        pytest.param(_activation_scale(float("inf")), id="infinite scale"),
        pytest.param(_plane_too_high, id="a plane in too high a page"),
        pytest.param(_constant_in_no_page, id="a constant in no page"),
        pytest.param(_options(unheard_of=1), id="unknown option"),
        pytest.param(_options(drop=("levels",)), id="no levels"),
        pytest.param(_options(drop=("version",)), id="no version"),
        pytest.param(_options(version=0), id="version 0"),
        pytest.param(_options(version=1 << 40), id="version over the limit"),
        pytest.param(_options(version="4"), id="version is a text"),
        pytest.param(_options(levels=4), id="levels are a number"),
        pytest.param(_options(levels=[4.0, 6.0, 8.0]), id="levels are reals"),
        pytest.param(_options(levels=[4, 8, 6]), id="levels do not increase"),
        pytest.param(_options(levels=[4, 6, 9]), id="level 9"),
        pytest.param(_options(levels=[1] * 17), id="too many levels"),
        pytest.param(_options(model_levels=[0, 2]), id="model_levels too short"),
        pytest.param(_options(model_levels=[0, 1, 1]), id="model_levels end low"),
        pytest.param(_options(model_levels=[1, 0, 2]), id="model_levels decrease"),
        pytest.param(_options(model_levels=[-1, 1, 2]), id="model_levels negative"),
        pytest.param(_options(scheme=2), id="scheme"),
        pytest.param(_options(scheme=1), id="scheme with other planes"),
        pytest.param(_options(requantization=[0, 1, 1]), id="multipliers that are not there"),
        pytest.param(_options(requantization=[0, 0]), id="requantization too short"),
        pytest.param(_options(requantization=[-1, 0, 0]), id="requantization negative"),
        pytest.param(_options(requantization=[0, 2, 0]), id="requantization too high"),
        pytest.param(_options(requantization=[1, 0, 0]), id="requantization in another order"),
        pytest.param(_options(bias=[0, 0, 0]), id="biases that nothing uses"),
        pytest.param(_options(bias=[0, 1]), id="bias too short"),
        pytest.param(_options(bias=[0, 2, 1]), id="bias in another order"),
        pytest.param(_options(separate=1), id="constants that are not separate"),
        pytest.param(_options(separate=2), id="separate"),
        pytest.param(_options(activation_bits=[4, 8]), id="activation_bits too short"),
        pytest.param(_options(activation_bits=[0, 8, 8]), id="activations of 0 bits"),
        pytest.param(_options(activation_bits=[4, 8, 9]), id="activations of 9 bits"),
        pytest.param(_options(activation_bits=4), id="activation_bits are a number"),
        pytest.param(_options(filter_shape=[18]), id="rank of the filter"),
        pytest.param(_options(filter_shape=[6, 3]), id="shape of the filter"),
        pytest.param(_options(filter_shape=[3, 0]), id="empty filter"),
        pytest.param(_options(filter_shape=[3, 1 << 24]), id="dimension over the limit"),
        pytest.param(_options(filter_shape=[1 << 20, 1 << 20]), id="weights over the limit"),
        pytest.param(_options(stride_w=2), id="option of another operator"),
        pytest.param(_options(keep_num_dims=2), id="keep_num_dims"),
        pytest.param(_options(fused_activation_function=6), id="activation"),
    ],
)
def test_both_readers_reject_a_wrong_operator(example: bytes, edit: Callable[[Model], None]) -> None:
    model = Model.from_bytes(example)
    edit(model)
    model.changed()
    both_reject(model.to_bytes())


def test_both_readers_reject_weights_outside_int8() -> None:
    """Planes of `compensated` can hold sums that no int8 filter has."""
    model = nested_model(mixed_model(), Recipe(levels=(6, 8), scheme=Scheme.COMPENSATED))
    subgraph, operator = nested_operators(model.graph)[0]
    for plane in operator.planes:
        data = np.array(model.tree.buffers[subgraph.tensors[plane.tensor].buffer].data)
        data[: plane.size] = 0
        model.tree.buffers[subgraph.tensors[plane.tensor].buffer].data = data
    model.changed()
    content = model.to_bytes()
    with pytest.raises(RejectedError, match="outside int8"):
        second_reader.read(content).operators[0].weights(1)
    with pytest.raises(FormatError, match="outside int8"):
        materialize(Model.from_bytes(content))


def test_both_readers_reject_a_multiplier_that_no_scale_gives() -> None:
    model = Model.from_bytes(format_example.build())
    _, operator = nested_operators(model.graph)[0]
    part = operator.multipliers[0]
    buffer = model.tree.buffers[model.graph.main.tensors[part.tensor].buffer]
    buffer.data = np.array(buffer.data)
    multipliers = np.array([1832519293, 1832519294, 1832519293], "<i4")
    buffer.data[part.offset : part.offset + part.size] = multipliers.view(np.uint8)
    model.changed()
    content = model.to_bytes()
    with pytest.raises(RejectedError, match="no filter scale"):
        second_reader.read(content).operators[0].filter_scales(0)
    with pytest.raises(FormatError, match="no float32 scale"):
        materialize(Model.from_bytes(content))


# ------------------------------------------------------------------------------------------ dynamic widths


def test_narrowing_examples_agree() -> None:
    rows = table("6.7 Activations at fewer bits")
    assert len(rows) == 6
    for row in rows:
        value, *stated = map(int, row)
        for bits, expected in zip((8, 4, 2, 1), stated, strict=True):
            assert second_reader.read_activation(value, bits) == expected
            assert narrowed(np.array([value], np.int8), bits).tolist() == [expected]


def test_both_readers_agree_on_activation_bits(example: bytes) -> None:
    model = Model.from_bytes(example)
    edit_options(model, activation_bits=[2, 4, 8])
    model.changed()
    changed = Model.from_bytes(model.to_bytes())
    assert check_agreement(changed) == 1
    assert nested_operators(changed.graph)[0][1].activation_bits == (2, 4, 8)


def test_both_readers_agree_on_a_controller() -> None:
    model = controlled(nested_model(mixed_model(), Recipe(levels=(4, 6, 8))))
    assert check_agreement(model) == 4
    controller, view = model.controller, second_reader.read(model.to_bytes()).controller
    assert controller is not None and view is not None
    assert (view.subgraph, view.stem) == (controller.subgraph, controller.stem)
    assert tuple(view.operators) == controller.operators
    assert [Choice(*pair) for pair in view.choices] == list(controller.choices)
    assert bytes.fromhex(table("15.1 Controller header")[0][4].split("`")[0]) == controller_entry.MAGIC


def _controller_field(at: int, replacement: bytes) -> Callable[[Model], None]:
    def edit(model: Model) -> None:
        assert model.controller is not None
        content = controller_entry.encode(model.controller)
        content = content[:at] + replacement + content[at + len(replacement) :]
        set_metadata(model.tree, controller_entry.METADATA_NAME, content)

    return edit


def _constant_as_stem(model: Model) -> None:
    constant = next(tensor.index for tensor in model.graph.main.tensors if tensor.is_constant)
    _controller_field(20, constant.to_bytes(4, "little"))(model)


def _controller_size(change: Callable[[bytes], bytes]) -> Callable[[Model], None]:
    def edit(model: Model) -> None:
        assert model.controller is not None
        content = change(controller_entry.encode(model.controller))
        set_metadata(model.tree, controller_entry.METADATA_NAME, content)

    return edit


def _controller_without_directory(model: Model) -> None:
    model.tree.metadata = [
        entry for entry in model.tree.metadata if entry.name not in (b"TFLNEST", "TFLNEST")
    ]


def _second_controller(model: Model) -> None:
    model.tree.metadata = [*model.tree.metadata, model.tree.metadata[-1]]


def _last_tensor(**changes: Any) -> Callable[[Model], None]:
    def edit(model: Model) -> None:
        subgraph = model.tree.subgraphs[-1]
        tensor = subgraph.tensors[int(subgraph.outputs[0])]
        for name, value in changes.items():
            setattr(tensor, name, value)

    return edit


def _controller_gives_its_input(model: Model) -> None:
    subgraph = model.tree.subgraphs[-1]
    subgraph.outputs = subgraph.inputs


def _controller_reads_a_constant(model: Model) -> None:
    """The last operator does not read what the others computed."""
    subgraph = model.tree.subgraphs[-1]
    last = subgraph.operators[-1]
    last.inputs = [int(last.inputs[1]), *[int(index) for index in last.inputs[1:]]]


def _controller_zero_point(model: Model) -> None:
    subgraph = model.tree.subgraphs[-1]
    subgraph.tensors[int(subgraph.inputs[0])].quantization.zeroPoint = [1]


@pytest.mark.parametrize(
    "edit",
    [
        pytest.param(_controller_field(0, b"X"), id="magic"),
        pytest.param(_controller_field(8, b"\2"), id="version"),
        pytest.param(_controller_field(10, b"\x24"), id="header size"),
        pytest.param(_controller_field(12, b"\1"), id="flags"),
        pytest.param(_controller_field(16, b"\0"), id="main subgraph"),
        pytest.param(_controller_field(16, b"\2"), id="no such subgraph"),
        pytest.param(_controller_field(20, b"\xff\xff"), id="no such stem"),
        pytest.param(_constant_as_stem, id="stem is a constant"),
        pytest.param(_controller_field(24, b"\0"), id="no operators"),
        pytest.param(_controller_field(26, b"\xff"), id="too many choices"),
        pytest.param(_controller_field(28, b"\1"), id="reserved"),
        pytest.param(_controller_field(32, b"\0"), id="an operator before the stem"),
        pytest.param(_controller_field(32, b"\x63"), id="no such operator"),
        pytest.param(_controller_field(36, b"\1"), id="operators do not increase"),
        pytest.param(_controller_field(-8, b"\5"), id="no such level"),
        pytest.param(_controller_field(-7, b"\0"), id="activations of 0 bits"),
        pytest.param(_controller_field(-7, b"\x09"), id="activations of 9 bits"),
        pytest.param(_controller_field(-6, b"\1"), id="reserved in a choice"),
        pytest.param(_controller_size(lambda content: content[:-1]), id="truncated"),
        pytest.param(_controller_size(lambda content: content + b"\0"), id="too long"),
        pytest.param(_controller_size(lambda content: content[:-8] + content[-4:] * 2), id="a choice twice"),
        pytest.param(_controller_without_directory, id="no directory"),
        pytest.param(_second_controller, id="two controllers"),
        pytest.param(_last_tensor(shape=[1, 2]), id="number of logits"),
        pytest.param(_last_tensor(type=3), id="type of the logits"),
        pytest.param(_controller_zero_point, id="zero point of the stem"),
        pytest.param(_controller_gives_its_input, id="the stem as logits"),
        pytest.param(_controller_reads_a_constant, id="logits that do not depend on the stem"),
    ],
)
def test_both_readers_reject_a_wrong_controller(edit: Callable[[Model], None]) -> None:
    model = controlled(nested_model(mixed_model(), Recipe(levels=(4, 6, 8))))
    edit(model)
    model.changed()
    both_reject(model.to_bytes())


def test_a_controller_with_nested_operators_is_rejected_by_both() -> None:
    source = nested_model(mixed_model(), Recipe(levels=(4, 6, 8)))
    model = attach(
        source,
        controller_model(source.graph.main.tensors[source.graph.main.operators[0].outputs[0]], 4),
        source.graph.main.operators[0].outputs[0],
        [1, 2],
        [(4, 8), (8, 8)],
    )
    subgraph, first = model.tree.subgraphs[-1], model.tree.subgraphs[0].operators[0]
    subgraph.operators[-1].opcodeIndex = first.opcodeIndex
    model.changed()
    both_reject(model.to_bytes())
