from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from converters.conversion import convert
from firmware_sim.arena import plan_arena, tile_scratch_bytes
from firmware_sim.target import CORTEX_M, ILP32, X86_64, align_up
from tests.firmware_sim.builder import SCALE, BoardBuilder, small_cnn
from tests.firmware_sim.wheel import fits, measure
from tests.oracle import require_wheel
from tflnest.errors import FormatError, UnsupportedError
from tflnest.model import Model
from tflnest.nested import nested_operators

#: Head, tail and smallest arena of the tflite_micro wheel; the last one by bisection, to the byte.
WHEEL = {
    "hello_world_int8": (32, 1472, 1936),
    "micro_speech_quantized": (5968, 1616, 7584),
    "ad01_int8": (768, 3216, 4632),
    "kws_ref_model": (16000, 8272, 24272),
    "pretrainedResnet_quant": (49152, 6832, 55984),
    "person_detect": (55296, 29968, 85264),
    "vww_96_int8": (73728, 29952, 103672),
    "mobilenet_v2_quantized_1x3x224x224": (2451840, 155328, 2607160),
}

#: Tail, and smallest arena in steps of 16 bytes, of TFLM with its reference kernels on a Cortex-M4.
CORTEX_M4 = {
    "hello_world_int8": (644, 1072),
    "micro_speech_quantized": (820, 6800),
    "ad01_int8": (1492, 2704),
    "kws_ref_model": (6772, 22784),
    "pretrainedResnet_quant": (5188, 54352),
    "person_detect": (26996, 82304),
    "vww_96_int8": (26932, 100672),
}


@pytest.mark.shared
@pytest.mark.parametrize("name", WHEEL)
def test_equals_the_wheel_on_public_models(shared_models, name):
    plan = plan_arena(Model.load(shared_models / f"{name}.tflite"), X86_64)
    assert (plan.head_bytes, plan.tail_bytes, plan.minimum_bytes) == WHEEL[name]
    assert plan.unknown_kernels == ()


@pytest.mark.shared
@pytest.mark.parametrize("name", CORTEX_M4)
def test_equals_tflm_on_a_cortex_m4(shared_models, name):
    plan = plan_arena(Model.load(shared_models / f"{name}.tflite"), CORTEX_M)
    assert plan.head_bytes == WHEEL[name][0]
    assert (plan.tail_bytes, align_up(plan.minimum_bytes, 16)) == CORTEX_M4[name]
    assert plan.needed_bytes == CORTEX_M4[name][1]


# ---------------------------------------------------------------------------------------------- the wheel


def elementwise(name: str, **options):
    def build(builder: BoardBuilder, x: int) -> int:
        output = builder.tensor(builder.shape(x), scale=SCALE)
        builder.operator(
            name, (x, builder.weights(builder.shape(x), per_channel=False)), (output,), **options
        )
        return output

    return build


def one(name: str, shape=None, constant=None, scale: float = SCALE, zero_point: int = 0, **options):
    """One operator on a (1, 6, 6, 4) input, with an int32 constant as second input."""

    def build(builder: BoardBuilder, x: int) -> int:
        output = builder.tensor(shape or builder.shape(x), scale=scale, zero_point=zero_point)
        extra = () if constant is None else (builder.constant(np.array(constant, np.int32)),)
        builder.operator(name, (x, *extra), (output,), **options)
        return output

    return build


def slices(builder: BoardBuilder, x: int) -> int:
    output = builder.tensor((1, 3, 3, 4), scale=SCALE)
    ends = [
        builder.constant(np.array(values, np.int32)) for values in ([0, 0, 0, 0], [1, 3, 3, 4], [1, 1, 1, 1])
    ]
    builder.operator("STRIDED_SLICE", (x, *ends), (output,))
    return output


def concatenation(builder: BoardBuilder, x: int) -> int:
    output = builder.tensor((1, 6, 6, 8), scale=SCALE)
    builder.operator("CONCATENATION", (x, x), (output,), axis=3)
    return output


def transposed_conv(builder: BoardBuilder, x: int) -> int:
    output = builder.tensor((1, 12, 12, 3), scale=SCALE)
    shape = builder.constant(np.array([1, 12, 12, 3], np.int32))
    builder.operator(
        "TRANSPOSE_CONV",
        (shape, builder.weights((3, 3, 3, 4)), x),
        (output,),
        padding="SAME",
        stride_w=2,
        stride_h=2,
    )
    return output


def prelu(builder: BoardBuilder, x: int) -> int:
    output = builder.tensor(builder.shape(x), scale=SCALE)
    builder.operator("PRELU", (x, builder.weights((1, 1, 4), per_channel=False)), (output,))
    return output


