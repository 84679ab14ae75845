"""Bad input of every kind: one clear message on stderr, the documented exit code, nothing written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import firmware_sim.board
from tests.shared import ROOT
from tests.single_operator import GraphBuilder
from tests.tflnest.cli.conftest import BOARD

PNG = b"\x89PNG\r\n\x1a\n" + bytes(200)
ROW = (1, 4)


def simple(type_name: str, operator: str = "RELU") -> bytes:
    graph = GraphBuilder()
    x, y = graph.input(ROW, type_name, 0.5), graph.tensor(ROW, type_name, 0.5)
    graph.operator(operator, [x], [y])
    return graph.build([y])


def dynamic_range() -> bytes:
    graph = GraphBuilder()
    x, y = graph.input(ROW, "FLOAT32"), graph.tensor((1, 3), "FLOAT32")
    weights = graph.constant(np.ones((3, 4), np.int8), 0.1)
    graph.operator("FULLY_CONNECTED", [x, weights, -1], [y])
    return graph.build([y])


@pytest.fixture(scope="session")
def bad(tmp_path_factory, files) -> Path:
    """A folder of files that are wrong, each in its own way."""
    folder = tmp_path_factory.mktemp("bad")
    model = files.int8.read_bytes()
    contents = {
        "empty.tflite": b"",
        "picture.tflite": PNG,
        "cut.tflite": model[: len(model) // 2],
        "cut.h5": b"\x89HDF\r\n\x1a\n"[:5],
        "cut.keras": (ROOT / "examples" / "digits.keras").read_bytes()[:5000],
        "model.onnx": b"onnx",
        "exists.tflite": b"precious",
        "abs.tflite": simple("INT8", "ABS"),
        "int16.tflite": simple("INT16"),
        "uint8.tflite": simple("UINT8"),
        "dynamic.tflite": dynamic_range(),
        "cut.npz": files.data.read_bytes()[:3000],
        "syntax.toml": b"levels = [4,",
        "key.toml": b"level = [4, 8]\n",
        "chain.toml": b"levels = [8, 4]\n",
        "scope.toml": b'[[rules]]\nscope = "("\nflat = true\n',
        "extends.toml": b'extends = "defualt"\n',
        "binary.toml": b"\xff\xfe",
        "nocycles.toml": b"sram_bytes = 5\n",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    profile = (firmware_sim.board.PROFILES / f"{BOARD}.toml").read_text()
    (folder / "typo.toml").write_text(profile.replace("clock_hz", "clok_hz"))
    (folder / "folder").mkdir()
    with np.load(files.data) as arrays:
        x, y = arrays["x"], arrays["y"]
    nan = x.copy()
    nan[3, 0, 0, 0] = np.nan
    arrays = {
        "shape": {"x": x[:, :4]},
        "key": {"images": x},
        "integers": {"x": x.astype(np.uint8)},
        "text": {"x": np.array(["a", "b"])},
        "none": {"x": x[:0]},
        "nan": {"x": nan},
        "labels": {"x": x, "y": y + 100},
        "negative": {"x": x, "y": -y - 1},
        "onehot": {"x": x, "y": np.eye(10)[y]},
        "few": {"x": x, "y": y[:5]},
    }
    for name, content in arrays.items():
        np.savez(folder / f"{name}.npz", **content)
    np.savez(folder / "objects.npz", x=np.array([{}], dtype=object))
    return folder


#: command line -> (exit code, part of the message); {bad} is the folder, {...} are fields of `Files`.
MODELS = {
    "convert {bad}/missing.tflite": (1, "missing.tflite: no such file"),
    "convert {bad}/empty.tflite": (1, "not a TensorFlow Lite file: it has 0 bytes"),
    "convert {bad}/picture.tflite": (1, "not a TensorFlow Lite file: bytes 4 to 8 are"),
    "convert {bad}/cut.tflite": (1, "cut.tflite: corrupt flatbuffer"),
    "convert {bad}/cut.h5": (1, "cut.h5: is not a Keras file"),
    "convert {bad}/cut.keras": (1, "cut.keras: is not a Keras file"),
    "convert {bad}/folder": (1, "is not a SavedModel folder"),
    "convert {bad}/model.onnx": (2, "suffix '.onnx' are not read"),
    "convert {bad}/int16.tflite": (1, "uses 16-bit activations"),
    "convert {bad}/uint8.tflite": (1, "uses the older uint8 quantization"),
    "convert {bad}/dynamic.tflite": (1, "dynamic-range quantization: operator 0 (FULLY_CONNECTED)"),
    "convert {nested}": (2, "is a nested file already"),
    "inspect {bad}/missing.tflite": (1, "no such file"),
    "inspect {bad}/folder": (1, "is a folder, a file was expected"),
    "inspect {bad}/cut.tflite": (1, "corrupt flatbuffer"),
    "eval {bad}/picture.tflite --data {data}": (1, "not a TensorFlow Lite file"),
    "eval {two_inputs} --data {data}": (1, "the model has 2 inputs"),
    "eval {float} --data {data} --engine reference": (1, "the reference engine computes with integers"),
    "compare {bad}/abs.tflite {bad}/abs.tflite": (1, "ABS"),
    "compare {two_inputs} {two_inputs}": (1, "the model has 2 inputs"),
    "compare {int8} {bad}/abs.tflite --engine litert": (1, "the models can't be compared"),
    "materialize {int8} -o {bad}/out.tflite": (2, "the model is not nested"),
    "materialize {nested} --level 5 -o {bad}/out.tflite": (2, "the model has no level 5"),
    "simulate {two_inputs} --board nrf52840 --data {data}": (1, "the model has 2 inputs"),
}
DATA = {
    "convert {float}": (2, "a float model needs calibration data"),
    "convert {float} --calibration {bad}/missing.npz": (1, "missing.npz: no such file"),
    "convert {float} --calibration {bad}/cut.npz": (1, "cut.npz: cannot be read"),
    "convert {float} --calibration {int8}": (1, "neither an .npz nor an .npy file"),
    "convert {float} --calibration {bad}/shape.npz": (1, "a sample has shape [4, 8, 3]"),
    "convert {int8} --calibration {bad}/shape.npz": (1, "a sample has shape [4, 8, 3]"),
    "convert {float} --calibration {bad}/key.npz": (1, "has no array named 'x'; its keys: images"),
    "convert {float} --calibration {bad}/integers.npz": (1, "x has type uint8"),
    "convert {float} --calibration {bad}/text.npz": (1, "x has type <U1"),
    "convert {float} --calibration {bad}/none.npz": (1, "no samples"),
    "convert {float} --calibration {bad}/nan.npz": (1, "sample 3 of x holds NaN or infinity"),
    "convert {float} --calibration {bad}/objects.npz": (1, "holds Python objects"),
    "eval {nested} --data {bad}/labels.npz": (1, "the labels lie in 100..109"),
    "eval {nested} --data {bad}/negative.npz": (1, "the labels lie in -10..-1"),
    "eval {nested} --data {bad}/onehot.npz": (1, "y has shape [40, 10]"),
    "eval {nested} --data {bad}/few.npz": (1, "x has 40 samples and y has 5"),
    "eval {nested} --data {bad}/integers.npz": (1, "x has type uint8, the model's input is int8"),
    "eval {nested} --data {data} --limit 0": (2, "at least 1 sample is needed"),
    "simulate {nested} --board nrf52840 --data {bad}/shape.npz": (1, "a sample has shape [4, 8, 3]"),
    "compare {int8} {int8} --limit 0": (2, "at least 1 sample is needed"),
}
OPTIONS = {
    "convert {int8} --recipe {bad}/syntax.toml": (2, "syntax.toml: not TOML"),
    "convert {int8} --recipe {bad}/key.toml": (2, "unknown key 'level'"),
    "convert {int8} --recipe {bad}/chain.toml": (2, "levels 8,4 do not increase"),
    "convert {int8} --recipe {bad}/scope.toml": (2, "no regular expression"),
    "convert {int8} --recipe {bad}/extends.toml": (2, "which is no preset"),
    "convert {int8} --recipe {bad}/binary.toml": (2, "a recipe is UTF-8 text"),
    "convert {int8} --recipe {bad}/missing.toml": (2, "missing.toml: no such file"),
    "convert {int8} --recipe defalt": (2, "did you mean default?"),
    "convert {int8} --levels 8,4": (2, "levels 8,4 do not increase; give for example 4,6,8"),
    "convert {int8} --levels 4,9": (2, "are not all within 1..8"),
    "convert {int8} --levels a,b": (2, "'a,b' is no list of bit-widths"),
    "convert {int8} --levels ,": (2, "',' is no list of bit-widths"),
    "convert {int8} --scheme best": (2, "'best' is not one of 'bucket', 'compensated'"),
    "convert {int8} --rounding up": (2, "'up' is not one of 'truncate'"),
    "convert {int8} --rounding nearest": (2, "rounding 'nearest' does not fit the scheme bucket"),
    "convert {int8} --seed -1": (2, "-1 is not in the range x>=0"),
    "convert": (2, "missing argument 'SOURCE'"),
    "inspect {int8} {int8}": (2, "unexpected extra argument"),
    "eval {nested} --dta {data}": (2, "no such option '--dta'"),
    "eval {nested} --data {data} --level 5": (2, "the model has no level 5"),
    "eval {nested} --data {data} --level high": (2, "level 'high' is no number"),
    "eval {int8} --data {data} --level 4": (2, "the model has no level 4"),
    "compare {nested} {int8} --level-a 5": (2, "the model has no level 5"),
    "compare {nested} {int8} --level-b 4": (2, "the model has no level 4"),
    "inspect {int8} --sram 8KiB": (2, "--sram and --flash change a board"),
    "inspect {int8} --board nrf52840 --sram 5x": (2, "'5x' is not a size"),
    "inspect {int8} --board nrf52840 --sram 0": (2, "the size '0' is 0 bytes"),
    "inspect {int8} --board nrf": (2, "there is no board 'nrf'"),
    "inspect {int8} --board {bad}/nocycles.toml": (2, "has no table [cycles]"),
    "inspect {int8} --board {bad}/typo.toml": (2, "did you mean 'clock_hz'?"),
    "inspect {int8} --board {bad}/syntax.toml": (2, "is not valid TOML"),
    "boards nrf": (2, "there is no board 'nrf'"),
    "simulate {nested}": (2, "missing option '--board'"),
    "simulate {nested} --board nrf52840 --level 5": (2, "the model has no level 5"),
    "simulate {nested} --board nrf52840 --level 4 --schedule 4@0": (2, "a level and a schedule were given"),
    "simulate {nested} --board nrf52840 --schedule 4": (2, "'4' in the schedule '4'"),
    "simulate {nested} --board nrf52840 --schedule 4@5": (2, "starts at inference 5"),
    "simulate {nested} --board nrf52840 --schedule 4@0,5@3": (2, "the model has no level 5"),
    "simulate {nested} --board nrf52840 --schedule 4@0,8@0": (2, "8@0 does not come after 4@0"),
    "simulate {nested} --board nrf52840 --schedule 4@0,8@9 --runs 5": (2, "only 5 are run"),
    "simulate {nested} --board nrf52840 --runs 0": (2, "0 inferences were asked for"),
    "simulate {nested} --board nrf52840 --pages disk": (2, "'disk' is not one of"),
    "conver {int8}": (2, "did you mean convert?"),
    "flash {int8}": (2, "is no firmware that tflnest made"),
    "upload {int8}": (2, "there is no verb 'upload'"),
    "--frobnicate": (2, "no such option '--frobnicate'"),
    "completion tcsh": (2, "'tcsh' is not one of"),
}
OUTPUT = {
    "convert {int8} -o {bad}/exists.tflite": (2, "exists already"),
    "convert {int8} -o {bad}/no/out.tflite": (2, "does not exist"),
    "convert {int8} -o {bad}/folder": (2, "is a folder, a file name was expected"),
    "convert {int8} -o {bad}/folder --force": (2, "is a folder, a file name was expected"),
    "materialize {nested} -o {bad}/exists.tflite": (2, "exists already"),
    "simulate {nested} --board nrf52840 --trace {bad}/exists.tflite": (2, "exists already"),
    "simulate {nested} --board nrf52840 --plot {bad}/no/plot.png": (2, "does not exist"),
}
FIT = {
    "simulate {nested} --board nrf52840 --sram 3KiB": (5, "bytes of SRAM"),
    "simulate {nested} --board nrf52840 --flash 17KiB": (5, "bytes of flash"),
    "simulate {int8} --board nrf52840 --flash 17KiB": (5, "short by"),
}
CASES = MODELS | DATA | OPTIONS | OUTPUT | FIT


@pytest.mark.parametrize("line", CASES)
def test_says_what_is_wrong(line, files, bad, call):
    code, message = CASES[line]
    words = [word.format(bad=bad, **vars(files)) for word in line.split()]
    if words[0] == "convert" and "-o" not in words:
        words += ["-o", str(bad / "out.tflite")]
    before = sorted(bad.rglob("*"))
    done = call(*words)
    assert message in done.err
    assert done.code == code
    assert done.out == ""
    assert "internal error" not in done.err and "Traceback" not in done.err
    assert [line.split(":")[0] for line in done.err.splitlines()] in (["error"], ["error", "hint"])
    assert sorted(bad.rglob("*")) == before
    assert (bad / "exists.tflite").read_bytes() == b"precious"


@pytest.mark.parametrize(
    ("line", "code", "kind"),
    [
        ("inspect {bad}/missing.tflite --format json", 1, "FormatError"),
        ("inspect --format=json", 2, "UsageError"),
        ("conver --format json", 2, "UsageError"),
        ("inspect {int8} --format json --board nrf", 2, "UsageError"),
    ],
)
def test_errors_in_json(line, code, kind, files, bad, call):
    done = call(*(word.format(bad=bad, **vars(files)) for word in line.split()))
    assert done.code == code and done.out == ""
    assert done.error["type"] == kind and done.error["exit_code"] == code
    assert done.error["message"] and set(done.error) == {"type", "message", "hint", "exit_code"}


def test_what_does_not_fit_has_its_numbers_in_json(files, call):
    words = ["simulate", files.nested, "--board", BOARD, "--sram", "3KiB", "--format", "json"]
    done = call(*words)
    assert done.code == 5 and done.out == ""
    error = done.error
    assert error["type"] == "DoesNotFitError" and error["memory"] == "sram"
    assert error["needed_bytes"] > error["available_bytes"] == 3072
    assert isinstance(error["operator"], int)
    short = error["needed_bytes"] - error["available_bytes"]
    assert f"short by {short:,} bytes" in error["message"]
    assert error["hint"].startswith("this would fit: ")


def test_a_difference_is_a_result_and_an_error(files, call):
    done = call("compare", files.nested, files.int8, "--level-a", 4, "--exact", "--format", "json")
    assert done.code == 4
    assert done.json["bit_exact"] is False and done.json["first_difference"]["output"] == 0
    assert done.error["type"] == "VerificationError"


def test_an_interrupt_gives_130(files, call, monkeypatch, tmp_path):
    def interrupted(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("tflnest.files.os.fsync", interrupted)
    done = call("convert", files.int8, "-o", tmp_path / "out.tflite", "-q")
    assert done.code == 130 and done.err.strip() == "error: interrupted" and done.out == ""
    assert list(tmp_path.iterdir()) == []
    done = call("convert", files.int8, "-o", tmp_path / "out.tflite", "--format", "json")
    assert done.code == 130 and done.error["type"] == "StoppedError"


@pytest.mark.parametrize("error", [ValueError("strange"), RecursionError("deep")])
def test_a_bug_of_ours_is_called_one(error, files, call, monkeypatch):
    def fail(*_args, **_options):
        raise error

    monkeypatch.setattr("firmware_sim.inspection.inspect", fail)
    done = call("inspect", files.int8)
    assert done.code == 1 and f"error: internal error: {type(error).__name__}" in done.err
    assert "Traceback" not in done.err and "TFLNEST_DEBUG=1" in done.err
    monkeypatch.setenv("TFLNEST_DEBUG", "1")
    assert "Traceback" in call("inspect", files.int8).err


def test_too_little_memory_is_said(files, call, monkeypatch):
    def fail(*_args, **_options):
        raise MemoryError

    monkeypatch.setattr("firmware_sim.inspection.inspect", fail)
    done = call("inspect", files.int8)
    assert done.code == 1 and "error: not enough memory" in done.err


def test_errors_on_stderr_are_valid_json_for_any_path(call):
    done = call("inspect", 'no "such"\n\\file', "--format", "json")
    assert 'no "such"\n\\file' in json.loads(done.err)["error"]["message"]
