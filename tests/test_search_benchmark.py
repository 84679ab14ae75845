"""The search benchmark: its divisions of samples, its comparisons and its tables."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from tests.models import network
from tests.shared import ROOT
from tflnest.interpreter import Interpreter

sys.path.insert(0, str(ROOT / "benchmarks"))
import search as benchmark
import subjects


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    network().save(folder / "model.tflite")
    for seed, (name, samples) in enumerate((("train", 320), ("test", 40))):
        x = np.random.default_rng(seed).uniform(-5, 5, (samples, 8, 8, 3)).astype(np.float32)
        classes = Interpreter(folder / "model.tflite").run(x).reshape(samples, -1).argmax(1)
        np.savez(folder / f"{name}.npz", x=x, y=classes)
    return folder


def test_a_difference_is_paired():
    first, second = np.array([1, 1, 1, 0], bool), np.array([1, 0, 1, 0], bool)
    points, error = benchmark.difference(first, second)
    assert points == 25.0 and error == pytest.approx(100 * np.std([0, 1, 0, 0], ddof=1) / 2)
    assert benchmark.difference(first, first) == (0.0, 0.0)


def test_calibration_and_search_validation_do_not_overlap_and_leave_the_test_samples_alone(files):
    subject = subjects.given(files / "model.tflite", files / "train.npz", files / "test.npz", 256)
    bench = benchmark.Bench(benchmark.Setting(subject, 50, None, 0, 100, True, 0, files))
    calibration, validation, test = (
        {row.tobytes() for row in np.asarray(data.x)}
        for data in (bench.calibration, bench.validation, bench.test)
    )
    assert len(calibration) == 256 and len(validation) == 50 and len(test) == 40
    assert not calibration & validation and not (calibration | validation) & test


def test_the_tables_are_printed(files):
    arguments = [
        "--model", files / "model.tflite", "--calibration-data", files / "train.npz",
        "--data", files / "test.npz", "--quick", "--max-steps", 0, "--journals", files / "journals",
    ]  # fmt: skip
    done = CliRunner().invoke(benchmark.command, [*map(str, arguments), "--format", "json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)["models"][0]
    rows = document["tables"]["budgets"]
    assert document["source_top1"] == 100.0 and len(rows) == 2 * len(benchmark.FACTORS)
    for row in rows:
        assert row["bytes"] <= row["budget"] and row["top1"] == pytest.approx(100 + row["difference"])
        assert row["attempts"] > 2 and len(row["widths"]) > 1
    assert list((files / "journals").glob("*.json"))
    text = benchmark.show("budgets", rows)
    assert text.count("\n| ") == len(rows) + 2 and rows[0]["title"] in text


def test_training_is_asked_for_where_its_table_is(files):
    arguments = [
        "--model", files / "model.tflite", "--calibration-data", files / "train.npz",
        "--data", files / "test.npz", "--tables", "trained", "--validation", 50,
    ]  # fmt: skip
    done = CliRunner().invoke(benchmark.command, list(map(str, arguments)))
    assert done.exit_code == 2 and "the table trained needs --qat-epochs" in done.output


def test_a_lead_says_what_would_be_clear():
    comparison = {"lead": 0.0006, "standard_error": 0.0026, "clear": False, "standard_errors_needed": 2.58}
    assert benchmark.lead(comparison) == "0.0006 ± 0.0026, 2.6 x ± needed"
    assert benchmark.lead({**comparison, "clear": True}) == "0.0006 ± 0.0026"
    assert benchmark.lead(None) == "-"
