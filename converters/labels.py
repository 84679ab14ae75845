"""Whether labelled samples can be what a classifier is trained on, or judged by."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tflnest.dataset import Dataset
from tflnest.errors import UsageError
from tflnest.evaluation import evaluate
from tflnest.model import Model

#: Samples by which the scale of the data is judged.
SCALE_SAMPLES = 128

#: How samples are often scaled, as a factor and an offset that bring them to another scale.
SCALES = {
    "multiplied by 255": (255.0, 0.0),
    "divided by 255": (1 / 255, 0.0),
    "divided by 127.5, minus 1": (1 / 127.5, -1.0),
    "plus 1, times 127.5": (127.5, 127.5),
    "minus 128": (1.0, -128.0),
    "plus 128": (1.0, 128.0),
}

#: Points of accuracy by which another scale is clearly the right one.
CLEARLY = 0.2


def check_labels(data: Dataset, model: Model) -> NDArray[np.int64]:
    """The labels of samples of a classifier.

    Args:
        data: The samples.
        model: One class per value of its output.

    Raises:
        UsageError: There are no labels, all are the same, or one is no class of the model.
        FormatError: They are not one whole number per sample.
    """
    labels = data.labels()
    if labels is None:
        raise UsageError(
            f"{data.name} has no labels", "store the class number of every sample as y, beside x"
        )
    low, high = int(labels.min()), int(labels.max())
    if low == high:
        raise UsageError(
            f"{data.name}: all {len(labels):,} samples have the class {low}",
            "samples of two classes are needed at least",
        )
    classes = math.prod(model.graph.main.output_tensors()[0].shape[1:])
    if low < 0 or high >= classes:
        raise UsageError(
            f"{data.name}: the labels lie in {low}..{high}, and the model has the classes 0..{classes - 1}"
        )
    return labels


def check_scale(data: Dataset, model: Model) -> None:
    """Refuse samples that the model understands much better on another scale.

    A model that is not trained yet understands them on none, and is not refused.

    Args:
        data: Labelled samples, real numbers.
        model: Float or int8.

    Raises:
        UsageError: On another usual scale the accuracy is clearly higher; the message names it.
        MissingExtraError: The model is float, and there is no stock TensorFlow Lite.
    """
    chosen = np.random.default_rng(0).permutation(len(data))[:SCALE_SAMPLES]
    x = np.asarray(data.x[np.sort(chosen)], np.float32)
    labels = check_labels(data, model)[np.sort(chosen)]

    def accuracy(factor: float, offset: float) -> float:
        samples = Dataset(np.float32(factor) * x + np.float32(offset), labels, data.name)
        return evaluate(model, samples).levels[-1].top1 or 0.0

    as_given = accuracy(1.0, 0.0)
    if as_given > 0.5:
        return
    found = {name: accuracy(*scale) for name, scale in SCALES.items()}
    best = max(found, key=lambda name: found[name])
    if found[best] > as_given + CLEARLY:
        raise UsageError(
            f"{data.name}: the model gets {as_given:.0%} of {len(x)} samples right, "
            f"and {found[best]:.0%} where their values are {best}",
            "scale the samples as in the training of the model",
        )