def float_values(builder: BoardBuilder, x: int) -> int:
    output = builder.tensor(builder.shape(x), "FLOAT32")
    builder.operator("DEQUANTIZE", (x,), (output,))
    return output


def split(builder: BoardBuilder, x: int) -> int:
    outputs = [builder.tensor((1, 6, 6, 2), scale=SCALE) for _ in range(2)]
    builder.operator("SPLIT", (builder.constant(np.array(3, np.int32)), x), outputs, num_splits=2)
    return outputs[0]


OPERATORS = {
    "CONV_2D": lambda b, x: b.conv(x, 7),
    "DEPTHWISE_CONV_2D": lambda b, x: b.depthwise(x),
    "FULLY_CONNECTED": lambda b, x: b.dense(x, 5),
    "FULLY_CONNECTED per channel": lambda b, x: b.dense(x, 5, per_channel=True),
    "SOFTMAX": lambda b, x: b.softmax(x),
    "TRANSPOSE_CONV": transposed_conv,
    "ADD": elementwise("ADD"),
    "SUB": elementwise("SUB"),
    "MUL": elementwise("MUL"),
    "MAXIMUM": elementwise("MAXIMUM"),
    "MEAN": one("MEAN", (1, 4), [1, 2]),
    "SUM": one("SUM", (1, 6, 4), [1]),
    "PAD": one("PAD", (1, 8, 8, 4), [[0, 0], [1, 1], [1, 1], [0, 0]]),
    "TRANSPOSE": one("TRANSPOSE", (1, 4, 6, 6), [0, 3, 1, 2]),
    "RESHAPE": one("RESHAPE", (1, 144), new_shape=[1, 144]),
    "SQUEEZE": one("SQUEEZE", (6, 6, 4), squeeze_dims=[0]),
    "EXPAND_DIMS": one("EXPAND_DIMS", (1, 1, 6, 6, 4), 0),
    "AVERAGE_POOL_2D": one(
        "AVERAGE_POOL_2D",
        (1, 3, 3, 4),
        padding="VALID",
        stride_w=2,
        stride_h=2,
        filter_width=2,
        filter_height=2,
    ),
    "RESIZE_BILINEAR": one("RESIZE_BILINEAR", (1, 12, 12, 4), [12, 12]),
    "RESIZE_NEAREST_NEIGHBOR": one("RESIZE_NEAREST_NEIGHBOR", (1, 12, 12, 4), [12, 12]),
    "LOGISTIC": one("LOGISTIC", scale=1 / 256, zero_point=-128),
    "TANH": one("TANH", scale=1 / 128),
    "RELU": one("RELU"),
    "RELU6": one("RELU6"),
    "LEAKY_RELU": one("LEAKY_RELU", alpha=0.1),
    "HARD_SWISH": one("HARD_SWISH"),
    "PRELU": prelu,
    "L2_NORMALIZATION": one("L2_NORMALIZATION", scale=1 / 128),
    "QUANTIZE": one("QUANTIZE", scale=2 * SCALE),
    "DEQUANTIZE": float_values,
    "STRIDED_SLICE": slices,
    "CONCATENATION": concatenation,
    "SPLIT": split,
}


@pytest.fixture(scope="module")
def operator_models(tmp_path_factory):
    """One model per operator, with another operator in front so that alignment gaps show."""
    folder = tmp_path_factory.mktemp("operators")
    paths = {}
    for name, build in OPERATORS.items():
        for lead in (0, 1):
            builder = BoardBuilder()
            x = builder.input((1, 6, 6, 4), scale=SCALE)
            hidden = builder.unary("RELU", x) if lead else x
            model = builder.model(build(builder, hidden))
            path: Path = folder / f"{name} {lead}.tflite"
            model.save(path)
            paths[name, lead] = path
    return paths


@pytest.fixture(scope="module")
def operator_arenas(operator_models):
    require_wheel()
    return dict(zip(operator_models, measure(list(operator_models.values()), 200_000), strict=True))


@pytest.mark.parametrize("name", OPERATORS)
def test_equals_the_wheel_on_every_operator(operator_models, operator_arenas, name):
    for lead in (0, 1):
        plan = plan_arena(Model.load(operator_models[name, lead]), X86_64)
        assert (plan.head_bytes, plan.tail_bytes) == operator_arenas[name, lead]
        assert plan.unknown_kernels == ()


@pytest.mark.parametrize("name", ["CONV_2D", "MEAN", "SPLIT", "PAD"])
def test_minimum_is_the_smallest_arena_that_the_wheel_takes(operator_models, name):
    require_wheel()
    minimum = plan_arena(Model.load(operator_models[name, 1]), X86_64).minimum_bytes
    assert fits(operator_models[name, 1], minimum)
    assert not fits(operator_models[name, 1], minimum - 1)


