"""The kernel that reads activations at fewer bits, on this machine; boards run it in generated firmware."""

from __future__ import annotations

import numpy as np
import pytest

from tests.runtime.operator_library import build, sweep_narrowing
from tflnest.device.narrowing import NARROW, NarrowParams
from tflnest.device.structures import Memory
from tflnest.native.library import Library


@pytest.fixture(scope="module", params=["-O2", "-O3 -march=native", "-O1 -DTFLNEST_PORTABLE"])
def library(request: pytest.FixtureRequest) -> Library:
    return Library(build(*request.param.split()))


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("bits", range(1, 9))
def test_every_value_and_every_length_of_a_rest(library: Library, bits: int, in_place: bool) -> None:
    sweep_narrowing(library, bits, in_place)


def test_parameters_that_make_no_sense_are_refused(library: Library) -> None:
    memory = Memory(lambda constant: np.zeros(1))
    for size, bits in ((0, 4), (-1, 4), (5, 0), (5, 9), (5, -3)):
        assert library.check(NARROW, memory.make(NarrowParams(size, bits)), None) != 0
