"""Hostile files end in one clear error: no crash, no hang, no memory beyond the stated bounds.

Single structures that are wrong are tested beside the module that reads them; here whole files are damaged,
and files are made by hand that are sound in every part and ask for too much as a whole.
"""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from converters.planning import plan_nesting
from tests.fuzz.fuzz_reader import Campaign, exercise, main, mutate, mutate_tree, reseal, seeds
from tests.models import NetworkBuilder, everything, nested, network, operators_of, small_network
from tests.tflnest import attacks
from tflnest import container
from tflnest.errors import FormatError, TflnestError, UnsupportedError
from tflnest.execution import MAX_ACTIVATION_BYTES, MAX_CONSTANT_BYTES
from tflnest.flatbuffer import FREE_BYTES, MODEL_BYTES_PER_FILE_BYTE
from tflnest.interpreter import Interpreter
from tflnest.materialization import materialize
from tflnest.model import Model, opcode_index, pack_tree, set_metadata
from tflnest.schema import enum_value, schema

PLAIN = small_network().to_bytes()
NESTED = nested(small_network()).to_bytes()


def refused(content: bytes) -> bool:
    try:
        Model.from_bytes(content)
    except FormatError:
        return True
    return False


# ----------------------------------------------------------------------------------------- damaged files


@pytest.mark.parametrize("content", [PLAIN, NESTED], ids=["plain", "nested"])
def test_every_truncation_is_refused(content):
    survivors = [size for size in range(len(content)) if not refused(content[:size])]
    assert survivors == []


def flipped(content: bytes, bit: int) -> bytes:
    damaged = bytearray(content)
    damaged[bit >> 3] ^= 1 << (bit & 7)
    return bytes(damaged)


def test_a_flipped_bit_in_every_byte_of_a_nested_file_is_noticed():
    """The identity covers the whole file, padding and trailing bytes too."""
    rng = np.random.default_rng(0)
    bits = [8 * byte + int(rng.integers(8)) for byte in range(len(NESTED))]
    assert [bit for bit in bits if not refused(flipped(NESTED, bit))] == []
    assert refused(NESTED + b"\0")


@pytest.mark.slow
def test_every_flipped_bit_of_a_nested_file_is_noticed():
    assert [bit for bit in range(8 * len(NESTED)) if not refused(flipped(NESTED, bit))] == []


def test_flipped_bits_of_a_plain_file_are_handled_by_every_tool():
    rng = np.random.default_rng(1)
    read = sum(
        exercise(flipped(PLAIN, int(bit))) is not None for bit in rng.integers(8 * len(PLAIN), size=250)
    )
    assert 0 < read < 250


@pytest.mark.slow
def test_flipped_bits_in_every_byte_of_a_plain_file_are_handled_by_every_tool():
    assert sum(exercise(flipped(PLAIN, bit)) is not None for bit in range(0, 8 * len(PLAIN), 3)) > 0


@pytest.mark.parametrize("filler", [b"\0", b"\xff", b"\x7f"])
def test_blocks_of_constant_bytes(filler):
    for content in (PLAIN, NESTED):
        for start in range(0, len(content), 64):
            exercise(content[:start] + filler * 64 + content[start + 64 :])


def test_a_short_fuzzing_campaign():
    """Seeded: the same inputs every time. Longer ones run from the command line."""
    campaign = Campaign(seed=0)
    for _ in range(250):
        campaign.step()
    assert [what for _, what in campaign.failures] == []
    assert 25 < campaign.accepted < 250


def test_the_fuzzer_itself_is_deterministic_and_reports(tmp_path, monkeypatch, capsys):
    content = seeds()[3]
    assert mutate(content, np.random.default_rng(5)) == mutate(content, np.random.default_rng(5))
    assert reseal(content) == content
    assert mutate_tree(content, np.random.default_rng(1)) != content

    def broken(content: bytes) -> None:
        raise ZeroDivisionError("found")

    monkeypatch.setattr("tests.fuzz.fuzz_reader.exercise", broken)
    assert main(["--seconds", "0.1", "--crashes", str(tmp_path / "crashes")]) == 1
    assert "ZeroDivisionError: found" in capsys.readouterr().out
    assert list((tmp_path / "crashes").iterdir())


# ------------------------------------------------------------------------------ sound parts, absurd wholes


def test_many_operators_that_share_planes_are_refused_before_they_are_decoded():
    """Each operator is sound; together they would decode to gigabytes."""
    net = NetworkBuilder()
    x = net.start((1, 1, 1, 1024))
    model = nested(net.finish(net.convolution(x, 1024, kernel=1))).copy()
    subgraph = model.tree.subgraphs[0]
    subgraph.operators = subgraph.operators * 300
    model.changed()
    content = model.to_bytes()
    assert len(content) < 2 << 20
    tracemalloc.start()
    loaded = Model.from_bytes(content)
    for attempt in (lambda: materialize(loaded), lambda: Interpreter(model=loaded).allocate_tensors()):
        with pytest.raises(UnsupportedError, match="up to 268,435,456 are supported"):
            attempt()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * len(content)


