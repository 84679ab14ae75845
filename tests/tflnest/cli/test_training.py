"""`tflnest train`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.keras
keras = pytest.importorskip("keras", reason="the keras extra is not installed")


def write_job(files, folder: Path, *lines: str) -> Path:
    path = folder / "job.toml"
    head = [f'model = "{files.float}"', 'output = "nested.tflite"', "epochs = 1", "batch = 20", *lines]
    path.write_text("\n".join([*head, "[data]", f'training = "{files.data}"']))
    return path


def test_a_configuration_becomes_a_nested_file_that_runs(files, call, tmp_path):
    job = write_job(files, tmp_path, "levels = [4, 8]")
    done = call("train", job, "--format=json")
    assert done.code == 0, done.err
    document = done.json
    assert document["output"] == str(tmp_path / "nested.tflite")
    assert [row["level"] for row in document["levels"]] == [4, 8] and len(document["history"]) == 1
    assert document["file_bytes"] == (tmp_path / "nested.tflite").stat().st_size
    assert call("eval", tmp_path / "nested.tflite", "--data", files.data, "--limit", 4).code == 0
    again = call("train", job)
    assert again.code == 2 and "exists already" in again.err
    elsewhere = call("train", job, "-o", tmp_path / "other.tflite", "--epochs", 1)
    assert elsewhere.code == 0 and f"wrote {tmp_path / 'other.tflite'}" in elsewhere.out


def test_a_training_that_is_interrupted_says_how_it_goes_on(files, call, tmp_path, monkeypatch):
    from converters.training.network import NestedNetwork

    def fit(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(NestedNetwork, "fit", fit)
    done = call("train", write_job(files, tmp_path))
    assert done.code == 130 and "the training was stopped" in done.err and "hint" not in done.err
    (tmp_path / "nested.tflite.checkpoints").mkdir()
    done = call("train", write_job(files, tmp_path))
    assert done.code == 130 and "the same command goes on from it" in done.err
    assert not (tmp_path / "nested.tflite").exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({}, "has no labels"),
        ({"y": np.zeros(8, np.int64)}, "all 8 samples have the class 0"),
        ({"y": np.arange(8) + 5}, r"the labels lie in 5..12, and the model has the classes 0..9"),
    ],
)
def test_data_that_nothing_can_be_learned_from_ends_with_2(files, call, tmp_path, data, message):
    np.savez(tmp_path / "data.npz", x=np.ones((8, 8, 8, 3), np.float32), **data)
    job = write_job(files, tmp_path)
    job.write_text(job.read_text().replace(str(files.data), "data.npz"))
    done = call("train", job)
    assert done.code == 2 and message in done.err and not (tmp_path / "nested.tflite").exists()


def test_a_job_that_is_none_ends_with_2(call, tmp_path):
    done = call("train", tmp_path / "job.yaml")
    assert done.code == 2 and "is no configuration (.toml) and no script (.py)" in done.err
