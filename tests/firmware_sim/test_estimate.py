from __future__ import annotations

import pytest

from firmware_sim.board import Board
from firmware_sim.estimate import graph_costs, model_costs
from tests.firmware_sim.builder import SCALE, BoardBuilder
from tflnest.model import Model

COSTS = Board.load("nrf52840").cycles


@pytest.fixture
def unsupported_model() -> Model:
    """A model with an operator that the device runtime lacks."""
    builder = BoardBuilder()
    x = builder.input((1, 4, 4, 2), scale=SCALE)
    output = builder.tensor((1, 4, 4, 2), "FLOAT32")
    builder.operator("DEQUANTIZE", (x,), (output,))
    return builder.model(output)


def test_macs_come_from_shapes():
    builder = BoardBuilder()
    x = builder.input((1, 8, 8, 4), scale=SCALE)
    y = builder.depthwise(builder.conv(x, 6, stride=2))
    pool = builder.unary(
        "AVERAGE_POOL_2D",
        y,
        (1, 2, 2, 6),
        padding="VALID",
        stride_w=2,
        stride_h=2,
        filter_width=2,
        filter_height=2,
    )
    flat = builder.unary("RESHAPE", pool, (1, 24), new_shape=[1, 24])
    costs = graph_costs(builder.model(builder.softmax(builder.dense(flat, 5))).graph, COSTS)
    assert [cost.macs for cost in costs] == [4 * 4 * 6 * 36, 4 * 4 * 6 * 9, 2 * 2 * 6 * 4, 0, 24 * 5, 0]
    assert costs[0].cycles == costs[0].macs * COSTS.convolution_mac
    assert costs[1].cycles == costs[1].macs * COSTS.depthwise_mac
    assert costs[3].cycles == 24
    assert costs[4].cycles == 120 * COSTS.dense_mac
    assert costs[5].cycles == 5 * COSTS.element


def test_nested_operators_do_the_same_work(plain_cnn, nested_cnn):
    plain, nested = (graph_costs(model.graph, COSTS) for model in (plain_cnn, nested_cnn))
    assert [cost.macs for cost in plain] == [cost.macs for cost in nested]
    assert sum(cost.macs for cost in plain) > 0


def test_firmware_costs_what_its_instructions_take(nested_cnn):
    board = Board.load("nrf52840")
    costs = model_costs(nested_cnn, board)
    assert all(cost.instructions is not None for cost in costs)
    assert all(cost.cycles == cost.instructions * board.cycles.per_instruction for cost in costs)
    assert [cost.macs for cost in costs] == [
        cost.macs for cost in graph_costs(nested_cnn.graph, board.cycles)
    ]
    assert costs[0].instructions > costs[0].macs / 2


def test_a_model_that_no_firmware_runs_costs_what_its_shapes_say(unsupported_model):
    board = Board.load("nrf52840")
    costs = model_costs(unsupported_model, board)
    assert costs == graph_costs(unsupported_model.graph, board.cycles)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "macs"),
    [
        ("kws_ref_model", 2_656_768),
        ("pretrainedResnet_quant", 12_501_632),
        ("vww_96_int8", 7_489_664),
        ("ad01_int8", 264_192),
        ("person_detect", 7_157_888),
        ("hello_world_int8", 288),
        ("micro_speech_quantized", 336_000),
    ],
)
def test_public_models(shared_models, name, macs):
    graph = Model.load(shared_models / f"{name}.tflite").graph
    costs = graph_costs(graph, COSTS)
    layers = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
    counted = sum(
        cost.macs for cost, item in zip(costs, graph.main.operators, strict=True) if item.name in layers
    )
    assert counted == macs
