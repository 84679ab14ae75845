"""Every operator, over many random quantizations, shapes and options, against engines we did not write."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.operator_sweep import CASES, WITHOUT_LITERT, WITHOUT_TFLM, Case, draw
from tests.oracle import (
    Job,
    MicroOracle,
    OracleCrashed,
    OracleError,
    ReferenceOracle,
    WorkerOracle,
    require_wheel,
)
from tflnest.errors import UnsupportedError
from tflnest.fixedpoint import Rounding
from tflnest.kernels import Kernel, Node, prepare, supported_operators
from tflnest.model import Model

DEFAULT_CASES = 12
SLOW_CASES = 200

#: Of the random models of a case, the share that the oracle must be able to run.
ANSWERED = 0.75


@pytest.fixture(scope="module")
def oracles() -> Iterator[dict[str, WorkerOracle]]:
    with MicroOracle() as micro, ReferenceOracle() as reference:
        yield {"tflm": micro, "litert": reference}


def oracle_of(name: str, oracles: dict[str, WorkerOracle]) -> WorkerOracle:
    """TFLM where it has the operator and is installed, LiteRT's reference kernels elsewhere."""
    if name not in WITHOUT_TFLM and MicroOracle.available():
        return oracles["tflm"]
    if name in WITHOUT_LITERT:
        pytest.skip(
            "the package tflite_micro is not installed, and LiteRT computes this operator differently"
        )
    return oracles["litert"]


def identifier(name: str) -> str:
    return f"{name}-{'litert' if name in WITHOUT_TFLM else 'tflm'}"


def prepared(model: bytes, rounding: Rounding = Rounding.DOUBLE) -> tuple[Kernel, Node]:
    graph = Model.from_bytes(model).graph.main
    operator = graph.operators[0]
    inputs = tuple(graph.tensors[index] if index >= 0 else None for index in operator.inputs)
    node = Node(operator, inputs, tuple(graph.tensors[index] for index in operator.outputs), rounding)
    return prepare(node), node


def arrays(model: bytes, node: Node, row: list[NDArray]) -> list[NDArray | None]:
    """Constants and the caller's values in the operator's order."""
    given = dict(zip(Model.from_bytes(model).graph.main.inputs, row, strict=True))
    return [None if tensor is None else given.get(tensor.index, tensor.data) for tensor in node.inputs]


def check(case: Case, expected: list[dict[int, NDArray]]) -> None:
    kernel, node = prepared(case.model)
    results = []
    for row, values in zip(case.inputs, expected, strict=True):
        inputs = arrays(case.model, node, row)
        before = [None if value is None else value.copy() for value in inputs]
        outputs = kernel.evaluate(inputs)
        results.append(outputs)
        for tensor, output in zip(node.outputs, outputs, strict=True):
            assert (output.dtype, output.shape) == (tensor.dtype, tensor.shape)
            np.testing.assert_array_equal(output, values[tensor.index], err_msg=f"{node.operator}")
        for old, new in zip(before, inputs, strict=True):
            np.testing.assert_array_equal(old, new)
    if kernel.batchable:
        check_batch(case, kernel, node, results)


def check_batch(case: Case, kernel: Kernel, node: Node, results: list[tuple[NDArray, ...]]) -> None:
    """Samples laid end to end give the outputs laid end to end."""
    rows = [arrays(case.model, node, row) for row in case.inputs]
    stacked = [
        values[0] if tensor is None or tensor.is_constant else np.concatenate(values)
        for tensor, values in zip(node.inputs, zip(*rows, strict=True), strict=True)
    ]
    for output, parts in zip(kernel.evaluate(stacked), zip(*results, strict=True), strict=True):
        np.testing.assert_array_equal(output, np.concatenate(parts), err_msg=f"batch of {node.operator}")


def sweep(name: str, oracles: dict[str, WorkerOracle], seeds: range) -> None:
    oracle = oracle_of(name, oracles)
    answered = 0
    for seed in seeds:
        case = draw(name, seed)
        try:
            expected = oracle.run(Job(case.model, case.inputs))
        except OracleCrashed:
            continue
        answered += 1
        check(case, expected)
    assert answered >= ANSWERED * len(seeds), f"the oracle answered {answered} of {len(seeds)}"


@pytest.mark.parametrize("name", [pytest.param(name, id=identifier(name)) for name in CASES])
def test_random_models_match_the_oracle(name: str, oracles: dict[str, WorkerOracle]) -> None:
    sweep(name, oracles, range(DEFAULT_CASES))


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(name, id=identifier(name)) for name in CASES])
def test_many_random_models_match_the_oracle(name: str, oracles: dict[str, WorkerOracle]) -> None:
    sweep(name, oracles, range(DEFAULT_CASES, DEFAULT_CASES + SLOW_CASES))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CASES if "int8" in name and name not in WITHOUT_TFLM])
def test_scales_that_make_no_sense(name: str, oracles: dict[str, WorkerOracle]) -> None:
    """Where TFLM gives an answer, ours is the same; where C's arithmetic is undefined, ours may refuse."""
    require_wheel()
    if name == "QUANTIZE-float32-int8":
        pytest.skip("the conversion of large floats to integers is undefined in C")
    equal = 0
    for seed in range(60):
        case = draw(name, seed, extreme=True)
        try:
            expected = oracles["tflm"].run(Job(case.model, case.inputs))
            check(case, expected)
            equal += 1
        except OracleError:
            continue
        except UnsupportedError as error:
            assert "overflows 32 bits" in error.message
    assert equal > 0


@pytest.mark.parametrize(
    "name", [name for name in CASES if "-int8" in name and not name.startswith(("ARG_MAX", "QUANTIZE-float"))]
)
def test_single_rounding_is_close_to_double_rounding(name: str) -> None:
    for seed in range(3):
        case = draw(name, seed)
        results = []
        for rounding in Rounding:
            kernel, node = prepared(case.model, rounding)
            results.append(kernel.evaluate(arrays(case.model, node, case.inputs[0])))
        for first, second in zip(*results, strict=True):
            difference = np.abs(first.astype(np.float64) - second.astype(np.float64)).max(initial=0)
            assert difference <= 1


def test_every_supported_operator_is_swept() -> None:
    swept = {name.split("-")[0] for name in CASES}
    assert swept >= {name for name in supported_operators() if not name.startswith(("TFLNEST_", "TFLM_"))}
