from __future__ import annotations

import pytest

from firmware_sim.storage import measure_storage
from tests.firmware_sim.builder import SCALE, BoardBuilder
from tflnest.model import Model
from tflnest.nested import nested_operators


def test_a_plain_model_has_one_level_and_its_constants(plain_cnn):
    storage = measure_storage(plain_cnn)
    (level,) = storage.levels
    tensors = plain_cnn.graph.main.tensors
    constants = sum(tensor.bytes for tensor in tensors if tensor.is_constant)
    assert (level.level, level.page_bytes, level.resident_bytes) == (8, constants, constants)
    assert level.bits_per_weight == 8.0
    assert storage.switches == ()
    assert storage.reduction == 0.0
    assert len(storage.flat_filters) == 3


def test_shared_buffers_count_once():
    builder = BoardBuilder()
    x = builder.input((1, 8, 8, 4), scale=SCALE)
    y = builder.conv(builder.conv(x, 4), 4)
    tensors = builder.subgraph.tensors
    first, second = (index for index, tensor in enumerate(tensors) if list(tensor.shape) == [4, 3, 3, 4])
    tensors[second].buffer = tensors[first].buffer
    assert measure_storage(builder.model(y)).nested_bytes == 144 + 2 * 16


def test_a_nested_model_matches_its_directory(nested_cnn):
    storage = measure_storage(nested_cnn)
    sizes = [page.size for page in nested_cnn.directory.pages]
    assert [level.page_bytes for level in storage.levels] == sizes
    assert [level.resident_bytes for level in storage.levels] == [sum(sizes[:i]) for i in (1, 2, 3)]
    assert storage.nested_bytes == sum(sizes)
    bits = [level.bits_per_weight for level in storage.levels]
    assert bits == sorted(bits)
    assert bits[-1] == 8.0
    assert 4.0 <= bits[0] < 6.0


def test_separate_models_hold_their_own_weights_and_nothing_of_other_levels(nested_cnn, plain_cnn):
    storage = measure_storage(nested_cnn)
    nested = nested_operators(nested_cnn.graph)
    weights = sum(item.weights for _, item in nested)
    assert [level.weights_bytes for level in storage.levels] == [weights * bits // 8 for bits in (4, 6, 8)]
    differences = [
        b.separate_bytes - a.separate_bytes for a, b in zip(storage.levels, storage.levels[1:], strict=False)
    ]
    assert differences == [weights * 2 // 8] * 2
    # The full-bit model on its own is the int8 model with multipliers in place of scales.
    plain = measure_storage(plain_cnn).nested_bytes
    multipliers = sum(5 * item.channels for _, item in nested)
    assert plain <= storage.levels[-1].separate_bytes <= plain + multipliers + 64


def test_the_accounting_of_switches(nested_cnn):
    low, high = measure_storage(nested_cnn).switches
    assert (low.low, low.high, high.low, high.high) == (4, 6, 6, 8)
    # Bits alone: 1 - 2 / (4 + 6) and 1 - 2 / (6 + 8).
    assert low.weights_reduction == pytest.approx(0.8, abs=0.01)
    assert high.weights_reduction == pytest.approx(1 - 2 / 14, abs=0.01)
    assert high.reduction == pytest.approx(1 - high.page_bytes / high.separate_bytes)
    report = high.to_dict()
    assert report["page_bytes"] == nested_cnn.directory.pages[2].size
    assert report["reduction"] == pytest.approx(high.reduction, abs=1e-6)


def test_storage_reduction(nested_cnn):
    storage = measure_storage(nested_cnn)
    assert storage.separate_bytes == sum(level.separate_bytes for level in storage.levels)
    assert storage.reduction == pytest.approx(1 - storage.nested_bytes / storage.separate_bytes)
    assert storage.to_dict()["nested_bytes"] == storage.nested_bytes


@pytest.mark.shared
def test_a_float_model_has_32_bits(shared_models):
    (level,) = measure_storage(Model.load(shared_models / "pretrainedResnet.tflite")).levels
    assert (level.level, level.bits_per_weight) == (32, 32.0)
