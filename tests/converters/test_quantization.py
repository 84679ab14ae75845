from __future__ import annotations

import io

import numpy as np
import pytest

from converters.affine import UNIT
from converters.quantization import quantizable_operators, quantize
from tests.shared import ROOT
from tests.single_operator import GraphBuilder
from tflnest.dataset import Dataset
from tflnest.errors import FormatError, UnsupportedError
from tflnest.interpreter import Interpreter
from tflnest.kernels import supported_operators
from tflnest.model import Model
from tflnest.schema import runtime

CLAMP = {"fused_activation_function": "NONE"}
WINDOW = {"padding": "VALID", "stride_w": 2, "stride_h": 2, "filter_width": 2, "filter_height": 2} | CLAMP
STRIDE = {"padding": "SAME", "stride_w": 1, "stride_h": 1}
CONV = STRIDE | {"dilation_w_factor": 1, "dilation_h_factor": 1} | CLAMP

X = (1, 4, 4, 6)
ROW = (1, 6)


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def integers(*values):
    return np.array(values, np.int32)


#: name -> (input shape, constants by input position, position of the activation, output shapes, options)
CASES = {
    "ADD": (X, {1: random(1, 1, 1, 6)}, 0, [X], CLAMP),
    "ARG_MAX": (ROW, {1: integers(1)}, 0, [(1,)], {"output_type": 2}),
    "AVERAGE_POOL_2D": (X, {}, 0, [(1, 2, 2, 6)], WINDOW),
    "CONCATENATION": (X, {1: random(1, 4, 4, 2)}, 0, [(1, 4, 4, 8)], {"axis": 3} | CLAMP),
    "CONV_2D": (X, {1: random(5, 3, 3, 6), 2: random(5)}, 0, [(1, 4, 4, 5)], CONV),
    "DEPTHWISE_CONV_2D": (
        X,
        {1: random(1, 3, 3, 12), 2: random(12)},
        0,
        [(1, 4, 4, 12)],
        CONV | {"depth_multiplier": 2},
    ),
    "EXPAND_DIMS": (ROW, {1: integers(1)}, 0, [(1, 1, 6)], {}),
    "FULLY_CONNECTED": (ROW, {1: random(5, 6), 2: random(5)}, 0, [(1, 5)], CLAMP),
    "HARD_SWISH": (X, {}, 0, [X], {}),
    "L2_NORMALIZATION": (X, {}, 0, [X], CLAMP),
    "LEAKY_RELU": (X, {}, 0, [X], {"alpha": 0.1}),
    "LOGISTIC": (X, {}, 0, [X], {}),
    "MAXIMUM": (X, {1: random(1, 1, 1, 6)}, 0, [X], {}),
    "MAX_POOL_2D": (X, {}, 0, [(1, 2, 2, 6)], WINDOW),
    "MEAN": (X, {1: integers(1, 2)}, 0, [(1, 1, 1, 6)], {"keep_dims": True}),
    "MINIMUM": (X, {1: random(1, 1, 1, 6)}, 0, [X], {}),
    "MUL": (X, {1: random(1, 1, 1, 6)}, 0, [X], CLAMP),
    "PACK": (ROW, {1: random(1, 6)}, 0, [(2, 1, 6)], {"values_count": 2, "axis": 0}),
    "PAD": (X, {1: np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32)}, 0, [(1, 6, 6, 6)], {}),
    "PADV2": (
        X,
        {1: np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32), 2: np.array(2.5, np.float32)},
        0,
        [(1, 6, 6, 6)],
        {},
    ),
    "PRELU": (X, {1: np.abs(random(1, 1, 6))}, 0, [X], {}),
    "RELU": (X, {}, 0, [X], {}),
    "RELU6": (X, {}, 0, [X], {}),
    "RESHAPE": (X, {1: integers(1, 96)}, 0, [(1, 96)], {}),
    "RESIZE_BILINEAR": (X, {1: integers(8, 8)}, 0, [(1, 8, 8, 6)], {"half_pixel_centers": True}),
    "RESIZE_NEAREST_NEIGHBOR": (X, {1: integers(8, 8)}, 0, [(1, 8, 8, 6)], {}),
    "SLICE": (X, {1: integers(0, 1, 1, 0), 2: integers(1, 2, 2, 6)}, 0, [(1, 2, 2, 6)], {}),
    "SOFTMAX": (ROW, {}, 0, [ROW], {"beta": 1.0}),
    "SPLIT": (X, {0: np.int32(3)}, 1, [(1, 4, 4, 3), (1, 4, 4, 3)], {"num_splits": 2}),
    "SPLIT_V": (X, {1: integers(2, 4), 2: np.int32(3)}, 0, [(1, 4, 4, 2), (1, 4, 4, 4)], {"num_splits": 2}),
    "SQUEEZE": ((1, 1, 6), {}, 0, [ROW], {"squeeze_dims": [1]}),
    "STRIDED_SLICE": (
        X,
        {1: integers(0, 0, 1, 0), 2: integers(1, 4, 4, 6), 3: integers(1, 2, 1, 1)},
        0,
        [(1, 2, 3, 6)],
        {},
    ),
    "SUB": (X, {1: random(1, 1, 1, 6)}, 0, [X], CLAMP),
    "SUM": (X, {1: integers(1, 2)}, 0, [(1, 6)], {}),
    "TANH": (X, {}, 0, [X], {}),
    "TRANSPOSE": (X, {1: integers(0, 3, 1, 2)}, 0, [(1, 6, 4, 4)], {}),
    "TRANSPOSE_CONV": (
        X,
        {0: integers(1, 8, 8, 5), 1: random(5, 3, 3, 6), 3: random(5)},
        2,
        [(1, 8, 8, 5)],
        {"padding": "SAME", "stride_w": 2, "stride_h": 2} | CLAMP,
    ),
    "UNPACK": ((1, 2, 6), {}, 0, [ROW, ROW], {"num": 2, "axis": 1}),
}


