from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.single_operator import GraphBuilder
from tflnest.errors import FormatError, UnsupportedError, UsageError
from tflnest.fixedpoint import Rounding
from tflnest.interpreter import Interpreter
from tflnest.model import Model
from tflnest.quantization import quantize_for
from tflnest.schema import runtime, schema


def small_network(samples: int = 1) -> bytes:
    """A convolution, a depthwise convolution, an average pool and a dense layer on 6x6x2."""
    rng = np.random.default_rng(0)
    builder = GraphBuilder()

    def int8(*shape: int) -> NDArray[np.int8]:
        return rng.integers(-127, 128, shape).astype(np.int8)

    def values(count: int) -> NDArray[np.int32]:
        return rng.integers(-999, 999, count).astype(np.int32)

    x = builder.input((samples, 6, 6, 2), "INT8", 0.05, -3)
    a, b = (builder.tensor((samples, 6, 6, 4), "INT8", scale, zero) for scale, zero in ((0.3, 5), (0.9, -20)))
    pooled, flat = (builder.tensor(shape, "INT8", 0.9, -20) for shape in ((samples, 1, 1, 4), (samples, 4)))
    y = builder.tensor((samples, 3), "INT8", 2.0, 1)
    options = {
        "padding": "SAME",
        "stride_w": 1,
        "stride_h": 1,
        "dilation_w_factor": 1,
        "dilation_h_factor": 1,
    }
    scales = rng.uniform(0.005, 0.02, 4)
    w, bias = builder.constant(int8(4, 3, 3, 2), scales), builder.constant(values(4), 0.05 * scales)
    builder.operator("CONV_2D", [x, w, bias], [a], fused_activation_function="RELU", **options)
    w, bias = builder.constant(int8(1, 3, 3, 4), scales, axis=3), builder.constant(values(4), 0.3 * scales)
    builder.operator("DEPTHWISE_CONV_2D", [a, w, bias], [b], depth_multiplier=1, **options)
    builder.operator(
        "AVERAGE_POOL_2D",
        [b],
        [pooled],
        padding="VALID",
        stride_w=6,
        stride_h=6,
        filter_width=6,
        filter_height=6,
    )
    builder.operator("RESHAPE", [pooled, builder.constant(np.array([-1, 4], np.int32))], [flat])
    w, bias = builder.constant(int8(3, 4), 0.01), builder.constant(values(3), 0.009)
    builder.operator("FULLY_CONNECTED", [flat, w, bias], [y])
    return builder.build([y])


def samples(count: int, seed: int = 1) -> NDArray[np.int8]:
    return np.random.default_rng(seed).integers(-128, 128, (count, 6, 6, 2)).astype(np.int8)


def allocated(content: bytes | None = None) -> Interpreter:
    interpreter = Interpreter(model_content=content or small_network())
    interpreter.allocate_tensors()
    return interpreter


def invoked(interpreter: Interpreter, x: NDArray[np.int8]) -> NDArray[np.int8]:
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def test_details_are_those_of_tf_lite() -> None:
    content = small_network()
    theirs = runtime().Interpreter(model_content=content)
    ours = allocated(content)
    pairs = [
        *zip(ours.get_input_details(), theirs.get_input_details(), strict=True),
        *zip(ours.get_output_details(), theirs.get_output_details(), strict=True),
        *zip(
            ours.get_tensor_details(),
            theirs.get_tensor_details()[: len(ours.get_tensor_details())],
            strict=True,
        ),
    ]
    for mine, other in pairs:
        other["quantization_parameters"].pop("block_size", None)
        assert mine.keys() == other.keys()
        for key in ("name", "index", "dtype", "quantization", "sparsity_parameters"):
            assert mine[key] == other[key], key
        for key in ("shape", "shape_signature"):
            np.testing.assert_array_equal(mine[key], other[key], strict=True)
        for key, value in other["quantization_parameters"].items():
            np.testing.assert_array_equal(mine["quantization_parameters"][key], value)


def test_sources_of_the_model(tmp_path: Path) -> None:
    content = small_network()
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    x = samples(1)
    expected = invoked(allocated(content), x)
    for source in ({"model_path": path}, {"model_path": str(path)}, {"model": Model.from_bytes(content)}):
        np.testing.assert_array_equal(Interpreter(**source).run(x), expected)
    for sources in ({}, {"model_path": path, "model_content": content}):
        with pytest.raises(UsageError, match="exactly one of model_path, model_content and model"):
            Interpreter(**sources)


def test_invoke_and_run_agree() -> None:
    interpreter, x = allocated(), samples(7)
    expected = np.concatenate([invoked(interpreter, x[i : i + 1]) for i in range(7)])
    assert len(np.unique(expected)) > 5
    np.testing.assert_array_equal(interpreter.run(x), expected)
    np.testing.assert_array_equal(invoked(interpreter, x[:1]), expected[:1])