def test_minimum_does_not_count_on_harmless_corruption(operator_models):
    """Per-channel FULLY_CONNECTED writes over a temporary array that nothing reads again; we do not rely on it."""
    require_wheel()
    path = operator_models["FULLY_CONNECTED per channel", 1]
    minimum = plan_arena(Model.load(path), X86_64).minimum_bytes
    assert fits(path, minimum)
    assert not fits(path, minimum - 32)


def test_many_channels_make_preparing_the_bottleneck(tmp_path):
    """Temporary per-channel arrays outgrow the plan of a wide layer on a tiny image."""
    require_wheel()
    builder = BoardBuilder()
    model = builder.model(builder.conv(builder.input((1, 1, 1, 1), scale=SCALE), 1500, kernel=1))
    path = tmp_path / "wide.tflite"
    model.save(path)
    plan = plan_arena(model, X86_64)
    assert plan.minimum_bytes > plan.total_bytes
    assert fits(path, plan.minimum_bytes)
    assert not fits(path, plan.minimum_bytes - 1)


def test_offline_plan_equals_the_wheel(tmp_path):
    require_wheel()
    builder = BoardBuilder()
    x = builder.input((1, 6, 6, 4), scale=SCALE)
    y = builder.unary("RELU", x)
    z = builder.unary("RELU6", y)
    builder.offline_plan([256, -1, 1024])
    model = builder.model(z)
    path = tmp_path / "offline.tflite"
    model.save(path)
    plan = plan_arena(model, X86_64)
    assert (plan.head_bytes, plan.tail_bytes) == measure([path])[0]
    assert [buffer.offset for buffer in plan.buffers] == [256, 0, 1024]


# ---------------------------------------------------------------------------------------------- without it


def test_every_byte_of_the_tail_is_explained():
    plan = plan_arena(small_cnn(), CORTEX_M)
    assert plan.tail_bytes >= sum(plan.tail_breakdown.values())
    assert plan.tail_bytes - sum(plan.tail_breakdown.values()) < 16 * 32
    assert plan.tail_breakdown["tensors"] == 12 * len(small_cnn().graph.main.tensors)
    assert plan.tail_breakdown["operators"] == 32 * 6
    assert plan.tail_breakdown["per-channel multipliers and tables"] == 2 * 4 * (16 + 16)


def test_wider_enums_and_pointers_cost_tail_only():
    narrow, wide, host = (plan_arena(small_cnn(), target) for target in (CORTEX_M, ILP32, X86_64))
    assert narrow.head_bytes == wide.head_bytes == host.head_bytes
    assert narrow.tail_bytes < wide.tail_bytes < host.tail_bytes


def test_lifetimes_and_live_bytes():
    plan = plan_arena(small_cnn())
    sizes = [align_up(size, 16) for size in (576, 2304, 576, 144, 144, 10, 10)]
    assert [(buffer.size, buffer.first, buffer.last) for buffer in plan.buffers] == [
        (size, max(step, 0), step + 1) if step < 6 else (size, 6, 6) for step, size in enumerate(sizes)
    ]
    assert [row.live_bytes for row in plan.operators] == [a + b for a, b in pairwise(sizes)]
    assert plan.peak is not None
    assert plan.peak.index == 0
    assert plan.head_bytes == sizes[0] + sizes[1]


def test_a_variable_lives_in_the_tail_unless_planned_offline():
    def build(offsets):
        builder = BoardBuilder()
        x = builder.input((1, 64), scale=SCALE)
        state = builder.tensor((1, 640), "INT8", SCALE)
        builder.subgraph.tensors[state].isVariable = True
        y = builder.tensor((1, 64), scale=SCALE)
        builder.operator("ADD", (x, state), (y,))
        if offsets:
            builder.offline_plan(offsets)
        return plan_arena(builder.model(y))

    online, offline = build(None), build([-1, 512, -1])
    assert online.tail_breakdown["variables"] == 640
    assert online.head_bytes == 128
    assert "variables" not in offline.tail_breakdown
    assert offline.head_bytes == 512 + 640
    assert online.tail_bytes - offline.tail_bytes == 640


def test_control_flow_is_planned_in_the_scope_of_its_caller():
    builder = BoardBuilder()
    body = builder.another_subgraph(lambda b: [b.unary("RELU", b.input((1, 256), scale=SCALE))])
    condition = builder.input((1,), "BOOL")
    x = builder.input((1, 256), scale=SCALE)
    y = builder.tensor((1, 256), scale=SCALE)
    builder.control_flow("IF", (condition, x), (y,), thenSubgraphIndex=body, elseSubgraphIndex=body)
    plan = plan_arena(builder.model(y))
    assert [row.subgraph for row in plan.operators] == [0, 1]
    # Condition, input and output of the caller stay alive while the body's two tensors are.
    assert plan.operators[1].live_bytes == 16 + 4 * 256
    assert plan.head_bytes == plan.operators[1].live_bytes


