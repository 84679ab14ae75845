from __future__ import annotations

import importlib

import numpy as np
import pytest

from converters.sources import SourceKind, load_source
from tests.shared import ROOT
from tests.single_operator import GraphBuilder
from tflnest.errors import FormatError, MissingExtraError, UnsupportedError, UsageError

ROW = (1, 4)


def write(tmp_path, graph, outputs):
    path = tmp_path / "model.tflite"
    path.write_bytes(graph.build(outputs))
    return path


def relu(type_name, scale):
    graph = GraphBuilder()
    x, y = graph.input(ROW, type_name, scale), graph.tensor(ROW, type_name, scale)
    graph.operator("RELU", [x], [y])
    return graph, [y]


@pytest.mark.parametrize(
    ("type_name", "scale", "kind"),
    [("FLOAT32", None, SourceKind.FLOAT_TFLITE), ("INT8", 0.5, SourceKind.INT8_TFLITE)],
)
def test_kind_of_tflite_files(tmp_path, type_name, scale, kind):
    path = write(tmp_path, *relu(type_name, scale))
    source = load_source(path)
    assert source.kind is kind and source.is_float is (type_name == "FLOAT32")
    assert source.path == path and source.notes == ()
    assert source.model.to_bytes() == path.read_bytes()


def test_int8_with_float_inputs_is_int8(tmp_path):
    graph = GraphBuilder()
    x, y = graph.input(ROW, "FLOAT32"), graph.tensor(ROW, "FLOAT32")
    a, b = graph.tensor(ROW, "INT8", 0.5), graph.tensor(ROW, "INT8", 0.5)
    graph.operator("QUANTIZE", [x], [a])
    graph.operator("RELU", [a], [b])
    graph.operator("DEQUANTIZE", [b], [y])
    assert load_source(write(tmp_path, graph, [y])).kind is SourceKind.INT8_TFLITE


def refusal(path, error):
    with pytest.raises(error) as caught:
        load_source(path)
    assert str(path) in caught.value.message and caught.value.hint
    return caught.value.message


@pytest.mark.parametrize(
    ("type_name", "message"), [("UINT8", "older uint8 quantization"), ("INT16", "16-bit activations")]
)
def test_other_quantizations(tmp_path, type_name, message):
    assert message in refusal(write(tmp_path, *relu(type_name, 0.5)), UnsupportedError)


def test_float16_weights(tmp_path):
    graph = GraphBuilder()
    x, y, wide = graph.input(ROW, "FLOAT32"), graph.tensor(ROW, "FLOAT32"), graph.tensor(ROW, "FLOAT32")
    graph.operator("DEQUANTIZE", [graph.constant(np.zeros(ROW, np.float16))], [wide])
    graph.operator("ADD", [x, wide], [y])
    assert "its weights are float16" in refusal(write(tmp_path, graph, [y]), UnsupportedError)


def test_dynamic_range(tmp_path):
    graph = GraphBuilder()
    x, y = graph.input(ROW, "FLOAT32"), graph.tensor((1, 2), "FLOAT32")
    graph.operator("FULLY_CONNECTED", [x, graph.constant(np.ones((2, 4), np.int8), scale=0.1), -1], [y])
    message = refusal(write(tmp_path, graph, [y]), UnsupportedError)
    assert "dynamic-range quantization: operator 0 (FULLY_CONNECTED)" in message


def test_neither_float_nor_int8(tmp_path):
    graph = GraphBuilder()
    x, y = graph.input(ROW, "INT32"), graph.tensor(ROW, "INT32")
    graph.operator("ADD", [x, x], [y])
    assert "neither float nor int8; the types of its activations: INT32" in refusal(
        write(tmp_path, graph, [y]), UnsupportedError
    )


def test_corrupt_tflite(tmp_path):
    path = write(tmp_path, *relu("INT8", 0.5))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(FormatError, match=str(path)):
        load_source(path)


def test_missing_files_foreign_suffixes_and_plain_folders(tmp_path):
    with pytest.raises(FormatError, match="no such file or folder"):
        load_source(tmp_path / "none.keras")
    (tmp_path / "model.onnx").write_bytes(b"x")
    assert "suffix '.onnx'" in refusal(tmp_path / "model.onnx", UsageError)
    assert "it has no saved_model.pb" in refusal(tmp_path, FormatError)


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x89HDF", b"not a model at all"])
def test_files_that_are_no_keras_models(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert "is not a Keras file" in refusal(tmp_path / name, FormatError)


def test_a_missing_tensorflow_names_the_extra(monkeypatch):
    real = importlib.import_module

    def without_tensorflow(name, *rest):
        if name == "tensorflow":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr("tflnest.schema.importlib.import_module", without_tensorflow)
    with pytest.raises(MissingExtraError, match=r"tflnest\[keras\]") as caught:
        load_source(ROOT / "examples" / "digits.keras")
    assert caught.value.extra == "keras" and "to read Keras models" in caught.value.message