def test_a_fixed_batch_runs_in_its_own_steps() -> None:
    x = samples(6)
    expected = allocated().run(x)
    by_three = allocated(small_network(3))
    np.testing.assert_array_equal(by_three.run(x), expected)
    with pytest.raises(UsageError, match="takes 3 samples at a time, and got 4"):
        by_three.run(x[:4])


def test_any_number_of_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    interpreter, x = allocated(), samples(9)
    expected = interpreter.run(x)
    assert interpreter.run(x[:0]).shape == (0, 3)
    for budget in (1, 1000, 2000):
        monkeypatch.setattr("tflnest.execution.BATCH_BYTES", budget)
        np.testing.assert_array_equal(interpreter.run(x), expected)


def test_run_leaves_the_tensors_alone() -> None:
    interpreter, x = allocated(), samples(5)
    before = invoked(interpreter, x[:1])
    interpreter.run(x)
    details = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    np.testing.assert_array_equal(interpreter.get_tensor(details[0]["index"]), x[:1])
    np.testing.assert_array_equal(interpreter.get_tensor(details[1]["index"]), before)


def test_floats_are_quantized() -> None:
    interpreter, x = allocated(), samples(4)
    real = (x.astype(np.float32) + 3) * np.float32(0.05)
    np.testing.assert_array_equal(interpreter.run(real), interpreter.run(x))
    np.testing.assert_array_equal(interpreter.run(real.astype(np.float64)), interpreter.run(x))


