"""Whether two models compute the same, bit by bit, and how often they agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tflnest.dataset import Dataset, load_dataset
from tflnest.errors import FormatError, UsageError
from tflnest.graph import Tensor
from tflnest.model import Model
from tflnest.progress import Progress, silent
from tflnest.runner import Outputs, Runner
from tflnest.version import JSON_SCHEMA_VERSION

#: Random samples where no data is given.
RANDOM_SAMPLES = 32


@dataclass(frozen=True)
class Difference:
    """Where two models differ first.

    Attributes:
        sample: Index of the sample.
        output: Index of the output tensor.
        position: Index of the value, counted over the flat output.
        first: Value of the first model.
        second: Value of the second model.
    """

    sample: int
    output: int
    position: int
    first: float
    second: float


@dataclass(frozen=True)
class Comparison:
    """The result of `compare`.

    Attributes:
        first: Path of the first model, and its level where it is nested.
        second: The same of the second one.
        data: Name of the data.
        samples: How many samples were run.
        outputs: Values per sample, all output tensors together.
        identical_samples: Samples whose outputs are equal, value by value.
        different_values: Values that differ, over all samples.
        largest_difference: Largest absolute difference of a value; in real units where the quantizations
            of the outputs differ, in steps of the output otherwise.
        agreement: Share of samples with the same class: the largest value of the first output.
        first_difference: The first difference; None where there is none.
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
    first_difference: Difference | None

    @property
    def bit_exact(self) -> bool:
        """Whether all values of all samples are equal."""
        return self.different_values == 0

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"schema_version": JSON_SCHEMA_VERSION, "bit_exact": self.bit_exact, **asdict(self)}


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
        engine: "reference", "native", "litert" or "auto"; see `Runner`.
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
    results = [
        runner.run(dataset.inputs_for(runner.input), f"model {name}", progress)
        for name, runner in zip("AB", runners, strict=True)
    ]
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
    shapes = [[runner.input.shape, *(tensor.shape for tensor in runner.outputs)] for runner in runners]
    if shapes[0] != shapes[1]:
        first, second = (
            f"{list(ends[0])} -> {', '.join(str(list(end)) for end in ends[1:])}" for ends in shapes
        )
        raise FormatError(
            f"the models can't be compared: the first has the shapes {first}, the second {second}"
        )


def _random_data(tensor: Tensor, seed: int, samples: int) -> Dataset:
    """Uniform random samples over what the input can hold, as real numbers where it has a scale."""
    if seed < 0:
        raise UsageError(f"the seed is {seed}, 0 or more was expected")
    if samples < 1:
        raise UsageError(f"at least 1 sample is needed, and {samples} were asked for")
    generator = np.random.default_rng(seed)
    shape = (samples, *(tensor.shape[1:] if tensor.shape[:1] == (1,) else tensor.shape))
    if tensor.dtype.kind == "f":
        return Dataset(generator.uniform(-1, 1, shape).astype(np.float32), name="random samples")
    limits = np.iinfo(tensor.dtype)
    codes = generator.integers(limits.min, limits.max, shape, endpoint=True).astype(tensor.dtype)
    if tensor.quantization is None:
        return Dataset(codes, name="random samples")
    real = (codes.astype(np.float64) - tensor.zero_point) * tensor.scale
    return Dataset(real, name="random samples")


def _real(values: NDArray[Any], tensor: Tensor) -> NDArray[np.float64]:
    real = values.astype(np.float64)
    return real if tensor.quantization is None else (real - tensor.zero_point) * tensor.scale


def _values(runners: Sequence[Runner], results: Sequence[Outputs]) -> list[list[NDArray[np.float64]]]:
    """The outputs of both models, in steps where their quantizations are equal, in real units elsewhere."""
    pairs: list[list[NDArray[np.float64]]] = [[], []]
    for index, tensors in enumerate(zip(*(runner.outputs for runner in runners), strict=True)):
        same = tensors[0].type == tensors[1].type and tensors[0].quantization == tensors[1].quantization
        for side, tensor in enumerate(tensors):
            values = results[side][index]
            pairs[side].append(values.astype(np.float64) if same else _real(values, tensor))
    return pairs


def _measure(
    names: list[str], dataset: Dataset, runners: Sequence[Runner], results: Sequence[Outputs]
) -> Comparison:
    pairs = _values(runners, results)
    first, second = (np.concatenate(values, axis=1) for values in pairs)
    differs = (first != second) & ~(np.isnan(first) & np.isnan(second))
    return Comparison(
        first=names[0],
        second=names[1],
        data=dataset.name,
        samples=len(dataset),
        outputs=first.shape[1],
        identical_samples=int((~differs.any(axis=1)).sum()),
        different_values=int(differs.sum()),
        largest_difference=float(np.abs(first - second)[differs].max(initial=0.0)),
        agreement=float((pairs[0][0].argmax(axis=1) == pairs[1][0].argmax(axis=1)).mean()),
        first_difference=_first_difference(pairs, differs) if differs.any() else None,
    )


def _first_difference(pairs: list[list[NDArray[np.float64]]], differs: NDArray[np.bool_]) -> Difference:
    sample, position = (int(index) for index in np.argwhere(differs)[0])
    output = 0
    while position >= pairs[0][output].shape[1]:
        position -= pairs[0][output].shape[1]
        output += 1
    first, second = (float(values[output][sample, position]) for values in pairs)
    return Difference(sample, output, position, first, second)
