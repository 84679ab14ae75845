"""The instruction benchmark: its layers are those of the peer's table."""

from __future__ import annotations

import json

import pytest

from benchmarks.instructions import BOARDS, PEER, PEER_COLUMN, layers
from tests.runtime.weight_board import Measurement
from tflnest.nesting import Nesting

LAYERS = layers()


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.name)
def test_a_layer_has_the_products_and_outputs_of_the_table(layer):
    case = layer.case(16, Nesting((4, 6, 8)), 6)
    *_, height, width, channels = (1, 1, *case.expected.shape)
    assert [height, width, channels][-len(layer.row["output"]) :] == layer.row["output"]
    taps = layer.row["filter"]
    per_output = taps[1] * taps[2] * (taps[3] if case.kernel == "conv" else 1) if len(taps) == 4 else taps[1]
    assert per_output * case.expected.size == layer.row["macs"]
    assert (case.filter.values is None) == (case.kernel != "depthwise_conv")


def test_the_table_has_a_figure_for_every_core():
    table = json.loads(PEER.read_text(encoding="utf-8"))
    assert set(PEER_COLUMN.values()) <= set(table["layers"][0])
    assert set(table["boards"].values()) == set(BOARDS.values())
    assert len(layers("kws")) == 4


def test_a_wrong_output_fails_the_benchmark(monkeypatch, capsys):
    from benchmarks import instructions

    monkeypatch.setattr(
        instructions, "run", lambda board, cases, *rest: [Measurement(3, 100, 2448) for _ in cases]
    )
    code = instructions.main(["--model", "kws", "--operator", "FULLY_CONNECTED", "--levels", "8,0"])
    text = capsys.readouterr().out
    assert code == 4 and "6 WRONG" in text
    assert "| kws 11 | FULLY_CONNECTED | 768 | 2448 | 2448 | 2448 | 1.000 | 1.000 | 3.19 | 100 |" in text