@pytest.mark.parametrize("entered", [0, 7, -1])
def test_control_flow_into_itself_or_nowhere_is_refused(entered):
    builder = BoardBuilder()
    condition = builder.input((1,), "BOOL")
    y = builder.tensor((1,), "BOOL")
    builder.control_flow("IF", (condition,), (y,), thenSubgraphIndex=entered, elseSubgraphIndex=entered)
    with pytest.raises(FormatError, match=f"enters subgraph {entered}"):
        plan_arena(builder.model(y))


@pytest.mark.parametrize("offsets", [[0], [0, 0, 0], [-2, 0], []])
def test_a_senseless_offline_plan_is_refused(offsets):
    builder = BoardBuilder()
    y = builder.unary("RELU", builder.input((1, 8), scale=SCALE))
    builder.offline_plan(offsets)
    with pytest.raises(FormatError, match="OfflineMemoryAllocation"):
        plan_arena(builder.model(y))


def test_an_unknown_kernel_is_named():
    builder = BoardBuilder()
    x = builder.input((1, 8), scale=SCALE)
    y = builder.tensor((1, 8), scale=SCALE)
    builder.custom("MY_OPERATOR", (x,), (y,))
    plan = plan_arena(builder.model(y))
    assert plan.unknown_kernels == ("MY_OPERATOR",)
    assert plan.head_bytes == 32


def test_a_hostile_shape_gives_numbers_not_a_crash():
    builder = BoardBuilder()
    x = builder.input((1, 1 << 15, 1 << 15, 1), scale=SCALE)
    plan = plan_arena(builder.model(builder.unary("RELU", x)))
    assert plan.head_bytes == 2 << 30
    assert plan.minimum_bytes > plan.head_bytes


def test_too_many_buffers_are_refused_at_once(monkeypatch):
    monkeypatch.setattr("firmware_sim.arena.MAX_BUFFERS", 3)
    with pytest.raises(UnsupportedError, match="7 buffers, at most 3"):
        plan_arena(small_cnn())


def test_subgraphs_that_multiply_are_refused():
    """Each of twenty subgraphs enters the next one twice: a million operators from a small file."""
    builder = BoardBuilder()
    for number in range(1, 21):

        def body(b: BoardBuilder, following: int = number + 1) -> list[int]:
            condition = b.input((1,), "BOOL")
            y = b.tensor((1,), "BOOL")
            if following <= 20:
                b.control_flow(
                    "IF", (condition,), (y,), thenSubgraphIndex=following, elseSubgraphIndex=following
                )
            return [condition]

        builder.another_subgraph(body)
    condition, y = builder.input((1,), "BOOL"), builder.tensor((1,), "BOOL")
    builder.control_flow("IF", (condition,), (y,), thenSubgraphIndex=1, elseSubgraphIndex=1)
    with pytest.raises(FormatError, match="more than 100,000 operators"):
        plan_arena(builder.model(y))


def test_a_model_without_operators():
    builder = BoardBuilder()
    x = builder.input((1, 20), scale=SCALE)
    plan = plan_arena(builder.model(x))
    assert plan.head_bytes == 32
    assert plan.peak is None


# ---------------------------------------------------------------------------------------------- nested


@pytest.fixture(scope="module")
def nested_pair(tmp_path_factory):
    path = tmp_path_factory.mktemp("nested") / "cnn.tflite"
    small_cnn().save(path)
    return small_cnn(), convert(path, levels=(4, 8)).model


def test_nested_kernels_keep_multipliers_in_flash(nested_pair):
    plain, nested = (plan_arena(model) for model in nested_pair)
    operators = nested_operators(nested_pair[1].graph)
    saved = sum(2 * 4 * item.channels for _, item in operators if item.stock == "CONV_2D")
    assert saved > 0
    assert (
        plain.tail_breakdown["per-channel multipliers and tables"]
        - nested.tail_breakdown.get("per-channel multipliers and tables", 0)
        == saved
    )


def test_a_tile_never_raises_the_head_beyond_what_the_smallest_needs(nested_pair):
    plan = plan_arena(nested_pair[1])
    scratch = {(row.subgraph, row.index): row for row in plan.operators if row.tile_channels}
    assert scratch
    for subgraph, item in nested_operators(nested_pair[1].graph):
        row = scratch[subgraph.index, item.operator.index]
        assert row.scratch_bytes == align_up(tile_scratch_bytes(item, row.tile_channels), 16)
        smallest = (
            row.live_bytes - row.scratch_bytes + align_up(tile_scratch_bytes(item, min(4, item.channels)), 16)
        )
        assert row.tile_channels <= 4 or row.end_bytes <= plan.head_bytes
        assert smallest <= plan.head_bytes
