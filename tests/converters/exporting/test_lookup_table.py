"""Levels as lookup tables: what the file holds, and that stock TensorFlow Lite Micro computes the level."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest

from converters.exporting import lookup_table
from converters.exporting.lookup_table import OVERHEAD_BYTES, export_lookup_tables
from tests.exactness import random_inputs
from tests.models import NetworkBuilder, add_offline_plan, buffer_offsets, everything, nested, network
from tests.oracle import Job, MicroOracle, OracleRefused, require_wheel
from tests.shared import int8_paths
from tflnest.errors import UnsupportedError, UsageError
from tflnest.interpreter import Interpreter
from tflnest.lookup_table import DECODE, decode
from tflnest.materialization import materialize
from tflnest.model import Model
from tflnest.pruning import offline_plan

LEVELS = (4, 6, 8)


def larger(seed: int = 0) -> Model:
    """A network whose filters are large enough to gain: conv, depthwise, 1x1, grouped conv, fully connected."""
    net = NetworkBuilder(seed)
    y = net.convolution(net.start((1, 6, 6, 4)), 40, name="stem")
    y = net.depthwise(y, name="depthwise")
    y = net.convolution(y, 48, kernel=1, name="point")
    y = net.convolution(y, 24, groups=2, stride=2, name="grouped")
    return net.finish(net.dense(net.flatten(y), 10, name="head"))


#: Public models; the large one takes its time.
PUBLIC = [
    pytest.param(path, id=path.stem, marks=pytest.mark.slow if path.stat().st_size > 1 << 20 else ())
    for path in int8_paths()
]


@pytest.fixture(scope="module")
def model() -> Model:
    return nested(larger(), everything(LEVELS))


@pytest.fixture(scope="module")
def oracle() -> Iterator[MicroOracle]:
    """Stock TensorFlow Lite Micro, started once."""
    require_wheel()
    with MicroOracle() as engine:
        yield engine


def mismatches(
    oracle: MicroOracle, source: Model, level: int | None, exported: Model, count: int = 3
) -> tuple[int, int]:
    """Differing and compared values over all operators: the level here, and the export in TFLM."""
    operators = [item for item in exported.graph.main.operators if item.name != DECODE]
    outputs = [index for item in operators for index in item.outputs]
    ours = Interpreter(model=source, level=level)
    ours.allocate_tensors()
    mine = ours.model.graph.main
    content = exported.to_bytes()
    rows = random_inputs(content, count)
    different = compared = 0
    for row, expected in zip(rows, oracle.run(Job(content, rows, outputs)), strict=True):
        for index, value in zip(mine.inputs, row, strict=True):
            ours.set_tensor(index, value)
        ours.invoke()
        for theirs, own in zip(operators, mine.operators, strict=True):
            for there, here in zip(theirs.outputs, own.outputs, strict=True):
                different += int((ours.get_tensor(here) != expected[there]).sum())
                compared += expected[there].size
    return different, compared


@pytest.mark.parametrize("level", [4, 6])
@pytest.mark.parametrize("scheme", ["bucket", "compensated"])
def test_stock_tflm_computes_the_level(scheme, level, oracle):
    model = nested(larger(3), everything(LEVELS, scheme))
    made = export_lookup_tables(model, level)
    assert mismatches(oracle, model, level, made.model) == (0, 3 * (1440 + 1440 + 1728 + 216 + 216 + 10))


def test_a_depthwise_filter_is_decoded_along_its_last_axis_and_with_one_scale_too(oracle):
    for per_channel in (True, False):
        net = NetworkBuilder(1)
        x = net.start((1, 5, 5, 120))
        weights = net.filter((1, 3, 3, 120), axis=3, name="w", per_channel=per_channel)
        y = net.activation((1, 5, 5, 120), "y")
        options = {"padding": "SAME", "stride_w": 1, "stride_h": 1, "depth_multiplier": 1}
        dilation = {"dilation_w_factor": 1, "dilation_h_factor": 1}
        net.operator("DEPTHWISE_CONV_2D", [x, weights, net.bias(120)], [y], version=3, **options, **dilation)
        source = nested(net.finish(y), everything(LEVELS))
        made = export_lookup_tables(source, 4)
        assert made.filters[0].index_bits == 4
        assert mismatches(oracle, source, 4, made.model) == (0, 3 * 5 * 5 * 120)


@pytest.mark.parametrize("path", PUBLIC)
def test_public_models_are_exact_in_stock_tflm(path, oracle):
    source = nested(Model.load(path), everything(LEVELS))
    try:
        made = export_lookup_tables(source, 4)
    except UnsupportedError:
        assert path.stem == "hello_world_int8"
        return
    assert mismatches(oracle, source, 4, made.model, 1)[0] == 0
    assert made.bytes < 0.81 * made.int8_bytes


def test_tflm_decodes_into_memory_of_its_own(model):
    """With `SetDecompressionMemory` of the size that the report names, and a small arena."""
    require_wheel()
    from tflite_micro.python.tflite_micro import runtime as micro

    made = export_lookup_tables(model, 4)
    x = random_inputs(made.model.to_bytes(), 1)[0][0]
    interpreter = micro.Interpreter.from_bytes(
        made.model.to_bytes(), arena_size=1 << 16, alt_decompression_memory_size=made.decoded_bytes + 16
    )
    interpreter.set_input(x, 0)
    interpreter.invoke()
    expected = Interpreter(model=model, level=4).run(x)
    np.testing.assert_array_equal(interpreter.get_output(0), expected)


def test_the_weights_are_those_of_the_level(model):
    for level in (4, 6):
        made = export_lookup_tables(model, level)
        stock = materialize(model, level).graph.main
        graph = made.model.graph.main
        written = {item.outputs[0]: item for item in graph.operators if item.name == DECODE}
        plain = [item for item in graph.operators if item.name != DECODE]
        for exported, operator in zip(plain, stock.operators, strict=True):
            if len(operator.inputs) < 2 or exported.inputs[1] not in written:
                continue
            packed, ancillary = (graph.tensors[i].data for i in written[exported.inputs[1]].inputs)
            expected = stock.tensors[operator.inputs[1]]
            np.testing.assert_array_equal(decode(packed, ancillary, expected.size), expected.data.reshape(-1))
            assert graph.tensors[exported.inputs[1]].shape == expected.shape
            np.testing.assert_array_equal(
                graph.tensors[exported.inputs[1]].quantization.scale, expected.quantization.scale
            )
        assert len(written) == sum(item.index_bits is not None for item in made.filters) > 0


def test_the_reference_interpreter_and_the_native_engine_run_the_file_too(model):
    made = export_lookup_tables(model, 6)
    x = np.concatenate([row[0] for row in random_inputs(made.model.to_bytes(), 3)])
    expected = Interpreter(model=model, level=6).run(x)
    for engine in ("reference", "native"):
        np.testing.assert_array_equal(Interpreter(model=made.model, engine=engine).run(x), expected)


def test_every_decode_stands_right_before_its_reader_and_buffers_are_aligned(model):
    made = export_lookup_tables(model, 4)
    operators = made.model.graph.main.operators
    for first, second in pairwise(operators):
        if first.name == DECODE:
            assert second.inputs[1] == first.outputs[0]
    assert operators[-1].name != DECODE
    assert all(offset % 16 == 0 for offset in buffer_offsets(made.model.to_bytes()))
    assert export_lookup_tables(model, 4).model.to_bytes() == made.model.to_bytes()


def test_a_shared_filter_is_stored_once_and_decoded_for_each_reader(oracle):
    net = NetworkBuilder()
    x = net.start((1, 4, 4, 24))
    weights, bias = net.filter((24, 3, 3, 24), name="shared"), net.bias(24, "bias")
    y = net.convolution(x, 24, weights=weights, bias=bias)
    source = nested(net.finish(net.convolution(y, 24, weights=weights, bias=bias)), everything(LEVELS))
    made = export_lookup_tables(source, 6)
    decoders = [item for item in made.model.graph.main.operators if item.name == DECODE]
    assert len(decoders) == 2 and decoders[0].inputs == decoders[1].inputs
    assert decoders[0].outputs != decoders[1].outputs
    assert mismatches(oracle, source, 6, made.model) == (0, 3 * 2 * 384)


def test_filters_that_cannot_gain_stay_int8_and_are_named(model):
    made = export_lookup_tables(model, 6)
    reasons = {item.name: item.reason for item in made.flat}
    assert reasons["depthwise/weights"] == "too small to gain"
    full = nested(larger(), everything(LEVELS)).copy()
    with pytest.raises(UnsupportedError, match=r"5: 2\d\d different values, a table holds 128"):
        export_lookup_tables(full, 8)
    for item in made.filters:
        assert item.bytes <= item.weights
        if item.index_bits is not None:
            assert item.bytes == -(-item.weights * item.index_bits // 8) + (1 << item.index_bits)


def test_the_overhead_of_a_decoder_is_no_more_than_assumed(model, monkeypatch):
    level = materialize(model, 4)
    made = export_lookup_tables(model, 4)
    saved = sum(item.weights - item.bytes for item in made.filters)
    count = len(made.filters) - len(made.flat)
    overhead = (made.bytes - (len(level.to_bytes()) - saved)) / count
    assert OVERHEAD_BYTES / 2 < overhead <= OVERHEAD_BYTES
    monkeypatch.setattr(lookup_table, "OVERHEAD_BYTES", 1 << 20)
    with pytest.raises(UnsupportedError, match="5 of 5: too small to gain"):
        export_lookup_tables(model, 4)


def test_a_filter_that_something_else_reads_stays_int8(model):
    changed = materialize(model, 4).copy()
    subgraph = changed.tree.subgraphs[0]
    subgraph.outputs = [*subgraph.outputs, int(subgraph.operators[0].inputs[1])]
    changed.changed()
    made = export_lookup_tables(Model.from_bytes(changed.to_bytes()))
    assert made.filters[0].reason == "something else reads it too"
    assert made.level is None and made.filters[2].index_bits == 4


def test_a_planners_offsets_are_kept_and_new_tensors_have_none(model):
    changed = larger().copy()
    add_offline_plan(changed.tree, [-1] * len(changed.tree.subgraphs[0].tensors))
    changed.changed()
    made = export_lookup_tables(nested(Model.from_bytes(changed.to_bytes()), everything(LEVELS)), 4)
    words = offline_plan(made.model.tree)
    assert words is not None
    assert words[2] == len(made.model.graph.main.tensors) == len(words) - 3
    assert (words[3:] == -1).all()


def test_wrong_levels_and_models_without_filters():
    with pytest.raises(UsageError, match="the model has no level 5"):
        export_lookup_tables(nested(network(), everything(LEVELS)), 5)
    with pytest.raises(UsageError, match="not nested"):
        export_lookup_tables(network(), 4)
    net = NetworkBuilder()
    x = net.start((1, 4))
    y = net.activation((1, 4))
    net.operator("RELU", [x], [y])
    with pytest.raises(UnsupportedError, match="the model has no int8 filters"):
        export_lookup_tables(net.finish(y))


def test_tflm_refuses_a_file_of_another_version(model, oracle):
    """The header is read by the kernel, not skipped."""
    made = export_lookup_tables(model, 4).model.copy()
    operator = next(item for item in made.graph.main.operators if item.name == DECODE)
    tensor = made.graph.main.tensors[operator.inputs[1]]
    damaged = np.array(tensor.data)
    damaged[1] = 9
    made.tree.buffers[tensor.buffer].data = damaged
    made.changed()
    with pytest.raises(OracleRefused):
        oracle.run(Job(made.to_bytes(), random_inputs(made.to_bytes(), 1)))
