from __future__ import annotations

import re

import pytest

from tests.examples.running import FLOAT_MODEL, run_example
from tflnest.model import Model

pytest.importorskip("sklearn", reason="scikit-learn is not installed")


def test_the_widths_keep_to_the_budget(tmp_path):
    text = run_example(
        *("examples/find_widths.py", "--output", tmp_path, "--model", FLOAT_MODEL),
        *("--max-bytes", "40%", "--max-steps", 0),
    )
    found = re.search(r"([\d.]+) bits per weight, ([\d.]+)% of the test samples", text)
    assert float(found[1]) <= 3.2 and float(found[2]) > 96
    assert Model.load(tmp_path / "digits_found.tflite").directory.levels[-1] <= 8
    assert "levels" in (tmp_path / "digits_found.recipe.toml").read_text()
