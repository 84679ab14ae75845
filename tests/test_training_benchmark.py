"""The benchmark of nested training: what it trains, keeps and prints."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.training import ALONE, BOTH, NESTED, RUNS, Bench, tables
from converters.training.job import TrainingJob
from tests.converters.training.small_model import small_model
from tflnest.dataset import Dataset

pytestmark = pytest.mark.keras

RESULT = {2: 0.5, 4: 0.7, 6: 0.8, 8: 0.9}


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    datasets = pytest.importorskip("sklearn.datasets")
    x, y = datasets.load_digits(return_X_y=True)
    images = (x / 16.0).astype(np.float32).reshape(-1, 8, 8, 1)
    (tmp_path / "small.tflite").write_bytes(small_model())
    job = TrainingJob(
        model=tmp_path / "small.tflite",
        data=Dataset(images[:128], y[:128].astype(np.int64)),
        validation=Dataset(images[1200:1300], y[1200:1300].astype(np.int64)),
        output=tmp_path / "nested.tflite",
        epochs=1,
        batch=64,
    )
    return Bench(job, 1, tmp_path)


def keep(bench: Bench, name: str, accuracy: dict[int, float]) -> None:
    levels = [{"level": level, "top1": top1} for level, top1 in accuracy.items()]
    (bench.folder / f"{name}.json").write_text(json.dumps({"levels": levels}))


def test_finished_runs_are_not_trained_again(bench: Bench) -> None:
    pytest.importorskip("ai_edge_litert", reason="the litert extra is not installed")
    for run in (NESTED, BOTH, *ALONE.values()):
        keep(bench, run.name, RESULT)
    lines = list(tables(bench, set()))
    assert lines[0].startswith("float model: ") and lines[0].endswith("of 100 test samples\n")
    base = float(lines[0].split()[2].rstrip("%"))
    row = next(line for line in lines if line.startswith(f"| {NESTED.title} "))
    assert f"| 90.00% ({90 - base:+.2f}) |" in row and row.count("|") == 6
    assert "| 4 bits | 70.00% | 70.00% | +0.00 |" in lines
    assert not any(line.startswith("| alpha = 0 ") for line in lines)


def test_runs_that_follow_start_with_the_weights_of_the_nested_one(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    tensorflow = pytest.importorskip("tensorflow")
    tensorflow.config.run_functions_eagerly(True)
    try:
        alone = bench.measure(ALONE[4])
    finally:
        tensorflow.config.run_functions_eagerly(False)
    assert set(alone) == {2, 4, 6, 8} and (bench.folder / "nested.json").exists()
    printed = capsys.readouterr().out
    assert printed.index("nested: training") < printed.index("alone-4: training")
    assert bench.measure(ALONE[4]) == alone


def test_names_are_unique() -> None:
    assert len({run.name for run in RUNS}) == len(RUNS)
