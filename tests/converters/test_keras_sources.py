"""Sources that need TensorFlow; models are built here, so that no file ties the tests to a Keras version."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from converters.folding import fix_batch
from converters.quantization import quantize
from converters.sources import SourceKind, load_source
from tests.shared import ROOT
from tflnest.dataset import Dataset
from tflnest.errors import FormatError, UnsupportedError
from tflnest.model import Model
from tflnest.schema import runtime

pytestmark = [
    pytest.mark.keras,
    pytest.mark.skipif(
        importlib.util.find_spec("tensorflow") is None, reason="the keras extra is not installed"
    ),
]


@pytest.fixture(scope="module")
def keras():
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import keras

    return keras


@pytest.fixture(scope="module")
def network(keras):
    """A small CNN with what folding and quantization must deal with: batch norm, depthwise, flatten."""
    keras.utils.set_random_seed(1)
    layers = keras.layers
    x = image = keras.Input((8, 8, 2), name="image")
    x = layers.Conv2D(6, 3, padding="same", use_bias=False, name="stem")(x)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU()(x)
    x = layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = layers.Dropout(0.5)(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(5, activation="softmax", name="head")(x)
    return keras.Model(image, x, name="tiny")


def outputs(model, x):
    interpreter = runtime().Interpreter(model_content=model.to_bytes())
    interpreter.allocate_tensors()
    rows = []
    for sample in x:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], sample[np.newaxis])
        interpreter.invoke()
        rows.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])
    return np.array(rows)


def samples(count=6):
    return np.random.default_rng(2).normal(size=(count, 8, 8, 2)).astype(np.float32)


def check(source, network, kind=SourceKind.KERAS):
    """The source computes what the Keras model does, for one sample at a time, without shape arithmetic."""
    model = fix_batch(source.model)
    main = model.graph.main
    assert source.kind is kind and source.is_float
    assert main.input_tensors()[0].shape == (1, 8, 8, 2)
    assert not {"SHAPE", "STRIDED_SLICE", "PACK"} & {item.name for item in main.operators}
    x = samples()
    assert outputs(model, x) == pytest.approx(network.predict(x, verbose=0), abs=1e-5)


@pytest.mark.parametrize("name", ["model.keras", "model.h5", "model.hdf5"])
def test_keras_files(tmp_path, network, name):
    if name.endswith("hdf5"):
        network.save(tmp_path / "model.h5")
        (tmp_path / "model.h5").rename(tmp_path / name)
    else:
        network.save(tmp_path / name)
    check(load_source(tmp_path / name), network)


def test_saved_model_folders(tmp_path, network):
    network.export(tmp_path / "exported", verbose=False)
    source = load_source(tmp_path / "exported")
    assert source.notes == ()
    check(source, network, SourceKind.SAVED_MODEL)


def test_a_file_converted_for_any_batch_is_folded(tmp_path, network):
    import tensorflow as tf

    content = tf.lite.TFLiteConverter.from_keras_model(network).convert()
    (tmp_path / "model.tflite").write_bytes(content)
    source = load_source(tmp_path / "model.tflite")
    assert "SHAPE" in {item.name for item in source.model.graph.main.operators}
    check(source, network, SourceKind.FLOAT_TFLITE)


def test_reading_twice_gives_the_same_bytes(tmp_path, network):
    network.save(tmp_path / "model.keras")
    first, second = (load_source(tmp_path / "model.keras").model.to_bytes() for _ in range(2))
    assert first == second


def test_the_whole_way_to_int8(tmp_path, network):
    network.save(tmp_path / "model.keras")
    result = quantize(load_source(tmp_path / "model.keras").model, Dataset(samples(32)))
    assert len(result.weights) == 3
    quantized = result.model.graph.main
    x = Dataset(samples()).inputs_for(quantized.input_tensors()[0])
    real = (outputs(result.model, x).astype(np.float64) + 128) / 256
    assert np.abs(real - network.predict(samples(), verbose=0)).max() < 0.05


def edit_configuration(path, change):
    import h5py

    with h5py.File(path, "r+") as file:
        configuration = json.loads(file.attrs["model_config"])
        for layer in configuration["config"]["layers"]:
            change(layer)
        file.attrs["model_config"] = json.dumps(configuration)


def test_options_of_older_keras_without_effect_are_left_out(tmp_path, network):
    path = tmp_path / "model.h5"
    network.save(path)
    before = path.read_bytes()

    def older(layer):
        if layer["class_name"] == "DepthwiseConv2D":
            layer["config"]["groups"] = 1

    edit_configuration(path, older)
    edited = path.read_bytes()
    source = load_source(path)
    assert source.notes == ("left out, without effect on inference: DepthwiseConv2D.groups",)
    assert path.read_bytes() == edited != before
    check(source, network)


def test_options_of_older_keras_with_an_effect_are_refused(tmp_path, network):
    path = tmp_path / "model.h5"
    network.save(path)

    def older(layer):
        if layer["class_name"] == "DepthwiseConv2D":
            layer["config"]["groups"] = 2

    edit_configuration(path, older)
    with pytest.raises(UnsupportedError, match=r"layer 'depthwise' \(DepthwiseConv2D\) has groups=2"):
        load_source(path)


def test_unknown_layers_are_named(tmp_path, network):
    path = tmp_path / "model.h5"
    network.save(path)

    def foreign(layer):
        if layer["class_name"] == "DepthwiseConv2D":
            layer["class_name"] = "HomeGrown"

    edit_configuration(path, foreign)
    with pytest.raises(UnsupportedError, match="HomeGrown") as caught:
        load_source(path)
    assert "SavedModel" in caught.value.hint


def test_weights_without_architecture(tmp_path, network):
    network.save_weights(tmp_path / "model.weights.h5")
    with pytest.raises(FormatError, match="holds weights and no architecture"):
        load_source(tmp_path / "model.weights.h5")


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.99])
def test_files_cut_short(tmp_path, network, name, share):
    path = tmp_path / name
    network.save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(FormatError, match=str(path)):
        load_source(path)


def test_archives_that_are_no_models(tmp_path):
    np.savez(tmp_path / "data.npz", x=np.zeros(3))
    (tmp_path / "data.npz").rename(tmp_path / "model.keras")
    with pytest.raises(FormatError, match=r"it has no config.json and no model.weights.h5"):
        load_source(tmp_path / "model.keras")


def test_a_broken_saved_model(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"\xff" * 40)
    with pytest.raises(FormatError, match="TensorFlow cannot read the SavedModel"):
        load_source(tmp_path)


def test_unknown_dimensions(tmp_path, keras):
    image = keras.Input((None, None, 3), name="image")
    keras.Model(image, keras.layers.Conv2D(2, 3)(image)).save(tmp_path / "model.keras")
    with pytest.raises(UnsupportedError, match=r"input 'image' has shape \[None, None, None, 3\]"):
        load_source(tmp_path / "model.keras")


def test_operators_without_counterpart(tmp_path, keras):
    x = keras.Input((4, 4), name="x")
    keras.Model(x, keras.ops.det(x)).save(tmp_path / "model.keras")
    with pytest.raises(UnsupportedError, match=r"no TFLite operator for .*Determinant"):
        load_source(tmp_path / "model.keras")


def test_several_signatures(tmp_path):
    import tensorflow as tf

    class Twice(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
        def double(self, x):
            return {"y": 2.0 * x}

    module = Twice()
    concrete = module.double.get_concrete_function()
    tf.saved_model.save(module, str(tmp_path / "two"), signatures={"a": concrete, "b": concrete})
    tf.saved_model.save(module, str(tmp_path / "one"), signatures={"a": concrete})
    tf.saved_model.save(tf.Module(), str(tmp_path / "none"))
    with pytest.raises(UnsupportedError, match="2 signatures and none is called serving_default: a, b"):
        load_source(tmp_path / "two")
    with pytest.raises(UnsupportedError, match="has no signature"):
        load_source(tmp_path / "none")
    assert load_source(tmp_path / "one").model.graph.main.input_tensors()[0].shape == (1, 2)


def test_nothing_reaches_the_terminal(tmp_path, network):
    network.save(tmp_path / "model.keras")
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from converters.sources import load_source\n"
        "print(load_source(sys.argv[2]).kind.value)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(ROOT), str(tmp_path / "model.keras")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "keras\n"
    assert done.stderr == ""


def test_the_digits_model_is_the_one_that_tests_use_without_tensorflow():
    source = load_source(ROOT / "examples" / "digits.keras")
    stored = Model.load(ROOT / "tests" / "data" / "digits_float.tflite")
    x = np.random.default_rng(0).random((8, 8, 8, 1)).astype(np.float32)
    assert outputs(fix_batch(source.model), x) == pytest.approx(outputs(stored, x), abs=1e-5)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "shape"), [("pretrainedResnet", (32, 32, 3)), ("vww_96", (96, 96, 3)), ("ad01", (640,))]
)
def test_keras_2_files(shared_models, name, shape):
    model = fix_batch(load_source(shared_models / f"{name}.h5").model)
    assert model.graph.main.input_tensors()[0].shape == (1, *shape)
    known = {"pretrainedResnet": "pretrainedResnet.tflite", "vww_96": "vww_96_float.tflite"}.get(name)
    if known is not None:
        x = np.random.default_rng(0).random((3, *shape)).astype(np.float32)
        assert outputs(model, x) == pytest.approx(outputs(Model.load(shared_models / known), x), abs=1e-4)
