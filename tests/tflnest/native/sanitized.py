"""Runs the device's C kernels under address and undefined-behaviour sanitizers.

    LD_PRELOAD=$(gcc -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0 \
        python -m tests.tflnest.native.sanitized [--seeds N] [--fuzz N] [--weighted] [--misshapen N] [COMPILER-FLAG ...]

Every activation, constant and scratch buffer is memory of its own with exactly the bytes it needs, so that a
sanitizer sees one byte too far. Runs the operator sweep against the reference kernels, models whose shapes
contradict each other, then kernels with random parameters that their checks accept. Prints counts; a sanitizer ends the process with its report.
"""

from __future__ import annotations

import argparse
import ctypes
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tflnest.native.engine
import tflnest.native.program
from tests.models import everything, nested
from tests.operator_sweep import CASES, draw
from tests.tflnest.native.test_engine import assert_same
from tflnest.device.convolutions import CONV, DEPTHWISE_CONV, FULLY_CONNECTED
from tflnest.device.parameters import (
    ConvParams,
    DepthwiseConvParams,
    Extent,
    Filter,
    FullyConnectedParams,
    Requantization,
    Shape,
)
from tflnest.device.structures import Computed, Constant, Memory
from tflnest.device.weights import nested_filter
from tflnest.errors import FormatError
from tflnest.model import Model
from tflnest.native.compiler import Compiler, shared_library
from tflnest.native.frame import Frame, Segment
from tflnest.native.library import STATUS_OK, Library, Step, unit
from tflnest.nesting import Nesting, Scheme
from tflnest.packing import packed_bytes
from tflnest.parts import Part

FLAGS = ("-std=c99", "-O1", "-g", "-fPIC", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")

#: Elements up to which random parameters are run, and not only checked.
MAX_ELEMENTS = 1 << 16


class SeparateFrame(Frame):
    """Every buffer is memory of its own."""

    def _activations(self, segments: Any, kept: bool, outside: frozenset[int]) -> dict[int, NDArray[Any]]:
        indices: set[int] = set()
        for segment in segments:
            assert isinstance(segment, Segment)
            indices |= {*segment.read, *segment.written}
        return {
            index: self._view(exact(self._tensors[index].bytes * self._samples), index) for index in indices
        }

    def _scratch_address(self, size: int) -> int:
        memory = exact(size)
        self._kept.append(memory)
        return int(memory.ctypes.data)


_malloc = ctypes.CDLL(None).malloc
_malloc.argtypes, _malloc.restype = [ctypes.c_size_t], ctypes.c_void_p


def exact(size: int) -> NDArray[np.uint8]:
    """Zeroed memory of so many bytes, from the sanitizer's malloc; never given back."""
    memory = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(_malloc(size)))
    memory[:] = 0
    return memory


def separate_constants(read: Callable[[int], NDArray[Any]]) -> Callable[[Constant], NDArray[Any]]:
    """Locates constants in copies of their own."""

    def locate(constant: Constant) -> NDArray[Any]:
        values = read(constant.tensor).reshape(-1)
        part = values.view(np.uint8)[constant.offset :]
        copy = exact(part.size)
        copy[:] = part
        return copy if constant.offset else copy.view(values.dtype)

    return locate


# ------------------------------------------------------------------------------------------------------ sweep


CHAINS = (("bucket", (3, 5, 8)), ("compensated", (2, 4, 8)))
WEIGHTED = tuple(name for name in CASES if name.startswith(("CONV", "DEPTH", "FULLY")))


def sweep(names: Sequence[str], seeds: int) -> int:
    """Run the operator sweep; returns the number of models."""
    count = 0
    for name in names:
        for seed in range(seeds):
            case = draw(name, 500 + seed, extreme=seed % 2 == 1)
            model = Model.from_bytes(case.model)
            assert_same(model, case.inputs)
            count += 1
            for scheme, levels in CHAINS if name in WEIGHTED else ():
                whole = nested(model, everything(levels, scheme))
                for level in levels:
                    assert_same(whole, case.inputs, level=level)
                    count += 1
    return count


