from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from converters.calibration_checks import FEW_SAMPLES, check_calibration, check_layers
from converters.conversion import convert
from converters.planning import plan_nesting
from tests.models import everything, network, random_inputs
from tests.single_operator import GraphBuilder
from tflnest.dataset import Dataset
from tflnest.errors import FormatError, UsageError
from tflnest.model import Model

SHAPE = (1, 4, 4, 3)


def input_tensor(scale=None, zero_point=0, type_name="INT8"):
    graph = GraphBuilder()
    if scale is None:
        x, y = graph.input(SHAPE, "FLOAT32"), graph.tensor(SHAPE, "FLOAT32")
    else:
        x = graph.input(SHAPE, type_name, scale=scale, zero_point=zero_point)
        y = graph.tensor(SHAPE, type_name, scale=scale, zero_point=zero_point)
    graph.operator("RELU", [x], [y])
    return Model.from_bytes(graph.build([y])).graph.main.input_tensors()[0]


PIXELS = input_tensor(1.0, -128)  # 0..255
UNIT = input_tensor(1 / 255, -128)  # 0..1
SIGNED = input_tensor(1 / 128, 0)  # -1..1
FLOAT = input_tensor()


def samples(low, high, count=32, seed=0):
    x = np.random.default_rng(seed).uniform(low, high, (count, *SHAPE[1:])).astype(np.float32)
    x.flat[:2] = low, high
    return x


def check(x, tensor):
    return check_calibration(Dataset(np.asarray(x), None, "train.npz"), tensor)


@pytest.mark.parametrize(
    ("low", "high", "tensor"),
    [(0, 255, PIXELS), (0, 1, UNIT), (-1, 1, SIGNED), (0, 255, FLOAT), (-3, 3, FLOAT), (0, 100, PIXELS)],
)
def test_sound_data_has_no_warnings(low, high, tensor):
    assert check(samples(low, high), tensor) == []


def test_a_few_values_beyond_the_range_are_normal():
    x = samples(0, 1)
    x.flat[10:40] = 1.5  # 2 %
    assert check(x, UNIT) == []


def test_integers_are_the_inputs_own_codes():
    codes = np.random.default_rng(0).integers(-128, 128, (32, *SHAPE[1:])).astype(np.int8)
    assert check(codes, UNIT) == check(codes, PIXELS) == []
    (warning,) = check(np.clip(codes, 0, 1), PIXELS)
    assert "the values use 1 of the input's 256 steps: the values lie in 128..129" in warning


def test_pixels_for_a_model_that_takes_0_to_1():
    x = samples(0, 255)
    (warning,) = check(x, UNIT)
    share = 100 * np.mean(x > 1 + 1 / 510)
    assert warning.startswith(f"calibration data train.npz: {share:.1f} % of the values saturate: ")
    assert "the values lie in 0..255, input 0 ('tensor_0') takes 0..1, about 255 times too large" in warning
    assert warning.endswith("scale the samples as for training")


def test_0_to_1_for_a_model_that_takes_pixels():
    (warning,) = check(samples(0, 1), PIXELS)
    assert "the values use 1 of the input's 256 steps: the values lie in 0..1, " in warning
    assert "takes 0..255, about 255 times too small" in warning


def test_signed_samples_for_a_model_that_takes_0_to_1():
    x = samples(-1, 1)
    (warning,) = check(x, UNIT)
    assert f"{100 * np.mean(x < -1 / 510):.1f} % of the values saturate" in warning
    assert "-1..1" in warning and "times too" not in warning


def test_0_to_1_for_a_model_that_takes_signed_samples():
    (warning,) = check(samples(0, 1), SIGNED)
    assert "no value is negative: the values lie in 0..1, " in warning and "takes -1..0.9922" in warning
    (warning,) = check(samples(-1, 0), SIGNED)
    assert "no value is positive" in warning


def test_normalized_samples_for_a_float_model_are_not_judged():
    """A float input has no scale."""
    assert check(samples(0, 1e-3), FLOAT) == []


@pytest.mark.parametrize("tensor", [UNIT, FLOAT])
def test_constant_data(tensor):
    (warning,) = check(np.full((32, *SHAPE[1:]), 0.5, np.float32), tensor)
    assert "every value is 0.5, so it says nothing" in warning


@pytest.mark.parametrize("tensor", [UNIT, FLOAT])
def test_equal_samples(tensor):
    (warning,) = check(np.repeat(samples(0, 1, 1), 32, axis=0), tensor)
    assert "all 32 samples are equal" in warning


def test_copies():
    x = samples(0, 1)
    x[5] = x[4]
    assert check(x, UNIT) == []
    x[20:30] = x[:10]
    (warning,) = check(x, UNIT)
    assert "11 of 32 samples are copies of others" in warning


