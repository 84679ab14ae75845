"""Every example runs, and the demo leaves what it promises."""

from __future__ import annotations

import importlib.util
import json

import pytest

from tests.examples.running import run_example
from tests.shared import ROOT
from tflnest.model import Model

EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))
NEEDS = ("tensorflow", "sklearn", "matplotlib")


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_is_run_by_a_test(name):
    tests = [path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "examples").glob("test_*.py")]
    assert any(f'"examples/{name}"' in text for text in tests)


@pytest.mark.parametrize("name", ["demo.py", "digits.py"])
def test_examples_explain_themselves(name):
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    text = run_example(ROOT / "examples" / name, "--help")
    assert "--output" in text


@pytest.mark.keras
@pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in NEEDS), reason=f"needs {', '.join(NEEDS)}"
)
def test_the_demo_does_the_whole_job(tmp_path):
    output = tmp_path / "out"
    text = run_example("examples/demo.py", "--output", output)
    names = {path.name for path in output.iterdir()}
    assert names == {
        "calibration.npz",
        "digits.tflite",
        "digits_float.tflite",
        "digits_int8.tflite",
        "test.npz",
        "timeline.json",
        "timeline.png",
    }
    nested = output / "digits.tflite"
    assert Model.load(nested).directory.levels == (4, 6, 8)
    assert nested.stat().st_size <= (output / "digits_int8.tflite").stat().st_size
    assert (output / "timeline.png").read_bytes().startswith(b"\x89PNG")
    events = json.loads((output / "timeline.json").read_text())["events"]
    assert {"page_in", "page_out"} <= {event["kind"].replace("-", "_") for event in events}
    assert "bit-exact on 500 samples" in text
    assert "error: stm32g474cb: level 8 needs" in text and "bytes of flash" in text
    for level in (4, 6, 8):
        assert f"digits.tflite at level {level}" in text
    assert "page 1 in, page 2 in" in text and "page 2 out, page 1 out" in text