def test_many_operators_that_share_a_plain_filter_are_refused():
    net = NetworkBuilder()
    y = net.start((1, 1, 1, 1024))
    weights, bias = net.filter((1024, 1, 1, 1024)), net.bias(1024)
    for _ in range(MAX_CONSTANT_BYTES // (1 << 20) + 1):
        y = net.convolution(y, 1024, kernel=1, weights=weights, bias=bias)
    interpreter = Interpreter(model=net.finish(y))
    with pytest.raises(UnsupportedError, match="the operators read constants of"):
        interpreter.allocate_tensors()


@pytest.mark.parametrize(("count", "side"), [(1, 1 << 15), (20, 1 << 13)])
def test_activations_beyond_the_bound_are_refused(count, side):
    net = NetworkBuilder()
    x = y = net.start((1, side, side, 1))
    for _ in range(count):
        y = net.activation((1, side, side, 1))
        net.operator("RELU", [x], [y])
        x = y
    assert (count + 1) * side * side > MAX_ACTIVATION_BYTES
    model = net.finish(y)
    with pytest.raises(UnsupportedError, match=r"the activations take .* up to 1,073,741,824 are supported"):
        Interpreter(model=model).allocate_tensors()


@pytest.mark.parametrize("operator", ["WHILE", "IF", "CALL_ONCE"])
def test_subgraphs_that_call_themselves_are_refused(operator):
    model = small_network().copy()
    subgraph = model.tree.subgraphs[0]
    item = subgraph.operators[0]
    item.opcodeIndex = opcode_index(model.tree, operator)
    table = {"WHILE": "WhileOptions", "IF": "IfOptions", "CALL_ONCE": "CallOnceOptions"}[operator]
    item.builtinOptionsType = enum_value("BuiltinOptions", table)
    item.builtinOptions = getattr(schema(), f"{table}T")()  # every subgraph index is 0: the one it stands in
    model.changed()
    content = model.to_bytes()
    assert exercise(content) is not None
    with pytest.raises(UnsupportedError, match=rf"operator 0 \({operator}\) is not supported"):
        Interpreter(model_content=content).allocate_tensors()


def test_operators_that_read_their_own_output_are_refused():
    model = small_network().copy()
    operators = model.tree.subgraphs[0].operators
    operators[0].inputs = [int(operators[0].outputs[0]), *list(operators[0].inputs)[1:]]
    assert exercise(pack_tree(model.tree)) is not None
    with pytest.raises(FormatError, match="which no earlier operator writes"):
        Interpreter(model_content=pack_tree(model.tree)).allocate_tensors()


@pytest.mark.parametrize("scale", [float("nan"), 0.0, -1.0, float("inf"), 1e-45, 3.4e38])
def test_scales_that_make_no_sense_reach_no_tool(scale):
    for make in (network, lambda: nested(network())):
        tree = make().copy().tree
        for tensor in tree.subgraphs[0].tensors:
            if tensor.quantization is not None and tensor.quantization.scale is not None:
                tensor.quantization.scale = np.full(len(tensor.quantization.scale), scale, np.float32)
        exercise(reseal(pack_tree(tree)))


@pytest.mark.parametrize("zero_point", [-(2**63), 2**63 - 1, -129, 128, 2**31])
def test_zero_points_outside_the_type_are_handled(zero_point):
    tree = network().copy().tree
    for tensor in tree.subgraphs[0].tensors:
        if tensor.quantization is not None:
            tensor.quantization.zeroPoint = np.full(len(tensor.quantization.scale), zero_point, np.int64)
    exercise(pack_tree(tree))


def test_cyclic_options_are_refused():
    """A flexbuffer whose vectors contain themselves; the file around it is sealed and sound."""
    loops = [
        bytes([1, 1, 1, 0x24, 0x24, 1]),
        bytes([0] * 8 + [0, 1, 1, 2, 3, 0x24, 1, 0x24, 1]),
        bytes([2, 2, 1, 1, 1, 0x28, 0x28, 2, 0x28, 1]),
    ]
    for options in (*loops, b"\xff\x24\x01", b"\x01\x26\x01", b"\0" * 3 + b"\x24\x01"):
        model = nested(small_network()).copy()
        model.tree.subgraphs[0].operators[0].customOptions = np.frombuffer(options, np.uint8)
        model.changed()
        with pytest.raises(FormatError, match=r"operator 0 \(TFLNEST_CONV_2D\): its options"):
            Model.from_bytes(model.to_bytes())


def test_sealed_mutants_get_past_the_hash():
    """The campaigns would test little if every mutant failed at the CRC."""
    model = nested(small_network()).copy()
    model.tree.description = "changed"
    content = pack_tree(model.tree)
    assert refused(content)
    assert not refused(reseal(content))


def test_an_oversized_recipe_is_refused():
    model = nested(small_network()).copy()
    pages = [[segment.buffer for segment in page.segments] for page in model.directory.pages]
    recipe = "#" * (container.MAX_RECIPE_BYTES + 1)
    directory = container.new_directory(model.directory.levels, pages, recipe)
    set_metadata(model.tree, container.METADATA_NAME, container.encode(directory))
    model.changed()
    with pytest.raises(FormatError, match="a recipe of 1048577 bytes"):
        Model.from_bytes(model.to_bytes())


def test_loading_a_nested_file_stays_below_the_stated_memory():
    content = nested(network(), everything((1, 2, 3, 4, 5, 6, 7, 8))).to_bytes()
    tracemalloc.start()
    model = Model.from_bytes(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(operators_of(model)) == 5
    assert peak <= MODEL_BYTES_PER_FILE_BYTE * (len(content) + FREE_BYTES)


def test_planning_a_model_of_many_subgraphs_is_linear():
    content = attacks.many_tables("SubGraph", 4000)
    model = Model.from_bytes(content)
    assert len(model.graph.subgraphs) == 4000
    assert plan_nesting(model.graph, everything()) == []
    with pytest.raises(TflnestError):
        materialize(model)
