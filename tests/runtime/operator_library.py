"""The C kernels without weights as a shared library, and calls of them with guarded memory.

`python -m tests.runtime.operator_library LIBRARY SEEDS` compares a library with the reference kernels over the
operator sweep; run like this it can have the address sanitizer loaded first.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.operator_sweep import CASES, draw
from tflnest.device import bind, supported_on_device
from tflnest.device.calls import Call, Function, functions
from tflnest.device.narrowing import NARROW, NarrowParams
from tflnest.device.sources import INCLUDE, SOURCE, needed_files
from tflnest.device.structures import Constant, Memory
from tflnest.errors import TflnestError
from tflnest.kernels import Node, prepare
from tflnest.model import Model
from tflnest.narrowing import narrowed
from tflnest.native.compiler import Compiler, Unit, shared_library
from tflnest.native.library import Library, Step, dispatch

WARNINGS = ("-Wall", "-Wextra", "-Wconversion", "-Wdouble-promotion", "-Werror")

#: Bytes around a buffer that must not change.
GUARD = 64
GUARD_VALUE = 0x5A

Row = list[NDArray[Any] | None]


def kernels() -> tuple[Function, ...]:
    """The kernels without weights."""
    return tuple(function for function in functions() if not function.has_filter)


def build(*flags: str, compiler: str | None = None) -> Path:
    """Compile the kernels for this machine; skips where there is no such compiler."""
    files = needed_files((kernel.header for kernel in kernels()), host=True)
    unit = Unit(
        sources=tuple(path for path in files if path.suffix == ".c"),
        headers=tuple(path for path in files if path.suffix == ".h"),
        include=(INCLUDE, SOURCE),
        text=dispatch(kernels()),
    )
    try:
        found = Compiler.find() if compiler is None else Compiler((compiler,), "")
        return shared_library(unit, found, ("-std=c99", "-fPIC", *WARNINGS, *flags))
    except TflnestError as error:
        if "cannot be started" in error.message or "needs a C compiler" in error.message:
            pytest.skip(error.message)
        raise


def node_of(content: bytes) -> Node:
    """The only operator of a model."""
    graph = Model.from_bytes(content).graph.main
    operator = graph.operators[0]
    inputs = tuple(graph.tensors[index] if index >= 0 else None for index in operator.inputs)
    return Node(operator, inputs, tuple(graph.tensors[index] for index in operator.outputs))


def row_of(content: bytes, node: Node, given: Sequence[NDArray[Any]]) -> Row:
    """Constants and the caller's values in the operator's order."""
    values = dict(zip(Model.from_bytes(content).graph.main.inputs, given, strict=True))
    return [None if tensor is None else values.get(tensor.index, tensor.data) for tensor in node.inputs]


def memory_of(node: Node) -> Memory:
    """Makes structures whose constants are those of an operator."""

    def locate(constant: Constant) -> NDArray[Any]:
        tensor = next(item for item in node.inputs if item is not None and item.index == constant.tensor)
        assert tensor.data is not None
        return tensor.data.reshape(-1)

    return Memory(locate)


def check(library: Library, node: Node, call: Call) -> int:
    """What the kernel's `_check` function says of a call."""
    memory = memory_of(node)
    return library.check(call.function, memory.make(call.params), None)


