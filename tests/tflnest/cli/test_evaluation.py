"""`tflnest eval` with several files and with a picture."""

from __future__ import annotations

import sys

import numpy as np
import pytest


def test_one_file_gives_one_document(files, call):
    document = call("eval", files.nested, "--data", files.data, "--limit", 3, "--format=json").json
    assert [row["level"] for row in document["levels"]] == [4, 6, 8]
    assert document["model"] == str(files.nested) and "evaluations" not in document


def test_several_files_give_a_list(files, call):
    command = ("eval", files.nested, files.int8, "--data", files.data, "--limit", 3)
    document = call(*command, "--format=json").json
    assert document["schema_version"] == 1
    first, second = document["evaluations"]
    assert (first["model"], second["model"]) == (str(files.nested), str(files.int8))
    assert [len(first["levels"]), len(second["levels"])] == [3, 1]
    text = call(*command).out
    assert text.count(" agreement ") == 2
    assert text.index(f"{files.nested}: 3 samples") < text.index(f"{files.int8}: 3 samples")


def test_a_picture(files, call, tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "accuracy.png"
    done = call("eval", files.nested, files.int8, "--data", files.data, "--limit", 3, "--plot", path)
    assert done.code == 0 and done.out.endswith(f"wrote {path}\n")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_picture_that_exists_is_kept_unless_forced(files, call, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    path = tmp_path / "accuracy.png"
    path.write_bytes(b"precious")
    command = ("eval", files.nested, "--data", files.data, "--limit", 1, "--plot", path)
    with monkeypatch.context() as context:
        context.setattr("tflnest.cli.evaluation.evaluate", None)  # refused before anything runs
        done = call(*command)
    assert done.code == 2 and "exists already" in done.err
    assert path.read_bytes() == b"precious"
    assert call(*command, "--force").code == 0
    assert path.read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_nothing_runs(files, call, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr("tflnest.cli.evaluation.evaluate", None)
    done = call("eval", files.nested, "--data", files.data, "--plot", tmp_path / "accuracy.png")
    assert done.code == 1 and "matplotlib" in done.err and "tflnest[plot]" in done.err


def test_a_file_is_needed(call, files):
    done = call("eval", "--data", files.data)
    assert done.code == 2 and "FILE" in done.err


def test_a_margin_is_calibrated_and_shown(files, call):
    command = ("eval", files.nested, "--data", files.data, "--limit", 8, "--policy", "margin:auto")
    done = call(*command, "--max-drop", 0)
    assert done.code == 0, done.err
    assert "was calibrated: a drop of 0.00 points" in done.out and "multiply-accumulates" in done.out
    document = call(*command, "--max-bops", "200%", "--format=json").json
    assert document["calibration"]["cost"] <= 2.0
    assert [row["level"] for row in document["levels"]] == [8]
    assert document["policy"]["policy"].startswith("margin:")


def test_a_cost_that_no_margin_keeps_to(files, call):
    command = ("eval", files.nested, "--data", files.data, "--limit", 4, "--policy", "margin:auto")
    done = call(*command, "--max-bops", "10%")
    assert done.code == 5 and "of the full-bit level's bit operations" in done.err
    for wrong in ("10", "x%", "-3%"):
        done = call(*command, "--max-bops", wrong)
        assert done.code == 2 and "is no share" in done.err
    done = call("eval", files.nested, "--data", files.data, "--policy", "fast")
    assert done.code == 2 and "policies:" in done.err


def test_widths_are_written(files, call, tmp_path):
    path = tmp_path / "widths.npz"
    command = ("eval", files.nested, "--data", files.data, "--limit", 5, "--widths", path)
    assert call(*command, "--policy", "margin:1000").code == 0
    with np.load(path) as arrays:
        assert arrays["samples"].tolist() == [0, 1, 2, 3, 4] * 2
        assert set(arrays["weight_bits"][:5].ravel()) < set(arrays["weight_bits"].ravel())
        assert arrays["weight_bits"].shape == arrays["limited"].shape == (10, len(arrays["operators"]))
    done = call(*command, "--policy", "margin:1000")
    assert done.code == 2 and "exists" in done.err
    done = call(*command, "--force")
    assert done.code == 2 and "0 ran" in done.err
