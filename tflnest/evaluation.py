"""What accuracy each level of a model keeps, measured on data."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tflnest.dataset import Dataset, load_dataset
from tflnest.errors import FormatError, UsageError
from tflnest.model import Model
from tflnest.progress import Progress, silent
from tflnest.runner import Runner, model_levels, single_input
from tflnest.version import JSON_SCHEMA_VERSION


@dataclass(frozen=True)
class LevelAccuracy:
    """One level on the data.

    Attributes:
        level: Bit-width.
        top1: Share of samples whose class is right; None without labels.
        agreement: Share of samples with the same class as at the full-bit level.
        identical: Share of samples whose outputs equal those of the full-bit level, value by value.
        mean_difference: Mean absolute difference of the outputs from the full-bit ones, in the output's units
            (steps of the int8 output).
        resident_bytes: Bytes of the pages that must be resident; of a plain model, None.
        seconds: Time that the engine took.
    """

    level: int
    top1: float | None
    agreement: float
    identical: float
    mean_difference: float
    resident_bytes: int | None
    seconds: float


@dataclass(frozen=True)
class Evaluation:
    """The result of `evaluate`.

    Attributes:
        model: Path of the model.
        data: Name of the data.
        samples: How many samples were run.
        engine: What ran them.
        file_bytes: Size of the model file.
        levels: One row per level, lowest first.
        fallbacks: Operators that the native engine left to the reference kernels, by label, with the reason.
    """

    model: str
    data: str
    samples: int
    engine: str
    file_bytes: int
    levels: tuple[LevelAccuracy, ...]
    fallbacks: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "schema_version": JSON_SCHEMA_VERSION,
            **{name: getattr(self, name) for name in ("model", "data", "samples", "engine", "file_bytes")},
            "levels": [vars(row) for row in self.levels],
            "fallbacks": dict(self.fallbacks),
        }


def evaluate(
    model: str | Path | Model,
    data: str | Path | Dataset,
    *,
    level: int | str | Sequence[int] | None = "all",
    limit: int | None = None,
    engine: str = "auto",
    progress: Progress = silent,
) -> Evaluation:
    """Run a model over data at one level or several.

    Args:
        model: Plain or nested, int8 or float.
        data: Samples, or a `.npz` (key `x`; labels in `y` where there are any) or `.npy` with them.
        level: A level, several, or "all". The full-bit level always runs too: agreement is with it.
        limit: Only the first so many samples.
        engine: "reference", "native", "litert" or "auto"; see `Runner`.
        progress: Told how many samples are done.

    Raises:
        UsageError: There is no such level or engine.
        FormatError: Model or data are not sound, or do not fit each other.
        UnsupportedError: The engine does not run the model.
    """
    loaded = model if isinstance(model, Model) else Model.load(model)
    dataset = (data if isinstance(data, Dataset) else load_dataset(data)).limited(limit)
    levels = model_levels(loaded)
    wanted = _wanted_levels(level, levels)
    inputs = dataset.inputs_for(single_input(loaded))
    labels = _checked_labels(dataset, loaded)
    rows: dict[int, LevelAccuracy] = {}
    full: NDArray[Any] | None = None
    runner = None
    for number in dict.fromkeys((levels[-1], *wanted)):
        runner = Runner(loaded, number if loaded.directory is not None else None, engine)
        start = time.perf_counter()
        outputs = runner.run(inputs, f"level {number}", progress)[0]
        seconds = time.perf_counter() - start
        full = outputs if full is None else full
        rows[number] = _score(number, outputs, full, labels, _resident_bytes(loaded, number), seconds)
    assert runner is not None
    return Evaluation(
        model="" if isinstance(model, Model) else str(model),
        data=dataset.name,
        samples=len(dataset),
        engine=runner.engine,
        file_bytes=len(loaded.to_bytes()),
        levels=tuple(rows[number] for number in wanted),
        fallbacks=runner.fallbacks,
    )


def _wanted_levels(level: int | str | Sequence[int] | None, levels: tuple[int, ...]) -> tuple[int, ...]:
    if level is None or level == "all":
        return levels
    try:
        wanted = (int(level),) if isinstance(level, int | str) else tuple(level)
    except ValueError:
        raise UsageError(
            f"level {level!r} is no number", f"levels: {', '.join(map(str, levels))}, or all"
        ) from None
    for number in wanted:
        if number not in levels:
            raise UsageError(f"the model has no level {number}", f"levels: {', '.join(map(str, levels))}")
    return wanted


def _checked_labels(dataset: Dataset, model: Model) -> NDArray[np.int64] | None:
    """Labels that are classes of the model; None where the data has none."""
    labels = dataset.labels()
    if labels is None:
        return None
    shape = model.graph.main.output_tensors()[0].shape
    classes = math.prod(shape[1:] if shape[:1] == (1,) else shape)
    if labels.max() >= classes or labels.min() < 0:
        raise FormatError(
            f"{dataset.name}: the labels lie in {labels.min()}..{labels.max()}, "
            f"and the model has the classes 0..{classes - 1}",
            "store class numbers in y, or leave it out to measure agreement alone",
        )
    return labels


def _score(
    level: int,
    outputs: NDArray[Any],
    full: NDArray[Any],
    labels: NDArray[np.int64] | None,
    resident_bytes: int | None,
    seconds: float,
) -> LevelAccuracy:
    classes = outputs.argmax(axis=1)
    return LevelAccuracy(
        level=level,
        top1=None if labels is None else float((classes == labels).mean()),
        agreement=float((classes == full.argmax(axis=1)).mean()),
        identical=float((outputs == full).all(axis=1).mean()),
        mean_difference=float(np.abs(outputs.astype(np.float64) - full.astype(np.float64)).mean()),
        resident_bytes=resident_bytes,
        seconds=seconds,
    )


def _resident_bytes(model: Model, level: int) -> int | None:
    if model.directory is None:
        return None
    return sum(page.size for page in model.directory.pages if page.level <= level)
