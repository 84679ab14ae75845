"""Classifiers of a stem, and what becomes of them in the file."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from converters.affine import UNIT, Affine
from tflnest.interpreter import Interpreter

keras = pytest.importorskip("keras", reason="the keras extra is not installed")

STEM = Affine(1 / 32, -128)


def numpy(values: Any) -> Any:
    return keras.ops.convert_to_numpy(values)


def calibrated(shape: tuple[int, int, int], convolutions: tuple[int, ...]) -> tuple[Any, Any]:
    """A classifier of 5 classes with random weights, and maps of the stem."""
    from converters.training.classifier import StemClassifier

    keras.utils.set_random_seed(1)
    classifier = StemClassifier(shape, convolutions, 5)
    rng = np.random.default_rng(2)
    codes = np.floor(rng.integers(0, 256, (60, 1, 1, shape[2])) * rng.random((60, *shape)))
    maps = codes.astype(np.float32) * np.float32(STEM.scale)
    pooled = numpy(classifier.pooled(maps, STEM.scale, STEM.zero_point))
    classifier.scale_inputs(pooled)
    classifier.calibrate(pooled, 25)
    return classifier, maps


@pytest.mark.parametrize(
    ("shape", "convolutions", "pooled"),
    [((32, 32, 4), (6, 8), (8, 8)), ((19, 17, 3), (5,), (9, 8)), ((6, 5, 2), (4,), (6, 5))],
)
def test_the_file_gives_the_probabilities_of_the_layer(
    shape: tuple[int, int, int], convolutions: tuple[int, ...], pooled: tuple[int, int]
) -> None:
    from converters.training.controller_export import ControllerBuilder, add_classifier

    classifier, maps = calibrated(shape, convolutions)
    assert classifier.pooled(maps, STEM.scale, STEM.zero_point).shape[1:3] == pooled
    builder = ControllerBuilder((1, *shape), STEM)
    interpreter = Interpreter(model=builder.quantized(add_classifier(builder, classifier)))
    given = interpreter.run(STEM.quantize(maps)).astype(int) - UNIT.zero_point
    wanted = numpy(classifier(classifier.pooled(maps, STEM.scale, STEM.zero_point))) / UNIT.scale
    assert wanted.std(axis=0).max() > 10.0
    assert (given == wanted).mean() > 0.95
    # Two logits that are a step off change a probability by half of that step at most, and it is rounded.
    step = classifier.affines()[-1].scale
    assert np.abs(given - wanted).max() <= step / 2 / UNIT.scale + 1


def test_pooling_rounds_as_the_engines_do() -> None:
    classifier, maps = calibrated((32, 32, 4), (6,))
    codes = numpy(classifier.pooled(maps, STEM.scale, STEM.zero_point)) / STEM.scale + STEM.zero_point
    means = (maps / STEM.scale + STEM.zero_point).reshape(60, 8, 4, 8, 4, 4).mean((2, 4), dtype=np.float64)
    np.testing.assert_array_equal(np.rint(codes), np.trunc(means + np.copysign(0.5, means)))


def test_work_is_counted_layer_by_layer() -> None:
    classifier, _ = calibrated((32, 32, 4), (6, 8))
    assert classifier.macs == 16 * 6 * 9 * 4 + 4 * 8 * 9 * 6 + 32 * 5


def test_a_classifier_has_the_classes_of_its_network(make_network: Any) -> None:
    from converters.training.dynamic import _classifier
    from converters.training.stem import find_stem

    network = make_network((2, 8))
    stem = find_stem(network, None)
    assert _classifier(network, stem, ()) is None
    classifier = _classifier(network, stem, (4,))
    assert classifier is not None and classifier.features.mean == pytest.approx((0.1,) * 10)
