"""Whether samples are fit for a search: those that attempts are made with, and those that decide."""

from __future__ import annotations

import hashlib
from contextlib import suppress

import numpy as np

from converters.calibration_checks import check_calibration
from converters.labels import check_labels, check_scale
from tflnest.dataset import Dataset
from tflnest.errors import MissingExtraError, UnsupportedError, UsageError
from tflnest.model import Model

#: Share of the validation samples among the calibration samples from which on they decide nothing.
MANY_SHARED = 0.5

#: Samples by which the scales of both are compared.
SCALE_SAMPLES = 256

#: How many times the standard deviation of one set is that of the other where they are on different scales.
OTHER_SCALE = 8.0


def check_samples(calibration: Dataset, validation: Dataset, model: Model, trained: bool) -> list[str]:
    """Refuse samples that a search can't use.

    Args:
        calibration: What attempts are rounded on, or trained on.
        validation: What decides.
        model: The source, float or int8.
        trained: Whether attempts are trained.

    Returns:
        Reasons to doubt samples that can be used, with numbers.

    Raises:
        UsageError: Labels are missing, are all the same or no classes of the model; most validation samples are
            calibration samples too; or the samples are on another scale than the model, or than each other.
        FormatError: Their shape or type does not fit the model.
        UnsupportedError: The model has not one input.
    """
    inputs = model.graph.main.input_tensors()
    if len(inputs) != 1:
        raise UnsupportedError(f"the model has {len(inputs)} inputs, samples feed exactly one")
    for data, labelled in ((validation, True), (calibration, trained)):
        data.limited(1).inputs_for(inputs[0])
        if labelled:
            check_labels(data, model)
    notes = _check_shared(calibration, validation) + check_calibration(calibration, inputs[0])
    _check_scales(calibration, validation)
    if validation.x.dtype.kind == "f":
        # Float models run in stock TensorFlow Lite alone, which a search needs for nothing else.
        with suppress(MissingExtraError):
            check_scale(validation, model)
    return notes


def _check_shared(calibration: Dataset, validation: Dataset) -> list[str]:
    own, others = (
        [
            hashlib.blake2b(np.ascontiguousarray(sample).tobytes(), digest_size=16).digest()
            for sample in data.x
        ]
        for data in (validation, calibration)
    )
    known = set(others)
    shared = sum(digest in known for digest in own)
    where = f"{shared:,} of {len(own):,} samples of {validation.name} are among those of {calibration.name}"
    if shared > MANY_SHARED * len(own):
        raise UsageError(
            where,
            "take other samples for --validation: those that attempts were made with prefer narrow widths",
        )
    return [f"{where}: take others, which attempts were not made with"] if shared else []


def _check_scales(calibration: Dataset, validation: Dataset) -> None:
    if calibration.x.dtype.kind != validation.x.dtype.kind:
        return
    sets = [data.limited(SCALE_SAMPLES).x for data in (calibration, validation)]
    deviations = [float(values.std(dtype=np.float64)) for values in sets]
    if max(deviations) > OTHER_SCALE * min(deviations) > 0:
        first, second = (f"{values.min():.4g}..{values.max():.4g}" for values in sets)
        raise UsageError(
            f"the values of {calibration.name} lie in {first}, those of {validation.name} in {second}",
            "scale both as in the training of the model",
        )