def compute(
    library: Library, node: Node, row: Row, calls: Sequence[Call] | None = None
) -> list[NDArray[Any]]:
    """The outputs of an operator by its C kernels.

    Raises:
        AssertionError: Parameters are refused, an input is changed, or memory beside an output is written.
    """
    memory, kept = memory_of(node), []
    sources = {
        tensor.index: np.ascontiguousarray(values).copy()
        for tensor, values in zip(node.inputs, row, strict=True)
        if tensor is not None and values is not None
    }
    before = {index: values.copy() for index, values in sources.items()}
    results = {
        tensor.index: np.full(tensor.bytes + 2 * GUARD, GUARD_VALUE, np.uint8) for tensor in node.outputs
    }
    for call in bind(node) if calls is None else calls:
        params = memory.make(call.params)
        assert library.check(call.function, params, None) == 0, call
        pointers = [ctypes.addressof(params)]
        pointers += [sources[argument.tensor].ctypes.data for argument in call.inputs]
        pointers += [results[argument.tensor].ctypes.data + GUARD for argument in call.outputs]
        arguments = (ctypes.c_void_p * len(pointers))(*pointers)
        kept.append((params, arguments))
        library.run((Step * 1)(Step(library.call(call.function), ctypes.addressof(arguments))), 1)
    for index, values in sources.items():
        np.testing.assert_array_equal(values, before[index])
    for buffer in results.values():
        assert np.all(buffer[:GUARD] == GUARD_VALUE) and np.all(buffer[-GUARD:] == GUARD_VALUE)
    return [
        results[tensor.index][GUARD:-GUARD].view(tensor.dtype).reshape(tensor.shape)
        for tensor in node.outputs
    ]


def assert_equal(library: Library, node: Node, row: Row) -> None:
    """The C kernels give what the reference kernel gives."""
    expected = prepare(node).evaluate(row)
    for first, second in zip(expected, compute(library, node, row), strict=True):
        np.testing.assert_array_equal(first, second, err_msg=f"{node.operator}")


def sweep(library: Library, name: str, seeds: range, extreme: bool = False) -> int:
    """Compare random models of a case; how many of them the device runtime computes."""
    computed = 0
    for seed in seeds:
        case = draw(name, seed, extreme)
        node = node_of(case.model)
        try:
            prepare(node)
        except TflnestError:
            continue
        if supported_on_device(node) is None:
            computed += 1
            for given in case.inputs:
                assert_equal(library, node, row_of(case.model, node, given))
    return computed


@cache
def swept() -> tuple[str, ...]:
    """The cases that kernels without weights compute."""
    weights = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
    names = [name for name in CASES if name.split("-")[0] not in weights]
    return tuple(name for name in names if supported_on_device(node_of(draw(name, 0).model)) is None)


def narrow(library: Library, values: NDArray[np.int8], bits: int, in_place: bool) -> NDArray[np.int8]:
    """int8 values as the kernel for activations at fewer bits gives them.

    Raises:
        AssertionError: Parameters are refused, the input is changed, or memory beside the output is written.
    """
    params = Memory(lambda _: values).make(NarrowParams(values.size, bits))
    assert library.check(NARROW, params, None) == 0
    source = np.full(values.size + 2 * GUARD, GUARD_VALUE, np.int8)
    source[GUARD:-GUARD] = values
    target = source if in_place else np.full_like(source, GUARD_VALUE)
    pointers = [ctypes.addressof(params), source.ctypes.data + GUARD, target.ctypes.data + GUARD]
    arguments = (ctypes.c_void_p * 3)(*pointers)
    library.run((Step * 1)(Step(library.call(NARROW), ctypes.addressof(arguments))), 1)
    assert (target[:GUARD] == GUARD_VALUE).all() and (target[-GUARD:] == GUARD_VALUE).all()
    assert in_place or np.array_equal(source[GUARD:-GUARD], values)
    return target[GUARD:-GUARD]


def sweep_narrowing(library: Library, bits: int, in_place: bool) -> None:
    """Every value at a width, and every length of a rest."""
    every = np.arange(-128, 128).astype(np.int8)
    np.testing.assert_array_equal(narrow(library, every, bits, in_place), narrowed(every, bits))
    rng = np.random.default_rng(bits)
    for size in (1, 2, 3, 4, 5, 15, 16, 17, 33, 1000):
        values = rng.integers(-128, 128, size).astype(np.int8)
        np.testing.assert_array_equal(narrow(library, values, bits, in_place), narrowed(values, bits))


def main() -> None:
    library = Library(Path(sys.argv[1]))
    for bits in range(1, 9):
        for in_place in (False, True):
            sweep_narrowing(library, bits, in_place)
    for name in swept():
        for extreme in (False, True):
            sweep(library, name, range(int(sys.argv[2])), extreme)
    sys.stdout.write("equal\n")


if __name__ == "__main__":
    main()
