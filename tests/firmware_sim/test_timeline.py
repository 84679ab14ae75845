from __future__ import annotations

import json

import numpy as np
import pytest

from firmware_sim.simulation import simulate
from firmware_sim.timeline import write_plot, write_trace
from tflnest.errors import MissingExtraError, UsageError


@pytest.fixture(scope="module")
def simulation(nested_cnn):
    return simulate(nested_cnn, "microbit", schedule="4@0,8@4,6@8,8@9,4@12", pages="host", runs=16)


def test_a_picture(simulation, tmp_path):
    pytest.importorskip("matplotlib")
    from matplotlib.image import imread

    path = tmp_path / "timeline.png"
    write_plot(simulation, path)
    image = imread(path)
    assert image.shape[:2] == (900, 1200)
    # Arena, both page slots and the limit are drawn in their colours.
    pixels = {tuple(np.round(pixel * 255).astype(int)) for pixel in image[:, :, :3].reshape(-1, 3)}
    for colour in ("3b6fb6", "f2a541", "d9763a", "b3261e"):
        assert tuple(bytes.fromhex(colour)) in pixels
    with pytest.raises(UsageError, match="exists already"):
        write_plot(simulation, path)
    write_plot(simulation, path, force=True)


def test_the_same_simulation_gives_the_same_picture(simulation, tmp_path):
    pytest.importorskip("matplotlib")
    for name in ("a.png", "b.png"):
        write_plot(simulation, tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_plain_model_on_a_large_board(plain_cnn, tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "timeline.png"
    write_plot(simulate(plain_cnn, "mps2-an386"), path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_the_error_names_the_extra(simulation, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match="matplotlib") as caught:
        write_plot(simulation, tmp_path / "timeline.png")
    assert "tflnest[plot]" in (caught.value.hint or "")


def test_a_trace(simulation, tmp_path):
    path = tmp_path / "trace.json"
    write_trace(simulation, path)
    trace = json.loads(path.read_text())
    assert trace["schema_version"] == 1
    assert trace["simulation"] == json.loads(json.dumps(simulation.to_dict()))
    events = trace["events"]
    assert len(events) == len(simulation.trace.events)
    assert [event["inference"] for event in events if event["kind"] == "inference"] == list(range(1, 17))
    moved = sum(event["link_bytes"] for event in events)
    assert moved == simulation.counters.link_bytes
    assert events[0]["kind"] == "start"
