"""Whether two models compute the same, bit by bit, and how often they agree."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tflnest.dataset import Dataset, load_dataset
from tflnest.errors import FormatError
from tflnest.graph import Tensor
from tflnest.model import Model
from tflnest.progress import Progress, silent
from tflnest.runner import CHUNK, Runner
from tflnest.version import JSON_SCHEMA_VERSION

#: Random samples where no data is given.
RANDOM_SAMPLES = 32


@dataclass(frozen=True)
class Comparison:
    """The result of `compare`.

    Attributes:
        first: Path of the first model, and its level where it is nested.
        second: The same of the second one.
        data: Name of the data.
        samples: How many samples were run.
        outputs: Values per sample.
        identical_samples: Samples whose outputs are equal, value by value.
        different_values: Values that differ, over all samples.
        largest_difference: Largest absolute difference of a value; in real units where the quantizations
            of the outputs differ, in steps of the output otherwise.
        agreement: Share of samples with the same class.
        first_difference: Sample, position and both values of the first difference; None where there is none.
    """

    first: str
    second: str
    data: str
    samples: int
    outputs: int
    identical_samples: int
    different_values: int
    largest_difference: float
    agreement: float
    first_difference: tuple[int, int, float, float] | None

    @property
    def bit_exact(self) -> bool:
        """Whether all values of all samples are equal."""
        return self.different_values == 0

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"schema_version": JSON_SCHEMA_VERSION, "bit_exact": self.bit_exact, **vars(self)}


def compare(
    first: str | Path | Model,
    second: str | Path | Model,
    data: str | Path | Dataset | None = None,
    *,
    first_level: int | None = None,
    second_level: int | None = None,
    limit: int | None = None,
    engine: str = "auto",
    seed: int = 0,
    progress: Progress = silent,
) -> Comparison:
    """Run two models on the same samples.

    Args:
        first: Plain or nested, int8 or float.
        second: The same; inputs and outputs must have the shapes of the first one's.
        data: Samples, or a file with them; None for random ones over the input's range.
        first_level: Level of the first model where it is nested; None for full-bit.
        second_level: The same of the second one.
        limit: Only the first so many samples.
        engine: "reference", "litert" or "auto"; see `Runner`.
        seed: For random samples.
        progress: Told how many samples are done.

    Raises:
        FormatError: The models take or give different shapes, or the data does not fit.
        UsageError: There is no such level or engine.
        UnsupportedError: The engine does not run a model.
    """
    models = [item if isinstance(item, Model) else Model.load(item) for item in (first, second)]
    levels = (first_level, second_level)
    runners = [Runner(model, level, engine) for model, level in zip(models, levels, strict=True)]
    _check_shapes(runners)
    dataset = load_dataset(data) if isinstance(data, str | Path) else data
    if dataset is None:
        dataset = _random_data(runners[0].input, seed, RANDOM_SAMPLES if limit is None else limit)
    dataset = dataset.limited(limit)
    results = [_run(runner, dataset, progress) for runner in runners]
    names = [
        _describe(item, model, level)
        for item, model, level in zip((first, second), models, levels, strict=True)
    ]
    return _measure(names, dataset, runners, results)


def _describe(item: str | Path | Model, model: Model, level: int | None) -> str:
    name = "model" if isinstance(item, Model) else str(item)
    if model.directory is None:
        return name
    return f"{name} at level {model.directory.levels[-1] if level is None else level}"


def _check_shapes(runners: list[Runner]) -> None:
    for what in ("input", "output"):
        shapes = [getattr(runner, what).shape for runner in runners]
        if shapes[0] != shapes[1]:
            raise FormatError(
                f"the models can't be compared: the {what} of the first has shape {list(shapes[0])}, of the second {list(shapes[1])}"
            )


def _random_data(tensor: Tensor, seed: int, samples: int) -> Dataset:
    """Uniform random samples over what the input can hold, as real numbers where it has a scale."""
    generator = np.random.default_rng(seed)
    shape = (samples, *tensor.shape[1:])
    if tensor.dtype.kind == "f":
        return Dataset(generator.uniform(-1, 1, shape).astype(np.float32), name="random samples")
    limits = np.iinfo(tensor.dtype)
    codes = generator.integers(limits.min, limits.max, shape, endpoint=True).astype(tensor.dtype)
    if tensor.quantization is None:
        return Dataset(codes, name="random samples")
    real = (codes.astype(np.float64) - tensor.zero_point) * tensor.scale
    return Dataset(real, name="random samples")


def _run(runner: Runner, dataset: Dataset, progress: Progress) -> NDArray[Any]:
    inputs = dataset.inputs_for(runner.input)
    parts = []
    for number, part in enumerate(runner.chunks(inputs)):
        parts.append(part)
        progress("comparing", min((number + 1) * CHUNK, len(inputs)), len(inputs))
    return np.concatenate(parts)


def _real(values: NDArray[Any], tensor: Tensor) -> NDArray[np.float64]:
    real = values.astype(np.float64)
    return real if tensor.quantization is None else (real - tensor.zero_point) * tensor.scale


def _measure(
    names: list[str], dataset: Dataset, runners: list[Runner], results: list[NDArray[Any]]
) -> Comparison:
    same_units = runners[0].output.quantization == runners[1].output.quantization
    first, second = (
        result.astype(np.float64) if same_units else _real(result, runner.output)
        for result, runner in zip(results, runners, strict=True)
    )
    differs = first != second
    where = None
    if differs.any():
        sample, position = (int(index) for index in np.argwhere(differs)[0])
        where = (sample, position, float(first[sample, position]), float(second[sample, position]))
    return Comparison(
        first=names[0],
        second=names[1],
        data=dataset.name,
        samples=len(dataset),
        outputs=first.shape[1],
        identical_samples=int((~differs.any(axis=1)).sum()),
        different_values=int(differs.sum()),
        largest_difference=float(np.abs(first - second).max()),
        agreement=float((first.argmax(axis=1) == second.argmax(axis=1)).mean()),
        first_difference=where,
    )