def single(name):
    """A float model of one operator."""
    shape, constants, position, outputs, options = CASES[name]
    graph = GraphBuilder()
    inputs = {position: graph.input(shape, "FLOAT32")}
    inputs |= {at: graph.constant(values) for at, values in constants.items()}
    kind = "INT32" if name == "ARG_MAX" else "FLOAT32"
    results = [graph.tensor(output, kind) for output in outputs]
    version = 3 if name == "TRANSPOSE_CONV" else 1
    graph.operator(name, [inputs[at] for at in sorted(inputs)], results, version, **options)
    return Model.from_bytes(graph.build(results)), Dataset(2 * random(16, *shape[1:], seed=1))


def real(values, quantization):
    scale, zero_point = quantization
    return values.astype(np.float64) if scale == 0 else (values.astype(np.float64) - zero_point) * scale


def run(interpreter, x):
    """Outputs of a stock or a reference interpreter as real numbers, and their scales."""
    interpreter.allocate_tensors()
    entry = interpreter.get_input_details()[0]
    scale, zero_point = entry["quantization"]
    if scale:
        x = np.clip(np.rint(x / scale) + zero_point, -128, 127)
    interpreter.set_tensor(entry["index"], x.astype(entry["dtype"]))
    interpreter.invoke()
    details = interpreter.get_output_details()
    return [
        (real(interpreter.get_tensor(item["index"]), item["quantization"]), item["quantization"][0])
        for item in details
    ]


def stock(model):
    lite = runtime()
    return lite.Interpreter(
        model_content=model.to_bytes(),
        experimental_op_resolver_type=lite.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )


def test_every_operator_has_a_case():
    assert set(CASES) == set(quantizable_operators()) - {"SHAPE"}
    assert set(quantizable_operators()) <= set(supported_operators())


@pytest.mark.parametrize("name", sorted(set(CASES) - {"ARG_MAX"}))
def test_single_operators_stay_within_a_few_steps_of_float(name):
    model, data = single(name)
    quantized = quantize(model, data).model
    tensors = quantized.graph.main.tensors
    assert all(item.type in ("INT8", "INT32") for item in tensors)
    for sample in data.x:
        expected = run(stock(model), sample[np.newaxis])
        ours = run(Interpreter(model_content=quantized.to_bytes()), sample[np.newaxis])
        theirs = run(stock(quantized), sample[np.newaxis])
        for (want, _), (got, scale), (reference, _) in zip(expected, ours, theirs, strict=True):
            # An input step times the gain of the operator, plus rounding of the output.
            tolerance = max(3.0 * scale, 0.06 * np.abs(want).max())
            assert np.abs(got - want).max() <= tolerance
            assert np.abs(got - reference).max() <= 1.01 * scale


def test_arg_max_finds_a_largest_value():
    model, data = single("ARG_MAX")
    quantized = quantize(model, data).model
    for sample in data.x:
        (got, _) = run(Interpreter(model_content=quantized.to_bytes()), sample[np.newaxis])[0]
        assert sample[int(got[0])] >= sample.max() - quantized.graph.main.input_tensors()[0].scale


