from __future__ import annotations

import re

import pytest

from tests.examples.running import run_example

pytest.importorskip("sklearn", reason="scikit-learn is not installed")
pytest.importorskip("tensorflow", reason="TensorFlow is not installed")


@pytest.mark.slow
@pytest.mark.keras
def test_all_levels_are_trained_and_compared(tmp_path):
    text = run_example("examples/train_nested.py", "--output", tmp_path, "--epochs", 1)
    rows = re.findall(r"level (\d): rounded ([\d.]+)%, trained ([\d.]+)%", text)
    assert [level for level, *_ in rows] == ["2", "4", "6", "8"]
    assert all(float(trained) > 95 for *_, trained in rows)
