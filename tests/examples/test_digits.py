from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from tests.examples.running import run_example
from tflnest.dataset import load_dataset

pytest.importorskip("sklearn", reason="scikit-learn is not installed")


def test_digits_writes_the_files_that_the_command_line_takes(tmp_path):
    text = run_example("examples/digits.py", "--output", tmp_path / "digits")
    assert "256 samples" in text and "500 samples" in text
    calibration = load_dataset(tmp_path / "digits" / "calibration.npz")
    test = load_dataset(tmp_path / "digits" / "test.npz")
    assert calibration.x.shape == (256, 8, 8, 1) and calibration.x.dtype == np.float32
    assert calibration.x.min() >= 0.0 and calibration.x.max() == 1.0
    assert set(test.labels().tolist()) == set(range(10))


def test_the_split_is_fixed_and_apart():
    from examples.digits import load_split

    (x_train, _), (x_test, y_test) = load_split()
    assert len(x_train) == 1297 and len(x_test) == 500
    assert np.bincount(y_test).min() >= 47
    again = load_split()[1][0]
    assert np.array_equal(x_test, again)


@pytest.mark.keras
@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="the keras extra is not installed")
def test_training_runs_and_saves_a_model(tmp_path):
    output = tmp_path / "digits.keras"
    text = run_example("examples/train_digits.py", "--epochs", 1, "--output", output)
    assert "115,594 parameters" in text and f"wrote {output}" in text
    assert output.stat().st_size > 400_000
