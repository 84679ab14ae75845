from __future__ import annotations

import re

import pytest

from tests.examples.running import FLOAT_MODEL, run_example
from tflnest.model import Model

pytest.importorskip("sklearn", reason="scikit-learn is not installed")
pytest.importorskip("matplotlib", reason="the plot extra is not installed")


def test_the_picture_of_the_digits_model(tmp_path):
    """From the float `.tflite` of the same network, which needs no TensorFlow."""
    output = tmp_path / "out"
    text = run_example("examples/accuracy_plot.py", "--output", output, "--model", FLOAT_MODEL)
    assert (output / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    found = re.findall(r"(\w+) +level (\d): +([\d.]+) bits .* top-1 ([\d.]+) %", text)
    top1 = {(name, int(level)): float(share) for name, level, _, share in found}
    bits = {(name, int(level)): float(count) for name, level, count, _ in found}
    assert set(top1) == {
        (name, level) for name in ("mixed", "uniform", "nestquant") for level in (2, 4, 6, 8)
    }
    # Every way keeps the int8 model; two bits are enough for ours and not for NestQuant, at the same bytes.
    assert len({top1[name, 8] for name in ("mixed", "uniform", "nestquant")}) == 1
    assert min(top1["mixed", 2], top1["uniform", 2]) > top1["nestquant", 2] + 20
    assert (bits["uniform", 8], bits["mixed", 8], bits["nestquant", 8]) == (8.0, 8.0, 11.0)
    for name in ("mixed", "uniform", "nestquant"):
        assert Model.load(output / f"digits_{name}.tflite").directory.levels == (2, 4, 6, 8)