def misshape(content: bytes, rng: np.random.Generator) -> Model | None:
    """The model with the shape of one tensor changed; None where it can no longer be read."""
    model = Model.from_bytes(content)
    tensors = model.tree.subgraphs[0].tensors
    tensor = tensors[int(rng.integers(len(tensors)))]
    shape = [int(size) for size in (tensor.shape if tensor.shape is not None else ())]
    kind = int(rng.integers(4)) if shape else 2
    if kind == 0:
        axis = int(rng.integers(len(shape)))
        shape[axis] = max(1, shape[axis] + int(rng.choice([-2, -1, 1, 2, 7])))
    elif kind == 1:
        shape.pop(int(rng.integers(len(shape))))
    elif kind == 2:
        shape.insert(int(rng.integers(len(shape) + 1)), int(rng.integers(1, 4)))
    else:
        shape = [int(size) for size in rng.permutation(shape)]
    tensor.shape, tensor.shapeSignature = np.array(shape, np.int32), None
    model.changed()
    try:
        return Model.from_bytes(model.to_bytes())
    except FormatError:
        return None


def sweep_misshapen(names: Sequence[str], count: int) -> int:
    """Run models that contradict themselves: both engines refuse them alike, or compute the same."""
    rng = np.random.default_rng(count)
    readable = 0
    for name in names:
        for _ in range(count):
            case = draw(name, int(rng.integers(1 << 20)))
            model = misshape(case.model, rng)
            if model is not None:
                tensors = model.graph.main.input_tensors()
                rows = [
                    [np.resize(value, tensor.shape) for value, tensor in zip(row, tensors, strict=True)]
                    for row in case.inputs
                ]
                assert_same(model, rows, same_words=False)
                readable += 1
    return readable


# -------------------------------------------------------------------------------------------------- parameters


@dataclass(frozen=True)
class Trial:
    """A kernel with parameters and a filter."""

    function: Any
    params: Any
    filter: Filter
    sizes: tuple[int, int]


