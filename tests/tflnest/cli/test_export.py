"""`tflnest export`."""

from __future__ import annotations

import pytest

from tests.models import everything, nested
from tests.tflnest.cli.conftest import wide_network
from tflnest.model import Model


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A nested model whose filters are large enough for everything."""
    path = tmp_path_factory.mktemp("wide") / "wide.tflite"
    nested(wide_network(), everything((4, 6, 8))).save(path)
    return path


def test_lookup_tables_say_what_they_take_and_what_stayed(wide, call, tmp_path):
    target = tmp_path / "six.tflite"
    done = call("export", wide, "--for", "tflm-lut", "--level", 6, "-o", target)
    assert done.code == 0, done.err
    assert "4 of 4 as lookup tables" in done.out and "with AddDecode()" in done.out
    names = {item.name for item in Model.load(target).graph.main.operators}
    assert "TFLM_DECODE" in names
    document = call(
        "export", wide, "--for", "tflm-lut", "--level", 6, "-f", "-o", target, "--format=json"
    ).json
    assert document["bytes"] == target.stat().st_size
    assert document["decoded_bytes"] == 128 * 128 * 9
    assert document["head_bytes"] >= document["decoded_bytes"] > document["int8_head_bytes"]
    assert [item["index_bits"] for item in document["filters"]] == [6] * 4
    assert document["bytes"] < 0.8 * document["int8_bytes"]


def test_filters_that_stay_int8_are_named(files, call, tmp_path):
    """The small network's depthwise filter is too small to gain anything."""
    done = call("export", files.nested, "--for", "tflm-lut", "--level", 4, "-o", tmp_path / "four.tflite")
    assert done.code == 0, done.err
    assert "(DEPTHWISE_CONV_2D) depthwise/weights stays int8: too small to gain" in done.err


def test_planes_say_what_they_take(wide, call, tmp_path):
    target = tmp_path / "decoded.tflite"
    done = call("export", wide, "--for", "tflm-decode", "-o", target)
    assert done.code == 0, done.err
    assert "4, 6, 8; 8 unless the application chooses" in done.out
    assert "4 are decoded, 0 with a bias of each level" in done.out and "tflnest_tflm_decode.h" in done.out
    document = call(
        "export", wide, "--for", "tflm-decode", "--level", 6, "-f", "-o", target, "--format=json"
    ).json  # fmt: skip
    assert document["levels"] == [4, 6] and document["level"] == 6 and document["target"] == "tflm-decode"
    assert document["bytes"] == target.stat().st_size and document["decoded_bytes"] == 128 * 128 * 9
    assert document["head_bytes"] >= document["decoded_bytes"] > document["int8_head_bytes"]
    same = call("compare", target, wide, "--level-b", 6, "--exact", "--limit", 3)
    assert same.code == 0, same.err


def test_int4_tells_of_every_filter_and_of_agreement(files, wide, call, tmp_path):
    target = tmp_path / "int4.tflite"
    done = call("export", wide, "--for", "int4", "--data", files.data, "-o", target)
    assert done.code == 0, done.err
    assert "rounded" in done.out and "of 40 samples" in done.out
    assert "INT4 has no code for the middle of a bucket" in done.err
    document = call(
        "export", wide, "--for", "int4", "--data", files.data, "--limit", 10, "-f", "-o", target, "--format=json"
    ).json  # fmt: skip
    assert document["samples"] == 10 and 0 <= document["agreement"] <= 1
    assert document["bytes"] == target.stat().st_size < document["int8_bytes"]
    assert {item["form"] for item in document["filters"]} == {"rounded"}
    graph = Model.load(target).graph.main
    assert [graph.tensors[item.inputs[1]].type for item in graph.operators if len(item.inputs) == 3] == [
        "INT4"
    ] * 4
    blind = call("export", wide, "--for", "int4", "-f", "-o", target)
    assert "synthetic inputs" in blind.out and "--data FILE corrects biases" in blind.err


def test_what_makes_no_sense_is_refused_before_work(files, wide, call, tmp_path):
    target = tmp_path / "out.tflite"
    done = call("export", wide, "--for", "tflm-lut", "--data", files.data, "-o", target)
    assert done.code == 2 and "--data is of no use for tflm-lut" in done.err
    assert call("export", wide, "--for", "toaster", "-o", target).code == 2
    done = call("export", wide, "--for", "int4", "--level", 8, "-o", target)
    assert done.code == 1 and "no filter of level 8 can become INT4" in done.err
    done = call("export", wide, "--for", "tflm-lut", "--level", 5, "-o", target)
    assert done.code == 2 and "the model has no level 5" in done.err
    assert not target.exists()
    target.write_bytes(b"mine")
    done = call("export", wide, "--for", "tflm-lut", "--level", 4, "-o", target)
    assert done.code == 2 and "exists already" in done.err
    assert target.read_bytes() == b"mine"


def test_a_library_says_what_it_takes(files, call, tmp_path):
    target = tmp_path / "library"
    done = call("export", files.nested, "--for", "zephyr", "--pages", "host", "-o", target)
    assert done.code == 0, done.err
    assert "nested for zephyr: the model as C" in done.out and "SRAM: an arena of" in done.out
    assert (target / "zephyr" / "module.yml").is_file()
    done = call("export", files.nested, "--for", "arduino", "--name", "net", "-o", target)
    assert done.code == 2 and "exists already" in done.err
    document = call(
        "export", files.nested, "--for", "arduino", "--contents", "tflm", "-f", "-o", target, "--format=json"
    ).json  # fmt: skip
    assert document["contents"] == "tflm" and document["levels"] == [4, 6, 8]
    assert (
        sorted(path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file())
        == (document["files"])
    )
    done = call("export", files.nested, "--for", "int4", "--name", "net", "-o", tmp_path / "x.tflite")
    assert done.code == 2 and "it is for cmake, arduino, esp-idf, zephyr" in done.err
