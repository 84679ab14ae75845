"""Sampled patches against the very accumulators of the kernels."""

from __future__ import annotations

import numpy as np
import pytest

from converters import patches
from converters.patches import PatchSampler, as_filter, by_group
from tests.converters.test_correction import one_layer, windows
from tests.models import random_inputs
from tflnest.nested import CHANNEL_AXIS


def sampler_of(source, x, seed=0):
    operator = source.graph.main.operators[-1]
    tensor = source.graph.main.tensors[operator.inputs[1]]
    return (
        operator,
        tensor,
        PatchSampler(operator, tensor.shape, source.graph.main.input_tensors()[0], x, seed),
    )


@pytest.mark.parametrize("kind", ["conv", "grouped", "depthwise", "dense"])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2), (3, 1)])
def test_rows_times_the_matrix_are_the_accumulators(kind, padding, stride, dilation):
    source = one_layer(kind, padding, stride, dilation)
    x = random_inputs(source, 4)
    operator, tensor, sampler = sampler_of(source, x)
    rows = sampler.rows(x if kind != "dense" else x.reshape(4, -1))
    axis = CHANNEL_AXIS[operator.name]
    matrix = by_group(tensor.data, axis, len(rows))
    np.testing.assert_array_equal(as_filter(matrix.astype(np.int8), tensor.shape, axis), tensor.data)
    got = (rows @ matrix.transpose(0, 2, 1)).transpose(1, 0, 2).reshape(rows.shape[1], -1)
    shifted = x.astype(float) - source.graph.main.input_tensors()[0].zero_point
    if kind == "dense":
        expected = shifted.reshape(4, -1) @ tensor.data.T.astype(float)
    else:
        output = source.graph.main.tensors[operator.outputs[0]].shape[1:3]
        seen = windows(shifted, tensor.shape[1:3], (stride,) * 2, (dilation,) * 2, output, padding == "SAME")
        if kind == "depthwise":
            expected = (seen * tensor.data[0]).sum(axis=(3, 4))
        else:
            depth = tensor.shape[3]
            expected = np.stack(
                [
                    (
                        seen[..., depth * (c * len(rows) // len(tensor.data)) :][..., :depth] * tensor.data[c]
                    ).sum(axis=(3, 4, 5))
                    for c in range(len(tensor.data))
                ],
                axis=-1,
            )
        expected = expected.reshape(-1, expected.shape[-1])
    np.testing.assert_array_equal(got, expected)


def test_few_rows_are_drawn_by_seed_and_from_all_samples(monkeypatch):
    source = one_layer("conv", "SAME", 1, 1)
    x = random_inputs(source, 20)
    monkeypatch.setattr(patches, "MAX_ROWS", 50)
    draws = [sampler_of(source, x, seed)[2].rows(x) for seed in (0, 0, 1)]
    assert draws[0].shape == (1, 50, 36)
    np.testing.assert_array_equal(draws[0], draws[1])
    assert not np.array_equal(draws[0], draws[2])
    monkeypatch.setattr(patches, "MAX_VALUES", 360)
    bounded = sampler_of(source, x)[2].rows(x)
    assert bounded.shape == (1, 10, 36)


def test_the_same_positions_are_drawn_from_every_stream():
    source = one_layer("conv", "VALID", 2, 1)
    x = random_inputs(source, 6)
    sampler = sampler_of(source, x)[2]
    other = np.minimum(x.astype(int) + 5, 127).astype(np.int8)
    difference = sampler.rows(other) - sampler.rows(x)
    assert difference.min() >= 0 and difference.max() == 5
    np.testing.assert_array_equal(sampler.rows(x), sampler.rows(x))