@pytest.mark.parametrize(("name", "axis"), [("CONV_2D", 0), ("DEPTHWISE_CONV_2D", 3), ("FULLY_CONNECTED", 0)])
def test_weights_are_per_channel_and_biases_match_them(name, axis):
    model, data = single(name)
    result = quantize(model, data)
    main = result.model.graph.main
    operator = main.operators[0]
    source, weights, bias = (main.tensors[index] for index in operator.inputs)
    channels = weights.shape[axis]
    assert weights.quantization.axis == axis and weights.quantization.scale.shape == (channels,)
    assert (weights.quantization.zero_point == 0).all() and weights.data.min() >= -127
    assert bias.type == "INT32" and bias.quantization.axis == 0
    assert bias.quantization.scale == pytest.approx(source.scale * weights.quantization.scale, rel=1e-6)
    assert list(result.weights) == [weights.name]
    assert result.weights[weights.name].shape == weights.shape


def test_ranges_are_reported_by_name():
    model, data = single("RELU")
    ranges = quantize(model, data).ranges
    assert ranges["tensor_0"].low == pytest.approx(data.x.min())
    assert ranges["tensor_1"].low == 0.0 and ranges["tensor_1"].high == pytest.approx(data.x.max())


def test_same_model_and_data_give_the_same_bytes():
    model, data = single("CONV_2D")
    assert quantize(model, data).model.to_bytes() == quantize(model, data).model.to_bytes()


def test_the_source_is_not_changed():
    model, data = single("CONV_2D")
    before = model.to_bytes()
    quantize(model, data)
    assert model.to_bytes() == before and model.graph.main.tensors[0].type == "FLOAT32"


def test_shared_weights_with_different_inputs_get_biases_of_their_own():
    graph = GraphBuilder()
    x = graph.input(ROW, "FLOAT32")
    filters, bias = graph.constant(random(6, 6)), graph.constant(random(6))
    hidden, y = graph.tensor(ROW, "FLOAT32"), graph.tensor(ROW, "FLOAT32")
    graph.operator("FULLY_CONNECTED", [x, filters, bias], [hidden])
    graph.operator("FULLY_CONNECTED", [hidden, filters, bias], [y])
    main = quantize(Model.from_bytes(graph.build([y])), Dataset(random(8, 6))).model.graph.main
    first, second = main.operators
    assert first.inputs[1] == second.inputs[1]
    assert first.inputs[2] != second.inputs[2]
    assert len({tensor.name for tensor in main.tensors}) == len(main.tensors)


def test_a_requantize_is_inserted_where_a_fixed_scale_cannot_be_shared():
    graph = GraphBuilder()
    x = graph.input(X, "FLOAT32")
    gate, y = graph.tensor(X, "FLOAT32"), graph.tensor((1, 4, 4, 12), "FLOAT32")
    graph.operator("LOGISTIC", [x], [gate])
    graph.operator("CONCATENATION", [x, gate], [y], axis=3)
    model, data = Model.from_bytes(graph.build([y])), Dataset(4 * random(16, *X[1:]))
    quantized = quantize(model, data).model
    main = quantized.graph.main
    assert [item.name for item in main.operators] == ["LOGISTIC", "QUANTIZE", "CONCATENATION"]
    assert main.tensors[main.operators[0].outputs[0]].scale == UNIT.scale
    joined = main.operators[2]
    assert {main.tensors[index].quantization for index in joined.inputs} == {
        main.output_tensors()[0].quantization
    }
    (want, _), (got, scale) = (
        run(stock(model), data.x[:1])[0],
        run(Interpreter(model_content=quantized.to_bytes()), data.x[:1])[0],
    )
    assert np.abs(got - want).max() <= 2 * scale


def test_dead_channels_and_constant_inputs_still_run():
    graph = GraphBuilder()
    x, y = graph.input(ROW, "FLOAT32"), graph.tensor((1, 3), "FLOAT32")
    weights = np.zeros((3, 6), np.float32)
    weights[0] = 1.0
    graph.operator(
        "FULLY_CONNECTED", [x, graph.constant(weights), graph.constant(np.array([0, 5, 0], np.float32))], [y]
    )
    model = Model.from_bytes(graph.build([y]))
    for data in (random(4, 6), np.zeros((4, 6), np.float32)):
        quantized = quantize(model, Dataset(data)).model
        (got, scale) = run(Interpreter(model_content=quantized.to_bytes()), data[:1])[0]
        assert got[0, 1] == pytest.approx(5.0, abs=scale)


def test_missing_bias_stays_missing():
    graph = GraphBuilder()
    x, y = graph.input(ROW, "FLOAT32"), graph.tensor((1, 4), "FLOAT32")
    graph.operator("FULLY_CONNECTED", [x, graph.constant(random(4, 6)), -1], [y])
    main = quantize(Model.from_bytes(graph.build([y])), Dataset(random(4, 6))).model.graph.main
    assert main.operators[0].inputs[2] == -1