def random_trial(rng: np.random.Generator) -> Trial:
    """Parameters that may or may not make sense."""
    wild = rng.random() < 0.3

    def number(high: int, low: int = 1) -> int:
        if wild and rng.random() < 0.15:
            return int(
                rng.choice([-1, 0, 1, 127, 1 << 16, (1 << 24) - 1, 1 << 24, (1 << 31) - 1, -(1 << 31)])
            )
        return int(rng.integers(low, high + 1))

    def extent(high: int, low: int = 1) -> Extent:
        return Extent(number(high, low), number(high, low))

    zero_points = number(127, -128), number(127, -128)
    low = number(127, -128)
    fixed = Requantization(*zero_points, low, number(127, low if -128 <= low <= 127 else -128))
    batches, depth, channels = number(2), number(36), number(36)
    kind = int(rng.integers(0, 3))
    if kind == 0:
        params: Any = FullyConnectedParams(batches, depth, channels, number(20), fixed)
        return trial(
            rng, FULLY_CONNECTED, params, channels, depth * channels, (batches * depth, batches * channels)
        )
    if kind == 1 and rng.random() < 0.8:
        channels = depth * int(rng.integers(1, 4))
    groups = int(rng.integers(1, 4)) if kind == 2 else 1
    if kind == 2:
        depth, channels = depth * groups, channels * groups
    source = Shape(batches, number(9), number(9), depth)
    target = Shape(batches, number(9), number(9), channels)
    taps = extent(5)
    weights = taps.height * taps.width * channels * (1 if kind == 1 else depth // max(groups, 1))
    window = (taps, extent(3), extent(3), extent(4, 0))
    sizes = (elements(source), elements(target))
    if kind == 1:
        depthwise = DepthwiseConvParams(source, target, *window, number(20), fixed)
        return trial(rng, DEPTHWISE_CONV, depthwise, channels, weights, sizes)
    return trial(
        rng, CONV, ConvParams(source, target, *window, groups, number(20), fixed), channels, weights, sizes
    )


def elements(shape: Shape) -> int:
    return shape.batches * shape.height * shape.width * shape.channels


def trial(
    rng: np.random.Generator, function: Any, params: Any, channels: int, weights: int, sizes: tuple[int, int]
) -> Trial:
    """Add a random filter."""
    per_channel = bool(rng.integers(0, 2))
    if not (0 < channels <= MAX_ELEMENTS and 0 < weights <= 16 * MAX_ELEMENTS):
        channels = weights = 16  # a stand-in, with which the kernel is not run
        per_channel, sizes = False, (MAX_ELEMENTS + 1, 0)
    scales = channels if per_channel else 1
    hostile = rng.random() < 0.2
    multipliers = rng.integers(-(1 << 31) if hostile else 0, 1 << 31, scales).astype(np.int32)
    shifts = rng.integers(-40 if hostile else -31, 40 if hostile else 31, scales).astype(np.int8)
    bias = Computed(copied(rng.integers(-(1 << 31), 1 << 31, channels).astype(np.int32)), "bias")
    common = {
        "bias": bias if rng.random() < 0.8 else None,
        "multipliers": Computed(copied(multipliers), "multipliers"),
        "shifts": Computed(copied(shifts), "shifts"),
        "per_channel": int(per_channel),
    }
    if rng.random() < 0.5:
        values = Computed(copied(rng.integers(-128, 128, weights).astype(np.int8)), "filter")
        flat = Filter(values=values, fields=(), field_count=0, offset=0, disjoint=0, **common)
        return Trial(function, params, flat, sizes)
    levels = ((4, 6, 8), (3, 5, 8), (2, 4, 6, 8), (1, 8))[int(rng.integers(0, 4))]
    nesting = Nesting(levels, list(Scheme)[int(rng.integers(0, 2))])
    level = levels[int(rng.integers(0, len(levels)))]
    parts = [Part(number, 0, 0) for number in range(len(levels))]
    nothing = Part(0, 0, 0)
    made = nested_filter(nesting, level, parts, weights, bias=nothing, multipliers=nothing, shifts=nothing)
    if rng.random() < 0.2:
        changes = {
            "disjoint": int(rng.integers(0, 3)),
            "offset": int(rng.integers(0, 256)),
            "field_count": int(rng.integers(0, made.field_count + 1)),
        }
        made = replace(made, **changes)
    planes = [
        copied(rng.integers(0, 256, packed_bytes(weights, plane.bits)).astype(np.uint8))
        for plane in nesting.planes
    ]
    fields = tuple(
        replace(field, codes=Computed(planes[field.codes.tensor][field.codes.offset :], "codes"))
        for field in made.fields
    )
    return Trial(function, params, replace(made, fields=fields, **common), sizes)


def copied(values: NDArray[Any]) -> NDArray[Any]:
    """The values in memory of their own."""
    memory = exact(values.nbytes)
    memory[:] = values.view(np.uint8)
    return memory.view(values.dtype)


def run_trial(library: Library, item: Trial) -> str:
    """Check the parameters, and run the kernel where the check accepts them."""
    memory = Memory(lambda constant: np.zeros(0))
    try:
        params, filter_ = memory.make(item.params), memory.make(item.filter)
    except ValueError:  # a product that no member can hold
        return "refused"
    if library.check(item.function, params, filter_) != STATUS_OK:
        return "refused"
    if max(item.sizes) > MAX_ELEMENTS:
        return "accepted"
    source, target = exact(item.sizes[0]), exact(item.sizes[1])
    scratch = exact(library.buffer_size(item.function, params))
    pointers = [ctypes.addressof(params), ctypes.addressof(filter_)]
    pointers += [array.ctypes.data for array in (source, target, scratch)]
    array = (ctypes.c_void_p * len(pointers))(*pointers)
    kernel = item.function.kernel(item.params)
    library.run((Step * 1)(Step(library.call(kernel), ctypes.addressof(array))), 1)
    low, high = item.params.requantization.activation_min, item.params.requantization.activation_max
    values = target.view(np.int8)
    assert values.min() >= low and values.max() <= high
    return "ran"


def main() -> int:
    """Run everything and print counts."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--fuzz", type=int, default=2000)
    parser.add_argument("--misshapen", type=int, default=0, help="models per operator with a changed shape")
    parser.add_argument("--weighted", action="store_true", help="operators with weights only")
    arguments, flags = parser.parse_known_args()
    library = Library(shared_library(unit(), Compiler.find(), (*FLAGS, *flags)))
    tflnest.native.engine.library = lambda: library
    tflnest.native.engine.constant_location = separate_constants
    tflnest.native.program.Frame = SeparateFrame
    models = sweep(WEIGHTED if arguments.weighted else tuple(CASES), arguments.seeds)
    misshapen = sweep_misshapen(tuple(CASES), arguments.misshapen)
    rng = np.random.default_rng(arguments.seeds)
    results = [run_trial(library, random_trial(rng)) for _ in range(arguments.fuzz)]
    counts = {name: results.count(name) for name in ("ran", "accepted", "refused")}
    sys.stdout.write(f"{models} {misshapen} {counts['ran']} {counts['accepted']} {counts['refused']}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
