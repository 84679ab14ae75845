"""What verbs show of the widths that a controller chooses."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.controllers import controlled
from tests.tflnest.cli.conftest import BOARD

RUNS = 6


@pytest.fixture(scope="module")
def chooser(tmp_path_factory):
    path = tmp_path_factory.mktemp("widths") / "dynamic.tflite"
    controlled().save(path)
    return path


def test_a_simulation_shows_and_traces_widths(chooser, files, call, tmp_path):
    trace = tmp_path / "trace.json"
    line = ("simulate", chooser, "--board", BOARD, "--data", files.data, "--runs", RUNS)
    text = call(*line).out
    assert "the controller chose, with 2." in text and "weight bits x activation bits" in text
    document = call(*line, "--format=json", "--trace", trace).json
    operators = document["widths"]["operators"]
    events = [event for event in json.loads(trace.read_text())["events"] if event["kind"] == "inference"]
    assert len(events) == RUNS
    for column, operator in enumerate(operators):
        pairs = [tuple(event["widths"][column]) for event in events]
        for item in operator["widths"]:
            pair = item["weight_bits"], item["activation_bits"]
            assert pairs.count(pair) / RUNS == pytest.approx(item["share"])


def test_eval_writes_the_widths_that_a_simulation_traces(chooser, files, call, tmp_path):
    written, trace = tmp_path / "widths.npz", tmp_path / "trace.json"
    evaluated = ("eval", chooser, "--data", files.data, "--policy", "dynamic", "--limit", RUNS)
    assert call(*evaluated, "--widths", written).code == 0
    simulated = ("simulate", chooser, "--board", BOARD, "--data", files.data, "--runs", RUNS)
    assert call(*simulated, "--trace", trace, "--engine", "native").code == 0
    events = [event for event in json.loads(trace.read_text())["events"] if event["kind"] == "inference"]
    with np.load(written) as widths:
        expected = np.stack([widths["weight_bits"], widths["activation_bits"]], axis=2)
    np.testing.assert_array_equal([event["widths"] for event in events], expected)


def test_widths_are_shown_only_where_something_chooses(chooser, files, call):
    assert "controller" not in call("simulate", files.nested, "--board", BOARD, "--data", files.data).out
    assert "the controller chose" not in call("simulate", chooser, "--board", BOARD).out