@pytest.mark.parametrize(("count", "said"), [(1, "1 sample; "), (15, "15 samples; ")])
def test_few_samples(count, said):
    (warning,) = check(samples(0, 1, count), UNIT)
    assert f"{said}take at least {FEW_SAMPLES}" in warning
    assert check(samples(0, 1, FEW_SAMPLES), UNIT) == []


def test_every_reason_is_told():
    warnings = check(np.repeat(samples(0, 255, 1), 4, axis=0), UNIT)
    assert [text.split(": ", 1)[1].split(" ")[1] for text in warnings] == ["samples;", "4", "%"]


def test_convert_passes_the_warnings_on(tmp_path):
    path = tmp_path / "model.tflite"
    model = network()
    model.save(path)
    tensor = model.graph.main.input_tensors()[0]
    span = 255 * tensor.scale
    rng = np.random.default_rng(1)
    low = (-128 - tensor.zero_point) * tensor.scale
    good = rng.uniform(low, low + span, (FEW_SAMPLES, *tensor.shape[1:])).astype(np.float32)
    assert not [note for note in convert(path, calibration=Dataset(good)).notes if "calibration data" in note]
    notes = convert(path, calibration=Dataset(good[:4] * 1000, None, "train.npz")).notes
    told = [note for note in notes if note.startswith("calibration data train.npz: ")]
    assert len(told) == 2 and "4 samples" in told[0] and "% of the values saturate" in told[1]


# ---------------------------------------------------------------------------------------------- layers


def layer_warnings(model, x, rounding="joint"):
    recipe = replace(everything((4, 8)), rounding=rounding)
    return check_layers(model.graph.main, plan_nesting(model.graph, recipe), [x])


def test_layers_that_see_enough_are_not_mentioned():
    model = network()
    assert layer_warnings(model, random_inputs(model, 600)) == []


def test_a_layer_that_sees_fewer_positions_than_it_has_weights():
    """The classifier has one position per sample, the grouped convolution a few."""
    model = network()
    head = next(item for item in plan_nesting(model.graph, everything()) if "head" in item.tensor.name)
    columns = head.tensor.shape[1]
    (warning,) = layer_warnings(model, random_inputs(model, 20))
    assert warning.startswith("20 calibration samples are few for 2 layers: ")
    assert f"('head/weights') sees 20 positions for {columns:,} weights per channel; " in warning
    assert f"{columns:,} samples would decide all of it" in warning
    assert layer_warnings(model, random_inputs(model, 20), "truncate") == []


def test_inputs_that_never_vary_are_counted_and_the_rounding_stays_sound(tmp_path):
    """One channel of the image is constant: the second moments of the first layer are singular."""
    model = network()
    x = random_inputs(model, 600)
    x[..., 1] = 5
    (warning,) = layer_warnings(model, x)
    assert "input channels never vary on 32 calibration samples: 1 of 3 of 1 ('stem/weights')" in warning
    path = tmp_path / "model.tflite"
    model.save(path)
    result = convert(path, recipe="uniform", rounding="joint", calibration=Dataset(x))
    assert warning in result.notes
    errors = [value for item in result.filters for value in item.errors.values()]
    assert np.isfinite(errors).all() and max(errors) < 1


def test_data_without_any_signal_still_gives_a_sound_model(tmp_path):
    model = network()
    path = tmp_path / "model.tflite"
    model.save(path)
    x = np.full((20, *model.graph.main.input_tensors()[0].shape[1:]), 3, np.int8)
    result = convert(path, recipe="uniform", rounding="joint", calibration=Dataset(x, None, "train.npz"))
    assert any("every value is 3, so it says nothing" in note for note in result.notes)
    assert any("never vary on 20 calibration samples: 3 of 3" in note for note in result.notes)
    weights = [abs(item.errors[4]) for item in result.filters if item.levels]
    assert np.isfinite(weights).all()


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (np.full((4, 8, 8, 3), np.nan, np.float32), "sample 0 of x holds NaN or infinity"),
        (np.full((4, 8, 8, 3), "a"), "x has type <U1, numbers were expected"),
        (np.zeros((0, 8, 8, 3), np.float32), r"x has shape \[0, 8, 8, 3\]: no samples"),
        (
            np.zeros((4, 8, 3), np.float32),
            r"a sample has shape \[8, 3\], the model's input takes \[8, 8, 3\]",
        ),
        (np.zeros((4, 8, 8, 3), np.int32), "x has type int32, the model's input is int8"),
    ],
)
def test_data_that_cannot_be_used_is_refused(tmp_path, x, said):
    path = tmp_path / "model.tflite"
    network().save(path)
    with pytest.raises(FormatError, match=said):
        convert(path, calibration=Dataset(x))


def test_a_budget_that_cannot_be_met_is_refused(tmp_path):
    path = tmp_path / "model.tflite"
    network().save(path)
    with pytest.raises(
        UsageError, match=r"a base of 64 bytes can't be had: .* it takes [\d.]+ bits per weight"
    ):
        convert(path, base_bytes=64, calibration=None)
