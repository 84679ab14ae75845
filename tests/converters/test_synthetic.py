from __future__ import annotations

import itertools

import numpy as np
import pytest

from converters.synthetic import SAMPLES, VARIED, synthetic_inputs, synthetic_samples, varied_samples
from tests.single_operator import GraphBuilder
from tflnest.graph import Tensor
from tflnest.model import Model


def tensor(*shape, type_name="INT8"):
    return Tensor(
        index=0, name="x", shape=shape, shape_signature=shape, type=type_name, quantization=None, buffer=0
    )


def roughness(values):
    """Mean absolute step along the rows, of values of unit spread."""
    values = values.astype(float)
    return np.abs(np.diff(values, axis=2)).mean() / values.std()


@pytest.mark.parametrize(
    "shape", [(1, 16, 16, 3), (1, 10), (1, 5, 7), (1, 1, 1, 4), (1, 2, 2, 1), (1, 96, 96, 1)]
)
@pytest.mark.parametrize("type_name", ["INT8", "UINT8", "INT16"])
def test_shape_type_and_range(shape, type_name):
    (values,) = synthetic_inputs((tensor(*shape, type_name=type_name),), seed=0)
    item = tensor(*shape, type_name=type_name)
    limits = np.iinfo(item.dtype)
    assert values.shape == (SAMPLES, *shape[1:]) and values.dtype == item.dtype
    assert values.min() < 0.9 * limits.min + 0.1 * limits.max
    assert values.max() > 0.1 * limits.min + 0.9 * limits.max


def test_the_seed_decides():
    inputs = (tensor(1, 16, 16, 3), tensor(1, 10))
    first, second, other = (synthetic_inputs(inputs, seed) for seed in (3, 3, 4))
    for left, right, different in zip(first, second, other, strict=True):
        np.testing.assert_array_equal(left, right)
        assert (left != different).any()


def test_images_are_smooth_and_other_inputs_are_not():
    image, row = synthetic_inputs((tensor(1, 32, 32, 3), tensor(1, 32, 32)), seed=1)
    assert roughness(image) < 0.4 < 1.0 < roughness(row[..., None])


def test_channels_first_images_are_smooth_along_their_sides():
    (image,) = synthetic_inputs((tensor(1, 3, 32, 32),), seed=1)
    assert roughness(image) < 0.4


def test_the_number_of_samples_can_be_chosen():
    assert len(synthetic_inputs((tensor(1, 4),), seed=0, samples=5)[0]) == 5
    assert synthetic_inputs((), seed=0) == []


def float_interface(scale, zero_point):
    graph = GraphBuilder()
    x = graph.input((1, 8, 8, 3), "FLOAT32")
    y = graph.tensor((1, 8, 8, 3), scale=scale, zero_point=zero_point)
    graph.operator("QUANTIZE", [x], [y])
    return Model.from_bytes(graph.build([y])).graph.main


def test_float_inputs_get_the_range_that_their_quantize_can_tell_apart():
    (values,) = synthetic_samples(float_interface(0.5, -28), seed=0)
    assert values.dtype == np.float32
    assert values.shape == (SAMPLES, 8, 8, 3)
    assert (values.min(), values.max()) == (-50.0, 77.5)


def test_other_float_inputs_lie_between_minus_one_and_one():
    graph = GraphBuilder()
    x = graph.input((1, 8, 8, 3), "FLOAT32")
    (values,) = synthetic_samples(Model.from_bytes(graph.build([x])).graph.main, seed=0)
    assert (values.min(), values.max()) == (-1.0, np.float32(127 / 128))


def test_integer_inputs_are_drawn_as_they_are():
    graph = GraphBuilder()
    x = graph.input((1, 8, 8, 3), scale=0.1)
    main = Model.from_bytes(graph.build([x])).graph.main
    (values,) = synthetic_samples(main, seed=4)
    np.testing.assert_array_equal(values, synthetic_inputs(main.input_tensors(), 4)[0])


@pytest.mark.parametrize("shape", [(1, 0, 4, 3), (1, 0), (1,), ()])
def test_empty_and_flat_shapes(shape):
    (values,) = synthetic_inputs((tensor(*shape),), seed=0)
    assert values.shape == (SAMPLES, *shape[1:])


def test_varied_noise_has_several_resolutions():
    graph = GraphBuilder()
    x = graph.input((1, 32, 32, 3), scale=0.1)
    main = Model.from_bytes(graph.build([x])).graph.main
    (values,) = varied_samples(main, seed=2)
    assert len(values) == sum(VARIED.values()) == SAMPLES
    np.testing.assert_array_equal(values, varied_samples(main, seed=2)[0])
    limits = np.cumsum([0, *VARIED.values()])
    found = [roughness(values[start:stop]) for start, stop in itertools.pairwise(limits)]
    assert found[0] < 0.4 < found[1] < 1.0 < found[2]