def test_quantization_rounds_away_from_zero_and_saturates() -> None:
    detail = Model.from_bytes(small_network()).graph.main.tensors[0]
    scale = np.float32(0.05)
    values = np.array([-1000, -2.5, -1.5, -0.5, 0, 0.5, 1.5, 2.5, 1000], np.float32) * scale
    assert quantize_for(detail, values).tolist() == [-128, -6, -5, -4, -3, -2, -1, 0, 127]
    with pytest.raises(UsageError, match="not all finite"):
        quantize_for(detail, np.array([np.nan]))


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((6, 6, 2), np.int8), r"shape \[n, 6, 6, 2\], and got \[6, 6, 2\]"),
        (np.zeros((1, 6, 5, 2), np.int8), r"got \[1, 6, 5, 2\]"),
        (np.zeros((1, 6, 6, 2), np.uint8), "takes int8 or floats, and got uint8"),
        (np.zeros((1, 6, 6, 2), np.int64), "takes int8 or floats, and got int64"),
    ],
)
def test_run_checks_its_argument(x: NDArray, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        allocated().run(x)


def test_set_tensor_checks_and_copies() -> None:
    interpreter, x = allocated(), samples(1)
    with pytest.raises(UsageError, match="takes int8, and got float32"):
        interpreter.set_tensor(0, x.astype(np.float32))
    with pytest.raises(UsageError, match=r"has shape \[1, 6, 6, 2\], and got \[2, 6, 6, 2\]"):
        interpreter.set_tensor(0, samples(2))
    with pytest.raises(UsageError, match="is not an input"):
        interpreter.set_tensor(1, x)
    for index in (-1, 1000):
        with pytest.raises(UsageError, match=f"there is no tensor {index}; the model has"):
            interpreter.set_tensor(index, x)
    interpreter.set_tensor(0, x)
    kept = x.copy()
    x[:] = 0
    np.testing.assert_array_equal(interpreter.get_tensor(0), kept)
    interpreter.get_tensor(0)[:] = 0
    np.testing.assert_array_equal(interpreter.get_tensor(0), kept)


def test_order_of_calls() -> None:
    interpreter = Interpreter(model_content=small_network())
    for call in (
        interpreter.invoke,
        lambda: interpreter.get_tensor(0),
        lambda: interpreter.set_tensor(0, samples(1)),
    ):
        with pytest.raises(UsageError, match="not allocated"):
            call()
    interpreter.allocate_tensors()
    output = interpreter.get_output_details()[0]["index"]
    with pytest.raises(UsageError, match="has no value yet"):
        interpreter.get_tensor(output)
    interpreter.invoke()
    assert interpreter.get_tensor(output).shape == (1, 3)
    assert not interpreter.get_tensor(0).any()


def test_every_tensor_can_be_read() -> None:
    interpreter = allocated()
    invoked(interpreter, samples(1))
    for detail in interpreter.get_tensor_details():
        value = interpreter.get_tensor(detail["index"])
        assert value.dtype == detail["dtype"]
        assert value.shape == tuple(detail["shape"])


def test_single_rounding_is_another_arithmetic() -> None:
    x = samples(40)
    double, single = (Interpreter(model_content=small_network(), rounding=name).run(x) for name in Rounding)
    assert np.abs(double.astype(int) - single).max() <= 4
    tensors = [Interpreter(model_content=small_network(), rounding=name) for name in ("double", "single")]
    values = []
    for interpreter in tensors:
        interpreter.allocate_tensors()
        invoked(interpreter, x[:1])
        values.append(interpreter.get_tensor(interpreter.model.graph.main.operators[1].outputs[0]))
    assert np.abs(values[0].astype(int) - values[1]).max() <= 1


def test_arguments_are_checked() -> None:
    content = small_network()
    with pytest.raises(UsageError, match="no engine 'gpu'") as caught:
        Interpreter(model_content=content, engine="gpu")
    assert "reference" in (caught.value.hint or "")
    with pytest.raises(UsageError, match="no rounding 'triple'"):
        Interpreter(model_content=content, rounding="triple")
    with pytest.raises(UsageError, match="no level 6"):
        Interpreter(model_content=content, level=6)
    assert Interpreter(model_content=content, level=8).levels == (8,)


def test_unknown_operators_are_named() -> None:
    builder = GraphBuilder()
    x = builder.input((1, 4), "INT8", 0.1, 0)
    y = builder.tensor((1, 4), "INT8", 0.1)
    builder.operator("RELU", [x], [y])
    tree = Model.from_bytes(builder.build([y])).tree
    tree.operatorCodes[0].builtinCode = tree.operatorCodes[0].deprecatedBuiltinCode = 47  # EXP
    interpreter = Interpreter(model=Model(tree))
    with pytest.raises(UnsupportedError, match=r"operator 0 \(EXP\) is not supported") as caught:
        interpreter.allocate_tensors()
    assert "CONV_2D, DEPTHWISE_CONV_2D" in (caught.value.hint or "")


def test_corrupt_content_is_refused() -> None:
    with pytest.raises(FormatError):
        Interpreter(model_content=b"not a model")
    with pytest.raises(FormatError):
        Interpreter(model_content=b"")


# ------------------------------------------------------------------------------------------ several tensors


def adder(signature: bool = False) -> bytes:
    """The sum and the difference of two inputs, with or without a signature."""
    builder = GraphBuilder()
    a, b = (builder.input((1, 3), "INT8", 0.5, 0) for _ in range(2))
    total, difference = (builder.tensor((1, 3), "INT8", 1.0) for _ in range(2))
    builder.operator("ADD", [a, b], [total])
    builder.operator("SUB", [a, b], [difference])
    model = Model.from_bytes(builder.build([total, difference]))
    if signature:
        module = schema()
        entry = module.SignatureDefT()
        entry.signatureKey, entry.subgraphIndex = "serve", 0
        for name, group in (
            ("inputs", {"a": a, "b": b}),
            ("outputs", {"sum": total, "difference": difference}),
        ):
            maps = []
            for key, index in group.items():
                item = module.TensorMapT()
                item.name, item.tensorIndex = key, index
                maps.append(item)
            setattr(entry, name, maps)
        model.tree.signatureDefs = [entry]
        model.changed()
    return model.to_bytes()


def test_several_inputs_and_outputs() -> None:
    interpreter = Interpreter(model_content=adder())
    a, b = np.array([[10, 20, 30], [-4, 0, 4]], np.int8), np.array([[2, 4, 6], [8, 8, 8]], np.int8)
    total, difference = interpreter.run([a, b])
    assert (total.tolist(), difference.tolist()) == ([[6, 12, 18], [2, 4, 6]], [[4, 8, 12], [-6, -4, -2]])
    with pytest.raises(UsageError, match="the model has 2 inputs: a list of 2 arrays"):
        interpreter.run(a)
    with pytest.raises(UsageError, match=r"different numbers of samples: \[1, 2\]"):
        interpreter.run([a, b[:1]])


def test_signatures() -> None:
    interpreter = Interpreter(model_content=adder(signature=True))
    assert interpreter.get_signature_list() == {
        "serve": {"inputs": ["a", "b"], "outputs": ["difference", "sum"]}
    }
    for key in (None, "serve"):
        runner = interpreter.get_signature_runner(key)
        assert set(runner.get_input_details()) == {"a", "b"}
        assert runner.get_output_details()["sum"]["dtype"] == np.int8
        a = np.array([[10, 20, 30]], np.int8)
        assert runner(a=a, b=a)["sum"].tolist() == [[10, 20, 30]]
        assert runner(b=a, a=a)["difference"].tolist() == [[0, 0, 0]]
        with pytest.raises(UsageError, match=r"the arguments are \['a'\], and must be \['a', 'b'\]"):
            runner(a=a)
    with pytest.raises(UsageError, match="no signature 'other'"):
        interpreter.get_signature_runner("other")


def test_models_without_signatures() -> None:
    interpreter = Interpreter(model_content=adder())
    assert interpreter.get_signature_list() == {}
    with pytest.raises(UsageError, match="no signature None"):
        interpreter.get_signature_runner()
