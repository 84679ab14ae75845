"""`tflnest search`."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import tomllib

import numpy as np
import pytest

from converters.search.comparison import Comparison
from tflnest.cli.search import _against_uniform
from tflnest.interpreter import Interpreter
from tflnest.model import Model


@pytest.fixture(scope="session")
def labelled(files, tmp_path_factory):
    """Samples with the classes that the int8 network gives them."""
    path = tmp_path_factory.mktemp("labelled") / "labelled.npz"
    x = np.random.default_rng(2).uniform(-5, 5, (60, 8, 8, 3)).astype(np.float32)
    classes = Interpreter(files.int8).run(x).reshape(60, -1).argmax(1)
    np.savez(path, x=x, y=classes)
    return path


def command(files, labelled, folder, *more):
    return (
        "search", files.int8, "--data", files.data, "--validation", labelled,
        "-o", folder / "found.toml", "--max-steps", 3, *more,
    )  # fmt: skip


def test_the_recipe_makes_the_model_that_was_found(files, labelled, call, tmp_path):
    done = call(
        *command(files, labelled, tmp_path, "--max-drop", 60, "--max-bytes", "60%", "--format=json", "--max-steps", 1),
        "--model", tmp_path / "found.tflite", "--plot", tmp_path / "found.png", "--board", "nrf52840",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert all(isinstance(note, str) for note in done.json["notes"])
    assert (tmp_path / "found.png").read_bytes().startswith(b"\x89PNG")
    document = done.json
    assert document["status"] == "met" and document["missed"] == []
    assert document["best"]["bytes"] <= 0.6 * sum(layer["weights"] for layer in document["layers"])
    assert document["trajectory"][0]["phase"] == "full-bit" and document["trajectory"][0]["drop"] == 0
    assert {step["phase"] for step in document["trajectory"]} >= {"uniform", "sigma"}
    assert document["best"]["cycles_estimated"] > 0 and document["best"]["energy_fitted"] < 1.09
    assert document["base_page_bytes"] < document["file_bytes"]
    assert tomllib.loads((tmp_path / "found.toml").read_text())["rules"]
    again = call(
        "convert", files.int8, "--recipe", tmp_path / "found.toml", "--calibration", files.data,
        "-o", tmp_path / "again.tflite",
    )  # fmt: skip
    assert again.code == 0, again.err
    first, second = (Model.load(tmp_path / name) for name in ("found.tflite", "again.tflite"))
    x = np.load(labelled)["x"]
    level = first.directory.levels[0]
    np.testing.assert_array_equal(
        Interpreter(model=first, level=level).run(x), Interpreter(model=second, level=level).run(x)
    )


def test_budgets_that_are_not_met_end_with_5_and_the_nearest_recipe(files, labelled, call, tmp_path):
    done = call(*command(files, labelled, tmp_path, "--max-drop", 0, "--max-bytes", "26%", "--max-steps", 1))
    assert done.code == 5
    assert "the budgets were not met: " in done.err and "are allowed" in done.err
    assert (tmp_path / "found.toml").exists()
    assert "not met:" in done.out


def test_a_budget_that_nothing_meets_ends_with_5_at_once(files, labelled, call, tmp_path, monkeypatch):
    monkeypatch.setattr("converters.search.model_search.measure_sensitivities", None)
    done = call(*command(files, labelled, tmp_path, "--max-bytes", "10%"))
    assert done.code == 5 and "2 bits everywhere take" in done.err
    assert not (tmp_path / "found.toml").exists()


def test_a_model_of_the_found_widths_alone_is_small(files, labelled, call, tmp_path):
    done = call(
        *command(files, labelled, tmp_path, "--max-drop", 100, "--max-bytes", "40%", "--goal", "bytes"),
        "--single", "--method", "uniform", "--method", "divergence", "--widths", "1,2,4,8",
        "--model", tmp_path / "found.tflite", "--format=json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert {step["phase"] for step in done.json["trajectory"]} <= {"full-bit", "uniform", "divergence"}
    found = Model.load(tmp_path / "found.tflite")
    assert len(found.directory.levels) == 1 and "loss" in done.json["layers"][0]
    saved = sum(layer["weights"] for layer in done.json["layers"]) - done.json["best"]["bytes"]
    assert files.int8.stat().st_size - (tmp_path / "found.tflite").stat().st_size > saved / 2


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--max-bytes", "0"), "the budget of bytes is 0, more than 0 was expected"),
        (("--max-bytes", "much"), "the budget 'much' is no number of bytes"),
        (("--max-bytes", "-40%"), "more than 0 was expected"),
        (("--max-bops", "0%"), "budget of bit operations is 0"),
        (("--max-bops", "few"), "no number of bit operations"),
        (("--widths", "2,4"), "do not increase to 8"),
        (("--cluster", "tcp://nowhere:1"), "the backend loky runs here"),
        (("--jobs", "0"), "attempts at a time make no sense"),
        (("--ptq", "--qat-epochs", "1"), "--ptq and --qat-epochs are both given"),
        (("--qat-epochs", "1"), "has no labels|training starts from float weights"),
    ],
)
def test_options_that_make_no_sense(files, labelled, call, tmp_path, more, message):
    done = call(*command(files, labelled, tmp_path, *more))
    assert done.code == 2 and re.search(message, done.err), done.err


def test_validation_data_must_be_fit_for_a_search(files, labelled, call, tmp_path, monkeypatch):
    monkeypatch.setattr("converters.search.model_search.measure_sensitivities", None)  # refused before that
    x, y = (np.load(labelled)[key] for key in "xy")
    cases = {
        "bare": ({"x": x}, "has no labels"),
        "one": ({"x": x, "y": np.full(60, 3)}, "all 60 samples have the class 3"),
        "classes": ({"x": x, "y": y + 100}, "the model has the classes 0.."),
        "small": ({"x": x / 255, "y": y}, "those of .*small.npz in -0.0"),
        "same": ({"x": np.load(files.data)["x"], "y": y[:40]}, "40 of 40 samples of .* are among those of"),
    }
    for name, (arrays, message) in cases.items():
        np.savez(tmp_path / f"{name}.npz", **arrays)
        done = call(*command(files, tmp_path / f"{name}.npz", tmp_path))
        assert done.code == 2 and re.search(message, done.err), done.err
    assert not (tmp_path / "found.toml").exists()


def test_a_search_that_was_killed_goes_on(files, labelled, call, tmp_path):
    journal = tmp_path / "journal.json"
    arguments = command(
        files,
        labelled,
        tmp_path,
        "--max-bytes",
        "50%",
        "--max-drop",
        90,
        "--method",
        "uniform",
        "--method",
        "sigma",
    )
    killed = subprocess.Popen(
        [sys.executable, "-m", "tflnest", *map(str, (*arguments, "--journal", journal))],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not journal.exists() and time.monotonic() < deadline and killed.poll() is None:
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    before = json.loads(journal.read_text())["attempts"]
    resumed = call(*arguments, "--journal", journal, "--force", "--format=json")
    assert resumed.code == 0, resumed.err
    after = json.loads(journal.read_text())["attempts"]
    assert after[: len(before)] == before and len(after) == len(resumed.json["trajectory"])
    fresh = call(*arguments, "--force", "--format=json")
    assert fresh.json["trajectory"] == resumed.json["trajectory"]


@pytest.mark.parametrize(
    ("journal", "message"), [(True, "has the attempts"), (False, "its attempts are lost")]
)
def test_a_search_that_is_stopped_says_how_it_goes_on(
    files, labelled, call, tmp_path, monkeypatch, journal, message
):
    def stopped(*arguments, **options):
        if options["journal"]:
            (tmp_path / "journal.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr("converters.search.search", stopped)
    more = ("--journal", tmp_path / "journal.json") if journal else ()
    done = call(*command(files, labelled, tmp_path, *more))
    assert done.code == 130 and "the search was stopped" in done.err and message in done.err
    assert ("the same command goes on" if journal else "--journal FILE keeps them") in done.err
    assert not (tmp_path / "found.toml").exists()


def test_the_report_compares_with_uniform_widths():
    def words(lead, challengers):
        return _against_uniform(Comparison((4, 4), (6, 2), lead, 0.01, challengers))

    assert words(0.5, 3) == "cross-entropy lower than with uniform 4 bits: by 0.5000 ± 0.0100 nats"
    assert words(0.02, 10) == (
        "uniform 4 bits stay: the cross-entropy of the best of 10 others (6 2) is lower by 0.0200 ± 0.0100 nats, "
        "and more than 2.6 standard errors would be clear"
    )
    assert words(-0.3, 1).endswith("of the only other (6 2) is higher by 0.3000 ± 0.0100 nats")


def test_the_report_names_the_fitted_and_the_way_out(files, labelled, call, tmp_path):
    done = call(*command(files, labelled, tmp_path, "--max-drop", 0, "--max-bytes", "30%", "--max-steps", 0))
    assert done.code == 5
    assert "fitted to published figures" in done.out and "the search ended because" in done.out
    assert "the smallest attempt that was accurate enough takes" in done.err
    assert "train attempts of the float model (--qat-epochs)" in done.err
    assert "bit operations: raise" not in done.err  # no budget of them was given


def test_nothing_is_searched_where_the_recipe_exists(files, labelled, call, tmp_path, monkeypatch):
    (tmp_path / "found.toml").write_text("precious")
    monkeypatch.setattr("converters.search.search", None)
    done = call(*command(files, labelled, tmp_path))
    assert done.code == 2 and "exists already" in done.err
    assert (tmp_path / "found.toml").read_text() == "precious"
