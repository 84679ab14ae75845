"""The kernel that reads activations at fewer bits, on this machine; boards run it in generated firmware."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from tests.runtime.operator_library import GUARD_VALUE, build
from tflnest.device.narrowing import NARROW, NarrowParams
from tflnest.device.structures import Memory
from tflnest.narrowing import narrowed
from tflnest.native.library import Library, Step


@pytest.fixture(scope="module", params=["-O2", "-O3 -march=native", "-O1 -DTFLNEST_PORTABLE"])
def library(request: pytest.FixtureRequest) -> Library:
    return Library(build(*request.param.split()))


def narrow(library: Library, values: np.ndarray, bits: int, in_place: bool) -> np.ndarray:
    memory = Memory(lambda constant: values)
    params = memory.make(NarrowParams(values.size, bits))
    assert library.check(NARROW, params, None) == 0
    source = np.full(values.size + 32, GUARD_VALUE, np.int8)
    source[16:-16] = values
    target = source if in_place else np.full_like(source, GUARD_VALUE)
    pointers = [ctypes.addressof(params), source.ctypes.data + 16, target.ctypes.data + 16]
    arguments = (ctypes.c_void_p * 3)(*pointers)
    library.run((Step * 1)(Step(library.call(NARROW), ctypes.addressof(arguments))), 1)
    assert (target[:16] == GUARD_VALUE).all() and (target[-16:] == GUARD_VALUE).all()
    assert in_place or np.array_equal(source[16:-16], values)
    return target[16:-16]


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("bits", range(1, 9))
def test_every_value_and_every_length_of_a_rest(library: Library, bits: int, in_place: bool) -> None:
    every = np.arange(-128, 128).astype(np.int8)
    assert np.array_equal(narrow(library, every, bits, in_place), narrowed(every, bits))
    rng = np.random.default_rng(bits)
    for size in (1, 2, 3, 4, 5, 15, 16, 17, 33, 1000):
        values = rng.integers(-128, 128, size).astype(np.int8)
        assert np.array_equal(narrow(library, values, bits, in_place), narrowed(values, bits))


def test_parameters_that_make_no_sense_are_refused(library: Library) -> None:
    memory = Memory(lambda constant: np.zeros(1))
    for size, bits in ((0, 4), (-1, 4), (5, 0), (5, 9), (5, -3)):
        assert library.check(NARROW, memory.make(NarrowParams(size, bits)), None) != 0
