"""Compares every operator output of a model with an oracle, bit by bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.oracle import Job, WorkerOracle
from tflnest.graph import Operator, Tensor
from tflnest.interpreter import Interpreter, fit_samples
from tflnest.model import Model

#: Values of intermediate tensors that are held at a time.
CHUNK_BYTES = 256 << 20


@dataclass
class Exactness:
    """What a comparison found.

    Attributes:
        oracle: The engine compared with.
        inputs: Number of invokes.
        operators: Number of operators in the model.
        values: Output values compared, over all operators and invokes.
        mismatches: How many of them differ.
        differing: Mismatches by operator label, for those that differ.
    """

    oracle: str
    inputs: int = 0
    operators: int = 0
    values: int = 0
    mismatches: int = 0
    differing: dict[str, int] = field(default_factory=dict)


def random_inputs(model: bytes, count: int, seed: int = 0) -> list[list[NDArray[Any]]]:
    """Random values over the whole range of each input, one list of arrays per invoke.

    Some are smooth or constant, since noise alone averages out in deep models.
    """
    rng = np.random.default_rng(seed)
    tensors = Model.from_bytes(model).graph.main.input_tensors()
    return [[_random_values(rng, tensor, number % 4) for tensor in tensors] for number in range(count)]


def _random_values(rng: np.random.Generator, tensor: Tensor, kind: int) -> NDArray[Any]:
    dtype = tensor.dtype
    if dtype.kind == "f":
        return (rng.standard_normal(tensor.shape) * (1 + kind)).astype(dtype)
    info = np.iinfo(dtype)
    if kind == 3:
        return np.full(tensor.shape, rng.integers(info.min, info.max, endpoint=True), dtype)
    noise = rng.integers(info.min, info.max, tensor.shape, endpoint=True)
    if kind == 2 and tensor.size:
        smooth = np.cumsum(noise.reshape(-1) // 16)
        return np.clip(smooth - int(smooth.mean()), info.min, info.max).reshape(tensor.shape).astype(dtype)
    return noise.astype(dtype)


def given_inputs(model: bytes, samples: NDArray[Any], count: int) -> list[list[NDArray[Any]]]:
    """The first samples of an array, as a model with one input takes them.

    Args:
        model: A `.tflite` file.
        samples: Samples first; of the input's type, or float, which is quantized.
        count: How many invokes at most.
    """
    (tensor,) = Model.from_bytes(model).graph.main.input_tensors()
    fitted = fit_samples(tensor, samples[: count * tensor.shape[0]])
    return [[part] for part in np.split(fitted, len(fitted) // tensor.shape[0])]


def compare(
    oracle: WorkerOracle,
    model: bytes,
    inputs: Sequence[Sequence[NDArray[Any]]],
    interpreter: Interpreter | None = None,
) -> Exactness:
    """Run a model here and in an oracle and compare every output of every operator.

    Args:
        oracle: The engine that is right.
        model: A stock int8 `.tflite` file, which the oracle runs.
        inputs: One list of arrays per invoke.
        interpreter: What to compare; by default it runs the same file. A nested file at some level has its
            operators in the same order as the stock file of that level, which is all that is needed.
    """
    ours = Interpreter(model_content=model) if interpreter is None else interpreter
    ours.allocate_tensors()
    graph = Model.from_bytes(model).graph.main
    mine = ours.model.graph.main
    result = Exactness(oracle.name, len(inputs), len(graph.operators))
    pairs = _pairs(graph.operators, mine.operators)
    per_invoke = sum(graph.tensors[index].bytes for _, index, _ in pairs)
    step = max(CHUNK_BYTES // max(per_invoke, 1), 1)
    for start in range(0, len(inputs), step):
        rows = inputs[start : start + step]
        for row, expected in zip(rows, oracle.run(Job(model, rows)), strict=True):
            for index, value in zip(mine.inputs, row, strict=True):
                ours.set_tensor(index, value)
            ours.invoke()
            for label, theirs, index in pairs:
                _count(result, label, ours.get_tensor(index), expected[theirs])
    return result


def _pairs(theirs: Sequence[Operator], mine: Sequence[Operator]) -> list[tuple[str, int, int]]:
    """Label, tensor there, tensor here of every operator output."""
    return [
        (operator.label, expected, index)
        for operator, own in zip(theirs, mine, strict=True)
        for expected, index in zip(operator.outputs, own.outputs, strict=True)
    ]


def _count(result: Exactness, label: str, value: NDArray[Any], expected: NDArray[Any]) -> None:
    assert (value.dtype, value.shape) == (expected.dtype, expected.shape), label
    different = int(np.count_nonzero(value != expected))
    result.values += value.size
    result.mismatches += different
    if different:
        result.differing[label] = result.differing.get(label, 0) + different