def refusal(graph, output, data):
    with pytest.raises(UnsupportedError) as caught:
        quantize(Model.from_bytes(graph.build([output])), data)
    return str(caught.value)


def test_unsupported_operators_are_named_with_their_index():
    graph = GraphBuilder()
    x, y, z = graph.input(ROW, "FLOAT32"), graph.tensor(ROW, "FLOAT32"), graph.tensor(ROW, "FLOAT32")
    graph.operator("RELU", [x], [y])
    graph.operator("EXP", [y], [z])
    message = refusal(graph, z, Dataset(random(2, 6)))
    assert "operator 1 (EXP) cannot be quantized" in message and "CONV_2D" in message


def test_fused_activations_that_int8_kernels_lack():
    graph = GraphBuilder()
    x, y = graph.input(ROW, "FLOAT32"), graph.tensor(ROW, "FLOAT32")
    graph.operator("ADD", [x, x], [y], fused_activation_function="TANH")
    assert "operator 0 (ADD) has the fused activation TANH" in refusal(graph, y, Dataset(random(2, 6)))


def test_computed_weights_are_refused():
    graph = GraphBuilder()
    x, y = graph.input((1, 6), "FLOAT32"), graph.tensor((1, 1), "FLOAT32")
    graph.operator("FULLY_CONNECTED", [x, x, -1], [y])
    assert "computes its filter" in refusal(graph, y, Dataset(random(2, 6)))


def test_weights_that_are_not_finite():
    graph = GraphBuilder()
    x, y = graph.input(ROW, "FLOAT32"), graph.tensor((1, 1), "FLOAT32")
    graph.operator("FULLY_CONNECTED", [x, graph.constant(np.full((1, 6), np.inf, np.float32)), -1], [y])
    assert "its filter holds NaN or infinity" in refusal(graph, y, Dataset(random(2, 6)))


def test_data_of_the_wrong_shape():
    model, _ = single("CONV_2D")
    with pytest.raises(FormatError, match=r"\[3, 3, 3\], the model's input takes \[4, 4, 6\]"):
        quantize(model, Dataset(random(2, 3, 3, 3)))


# -------------------------------------------------------------------------------------- whole models


def accuracy(model, x, labels):
    interpreter = runtime().Interpreter(model_content=model.to_bytes(), num_threads=1)
    interpreter.allocate_tensors()
    entry, output = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]
    samples = Dataset(x).inputs_for(model.graph.main.input_tensors()[0])
    correct = 0
    for sample, label in zip(samples, labels, strict=True):
        interpreter.set_tensor(entry, sample[np.newaxis])
        interpreter.invoke()
        correct += int(interpreter.get_tensor(output)[0].argmax() == label)
    return correct / len(labels)


def test_the_digits_model_keeps_its_accuracy():
    digits = pytest.importorskip("examples.digits", reason="scikit-learn is not installed")
    (_, _), (x, labels) = digits.load_split()
    model = Model.load(ROOT / "tests" / "data" / "digits_float.tflite")
    result = quantize(model, Dataset(*digits.calibration()))
    assert len(result.weights) == 8
    before, after = accuracy(model, x, labels), accuracy(result.model, x, labels)
    assert before >= 0.97 and after >= before - 0.01
    # The point of the example: more than the flash of a 128 KiB board.
    assert len(result.model.to_bytes()) > 128 * 1024


@pytest.mark.shared
def test_resnet8_is_as_good_as_the_published_quantization(shared_models, cifar10):
    train, (x, labels) = cifar10
    source = Model.load(shared_models / "pretrainedResnet.tflite")
    published = Model.load(shared_models / "pretrainedResnet_quant.tflite")
    quantized = quantize(source, Dataset(train)).model
    ours = accuracy(quantized, x, labels)
    assert ours >= accuracy(source, x, labels) - 0.02
    assert ours >= accuracy(published, x, labels) - 0.02
    assert len(quantized.to_bytes()) <= len(published.to_bytes())


@pytest.fixture(scope="module")
def cifar10(shared_data):
    """256 training images for calibration, 500 test images with labels; pixels as floats from 0 to 255."""
    loader = pytest.importorskip("PIL.Image", reason="pillow is not installed")

    def load(name, count):
        with np.load(shared_data / f"cifar10_{name}.npz") as packed:
            blob, offsets, labels = packed["blob"], packed["offsets"], packed["labels"]
        order = np.random.default_rng(0).permutation(len(labels))[:count]
        files = [io.BytesIO(blob[offsets[i] : offsets[i + 1]].tobytes()) for i in order]
        images = np.stack([np.asarray(loader.open(file).convert("RGB")) for file in files])
        return images.astype(np.float32), labels[order].astype(int)

    return load("train", 256)[0], load("test", 500)
