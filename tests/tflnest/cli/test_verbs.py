"""Every verb does its work: text, JSON, files and exit codes."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest

import tflnest
from converters import rounding
from converters.recipe import presets
from firmware_sim.board import Board, list_boards
from firmware_sim.firmware.generation import generate_firmware
from tests.firmware_sim.monitor import build, require_emulator
from tests.tflnest.cli.conftest import BOARD
from tflnest.cli.application import VERBS, cli
from tflnest.cli.convert import default_output
from tflnest.interpreter import ENGINES

#: A command line for every verb that succeeds; {...} are fields of `Files`.
WORKING = {
    "convert": ["convert", "{int8}", "--dry-run"],
    "inspect": ["inspect", "{nested}", "--board", BOARD],
    "search": [
        *("search", "{int8}", "--data", "{data}", "--validation", "{folder}/other.npz", "--max-drop", "100"),
        *("--max-steps", "1", "-f", "-o", "{folder}/found.toml"),
    ],
    "train": ["train", "{folder}/job.toml", "-f", "--restart"],
    "eval": ["eval", "{nested}", "--data", "{data}"],
    "materialize": ["materialize", "{nested}", "--level", "6", "-f", "-o", "{folder}/six.tflite"],
    "export": [
        *("export", "{nested}", "--for", "tflm-lut", "--level", "4"),
        *("-f", "-o", "{folder}/lookup_tables.tflite"),
    ],
    "simulate": ["simulate", "{nested}", "--board", BOARD],
    "boards": ["boards"],
    "compare": ["compare", "{int8}", "{nested}", "--limit", "3"],
    "firmware": ["firmware", "{nested}", "--board", "microbit", "-f", "-o", "{folder}/firmware"],
    "size": ["size", "{folder}/sized"],
    "flash": ["flash", "{folder}/sized", "--tool", "pyocd", "--dry-run"],
    "emulate": ["emulate", "{firmware}"],
    "ports": ["ports"],
    "device": ["device", "{nested}", "--board", BOARD, "--seconds", "0.1"],
    "info": ["info"],
    "push": ["push", "{nested}"],
    "switch": ["switch", "4"],
    "page-out": ["page-out"],
    "run": ["run", "--input", "{data}", "--limit", "2"],
    "verify": ["verify", "{nested}"],
    "monitor": ["monitor", "--count", "1"],
    "completion": ["completion", "bash"],
}


@pytest.fixture(autouse=True)
def board(virtual_port, monkeypatch):
    """Verbs that talk to a board find a virtual one."""
    monkeypatch.setenv("TFLNEST_PORT", virtual_port.url)


def arguments(verb, files):
    if verb == "train":
        pytest.importorskip("keras", reason="the keras extra is not installed")
        head = f'model = "{files.float}"\noutput = "trained.tflite"\nlevels = [4, 8]\nepochs = 1\n'
        (files.folder / "job.toml").write_text(f'{head}[data]\ntraining = "{files.data}"\n')
    if verb == "emulate":
        require_emulator()
        shutil.copy(build(Board.load("microbit"), "regions.c").path, files.firmware)
    if verb in ("size", "flash"):
        require_emulator()
        generate_firmware(files.nested, "microbit").write(files.folder / "sized", force=True)
    return [word.format(**vars(files)) for word in WORKING[verb]]


def test_every_verb_is_tested():
    assert list(WORKING) == list(VERBS)
    assert all(words[0] == verb for verb, words in WORKING.items())


@pytest.mark.parametrize("verb", VERBS)
def test_works_and_says_so(verb, files, call):
    done = call(*arguments(verb, files))
    assert done.code == 0
    assert done.out.strip() and "error:" not in done.err  # progress may speak of errors that are measured
    assert all(line == line.rstrip() for line in done.out.splitlines())


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb != "completion"])
def test_json_is_one_document_and_nothing_else(verb, files, call):
    done = call(*arguments(verb, files), "--format", "json")
    assert done.code == 0
    assert done.json["schema_version"] == 1
    assert done.err == ""


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_an_example_and_fits_80_columns(verb, call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    done = call(verb, "--help")
    assert done.code == 0
    assert f"    tflnest {verb} " in done.out
    assert max(len(line) for line in done.out.splitlines()) <= 80
    assert done.out == call(verb, "-h").out


@pytest.mark.parametrize("verb", VERBS)
def test_the_list_of_verbs_is_not_cut_short(verb, call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    line = next(line for line in call("--help").out.splitlines() if line.startswith(f"  {verb} "))
    assert line.endswith(".") and not line.endswith("...")


#: Options without which something is left out; all others have a default or are required.
OPTIONAL = {
    *(
        "base_bytes",
        "board",
        "calibration",
        "data",
        "epochs",
        "flash",
        "journal",
        "limit",
        "max_bit_operations",
    ),
    *("model_path", "plot", "schedule", "sram", "trace", "widths"),
}


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_has_help_and_says_its_default(verb):
    command = cli.get_command(None, verb)
    options = [item for item in command.params if item.param_type_name == "option"]
    assert all(option.help for option in options)
    for option in options:
        told = "[default: " in option.help or option.show_default or option.required
        assert option.is_flag or told or option.name in OPTIONAL, option.name


def test_help_names_presets_and_rounding_methods(call):
    text = " ".join(call("convert", "--help").out.split())
    assert all(name in text for name in presets())
    assert all(name in text for name in rounding.names())


def test_version(call):
    done = call("--version")
    assert (done.code, done.out) == (0, f"tflnest, version {tflnest.__version__}\n")


# ---------------------------------------------------------------------------------------------- convert


def test_convert_writes_what_it_says(files, call, tmp_path):
    output = tmp_path / "out.tflite"
    done = call(
        "convert", files.int8, "-o", output, "--levels", "3,5,8", "--recipe", "uniform", "--format=json"
    )
    assert done.json["output"]["bytes"] == output.stat().st_size
    assert [row["level"] for row in done.json["levels"]] == [3, 5, 8]
    assert tflnest.load(output).directory.levels == (3, 5, 8)
    assert any("synthetic inputs" in note for note in done.json["notes"])


def test_convert_shows_why_filters_stay_flat(files, call):
    done = call("convert", files.int8, "--dry-run", "--verbose")
    assert "1 operator DEPTHWISE_CONV_2D stays flat" in done.out
    assert "1 first convolution stays flat" in done.out
    row = next(line for line in done.out.splitlines() if line.startswith("head/weights"))
    assert re.search(r" 4,[5-7],8 ", row)
    assert "note: " in done.err and "synthetic inputs" in done.err


def test_convert_lists_the_filters_that_cost_most(files, call):
    done = call("convert", files.int8, "--dry-run", "--recipe", "uniform")
    lines = done.out.splitlines()
    (title,) = (number for number, line in enumerate(lines) if "make up half of the loss" in line)
    assert "relative error of outputs, on synthetic inputs; * marks the " in lines[title]
    assert lines[title + 1].split() == ["filter", "levels", "at", "4", "at", "6", "at", "8", "loss"]
    rows = lines[title + 3 : title + 8]
    losses = [float(row.split()[-1]) for row in rows]
    assert losses == sorted(losses, reverse=True) and "*" in rows[0].split()
    assert all(row.split()[-3:-1] == ["0.0", "%"] for row in rows)


def test_convert_lists_the_ten_worst_and_all_on_demand(files, call, monkeypatch):
    from tflnest.cli import convert

    monkeypatch.setattr(convert, "WORST", 2)
    short = call("convert", files.int8, "--dry-run", "--recipe", "uniform").out
    assert "and 3 more with less loss: see --verbose" in short
    assert "more with less loss" not in call("convert", files.int8, "-n", "-v", "--recipe", "uniform").out


def test_quiet_leaves_out_the_notes(files, call):
    assert call("convert", files.int8, "--dry-run", "-q").err == ""


def test_convert_float_with_calibration(files, call, tmp_path):
    output = tmp_path / "out.tflite"
    done = call("convert", files.float, "-o", output, "--calibration", files.data, "--format", "json")
    assert done.code == 0 and done.json["source"]["kind"] == "float_tflite"
    assert tflnest.load(output).directory.levels == (4, 6, 8)


def test_dry_run_writes_nothing(files, call, tmp_path):
    done = call("convert", files.int8, "-o", tmp_path / "out.tflite", "-n")
    assert done.code == 0 and "dry run: " in done.out and "was not written" in done.out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("model.tflite", "model.nested.tflite"),
        ("a/model.h5", "a/model.nested.tflite"),
        ("model.v2.keras", "model.v2.nested.tflite"),
        ("saved/", "saved.nested.tflite"),
        ("saved.1", "saved.1.nested.tflite"),
        ("", "model.nested.tflite"),
    ],
)
def test_default_output(source, expected):
    assert default_output(source) == expected


def test_convert_beside_the_source(files, call, tmp_path):
    source = tmp_path / "model.tflite"
    source.write_bytes(files.int8.read_bytes())
    assert call("convert", source).code == 0
    assert tflnest.load(tmp_path / "model.nested.tflite").directory is not None


# ---------------------------------------------------------------------------------------------- inspect


def test_inspect_has_the_documented_keys(files, call):
    document = call("inspect", files.nested, "--board", BOARD, "--format", "json").json
    assert {"head_bytes", "tail_bytes", "minimum_bytes"} <= set(document["arena"])
    assert [row["level"] for row in document["levels"]] == [4, 6, 8]
    assert all({"page_bytes", "resident_bytes", "needs"} <= set(row) for row in document["levels"])


@pytest.mark.parametrize("name", ["int8", "float", "two_inputs"])
def test_inspect_takes_plain_files(files, call, name):
    done = call("inspect", getattr(files, name), "--format", "json")
    assert done.code == 0 and done.json["arena"]["minimum_bytes"] > 0
    assert len(done.json["levels"]) == 1 and done.json["file"]["identity"] is None


def test_inspect_says_what_does_not_fit(files, call):
    done = call("inspect", files.nested, "--board", BOARD, "--sram", "3KiB", "-v")
    assert done.code == 0
    assert "board nrf52840: 3,072 B SRAM, 1,048,576 B flash" in done.out
    assert "no, short " in done.out and "stem/weights" in done.out and "allocators and planner" in done.out


# ---------------------------------------------------------------------------------------------- others


def test_eval_one_level(files, call):
    document = call("eval", files.nested, "--data", files.data, "--level", 6, "--format", "json").json
    assert [row["level"] for row in document["levels"]] == [6]
    assert document["samples"] == 40 and document["engine"] in ENGINES
    assert 0 <= document["levels"][0]["top1"] <= 1


def test_materialized_level_is_exact(files, call, tmp_path):
    six = tmp_path / "six.tflite"
    assert call("materialize", files.nested, "--level", 6, "-o", six).code == 0
    done = call("compare", six, files.nested, "--level-b", 6, "--data", files.data, "--exact")
    assert done.code == 0 and "bit-exact: all output values are equal" in done.out


def test_compare_exact_fails_with_4(files, call):
    done = call("compare", files.nested, files.int8, "--level-a", 4, "--data", files.data, "--exact")
    assert done.code == 4
    assert "first difference     sample " in done.out
    assert done.err.startswith("error: the outputs differ in ")
    assert call("compare", files.nested, files.int8, "--level-a", 4, "--data", files.data).code == 0


def test_simulate_says_which_level_ran(files, call):
    assert (
        "level 4, pages in flash, 1 inference\n"
        in call("simulate", files.nested, "--board", BOARD, "--level", 4).out
    )
    text = call(
        "simulate", files.nested, "--board", BOARD, "--pages", "host", "--schedule", "4@0,8@2,4@4"
    ).out
    assert "schedule 4@0,8@2,4@4, pages in host" in text
    assert "in 1, in 2" in text and "out 2, out 1" in text and "4 <-> 6" in text
    assert "not nested" in call("simulate", files.int8, "--board", BOARD).out


def test_simulate_writes_the_trace_and_the_picture(files, call, tmp_path):
    pytest.importorskip("matplotlib", reason="the plot extra is not installed")
    trace, plot = tmp_path / "trace.json", tmp_path / "plot.png"
    words = ["simulate", files.nested, "--board", BOARD, "--data", files.data]
    done = call(*words, "--runs", 5, "--trace", trace, "--plot", plot)
    assert done.code == 0 and f"wrote {trace}" in done.out
    assert json.loads(trace.read_text())["schema_version"] == 1
    assert plot.read_bytes().startswith(b"\x89PNG")
    again = call(*words, "--trace", trace)
    assert again.code == 2 and "exists already" in again.err
    assert call(*words, "--trace", trace, "--force").code == 0


def test_boards(call, tmp_path):
    document = call("boards", "--format", "json").json
    assert [board["name"] for board in document["boards"]] == list_boards()
    text = call("boards", BOARD).out
    assert "sram_base            0x20000000" in text and "has_mve              no" in text


def test_numbers_in_json_are_not_rounded(files, call):
    document = call("inspect", files.nested, "--format", "json").json
    size = tflnest.inspect(files.nested).levels[0]
    assert document["levels"][0]["bits_per_weight"] == size.bits_per_weight
    converted = call("convert", files.int8, "-n", "--format", "json").json
    bits = tflnest.convert(files.int8).level_bits[4]
    assert converted["levels"][0]["bits_per_weight"] == bits != np.round(bits, 2)


def test_the_same_command_line_gives_the_same_bytes(files, call, tmp_path):
    paths = [tmp_path / f"{number}.tflite" for number in range(2)]
    for path in paths:
        assert call("convert", files.int8, "-o", path, "--scheme", "compensated", "--seed", 7).code == 0
    assert paths[0].read_bytes() == paths[1].read_bytes()
