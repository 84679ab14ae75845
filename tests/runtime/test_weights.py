"""Convolution, depthwise convolution and fully connected in C against the reference kernels."""

from __future__ import annotations

import ctypes
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.runtime.weight_cases import (
    NESTINGS,
    Case,
    conv_case,
    depthwise_case,
    fully_connected_case,
    random_case,
)
from tests.runtime.weight_library import build, call
from tflnest.device.parameters import Extent
from tflnest.device.structures import Memory

#: Compiler and flags of each build of the same sources.
BUILDS = {
    "narrow": ("gcc", "-O2", "-DTFLNEST_VARIANT=0"),
    "wide": ("gcc", "-O2", "-DTFLNEST_VARIANT=1"),
    "native": ("gcc", "-O3", "-march=native"),
    "clang": ("clang", "-O2"),
}


@pytest.fixture(scope="module", params=BUILDS)
def library(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    compiler, *flags = BUILDS[request.param]
    return build(tmp_path_factory.mktemp("kernels"), *flags, compiler=compiler)


@pytest.mark.parametrize("seed", range(8))
def test_random_cases_equal_the_reference(library: ctypes.CDLL, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for number in range(50):
        case = random_case(rng)
        assert np.array_equal(call(library, case), case.expected), (number, case.kernel, case.params)
        if number % 4 == 0:
            assert np.array_equal(call(library, case.with_tile(0)), case.expected), (number, case.params)


@pytest.mark.parametrize("nesting", NESTINGS, ids=str)
def test_every_level_of_every_chain(library: ctypes.CDLL, nesting) -> None:
    rng = np.random.default_rng(1)
    for channels in (16, 27, 64):
        case = conv_case(rng, image=(1, 5, 4, channels), channels=channels, nesting=nesting)
        assert np.array_equal(call(library, case), case.expected)
        case = depthwise_case(rng, image=(1, 5, 4, channels), nesting=nesting)
        assert np.array_equal(call(library, case), case.expected)
        case = fully_connected_case(rng, inputs=channels, outputs=18, nesting=nesting)
        assert np.array_equal(call(library, case), case.expected)


@pytest.mark.parametrize("tile", [0, 1, 2, 3, 4, 7, 8, 16, 100])
def test_the_tile_does_not_matter(library: ctypes.CDLL, tile: int) -> None:
    rng = np.random.default_rng(2)
    cases = [
        conv_case(rng, image=(2, 4, 5, 8), channels=18, groups=2, nesting=NESTINGS[1]),
        conv_case(rng, image=(1, 4, 5, 24), channels=9, taps=(1, 1)),
        depthwise_case(rng, image=(2, 4, 5, 7), multiplier=3, nesting=NESTINGS[1]),
        depthwise_case(rng, image=(2, 4, 5, 23), nesting=NESTINGS[1]),
        fully_connected_case(rng, batches=3, inputs=48, outputs=11, nesting=NESTINGS[1]),
    ]
    for case in cases:
        assert np.array_equal(call(library, case.with_tile(tile)), case.expected)


def test_large_sums_with_left_shifts_wrap_like_the_reference(library: ctypes.CDLL) -> None:
    rng = np.random.default_rng(3)
    for style in ("large", "wild"):
        for _ in range(20):
            case = conv_case(rng, image=(1, 3, 3, 200), channels=16, style=style)
            assert np.array_equal(call(library, case), case.expected)


def test_windows_larger_than_the_image(library: ctypes.CDLL) -> None:
    rng = np.random.default_rng(4)
    for dilation in ((1, 1), (5, 3)):
        case = conv_case(rng, image=(1, 2, 3, 4), channels=5, taps=(5, 7), dilation=dilation)
        assert np.array_equal(call(library, case), case.expected)
        case = depthwise_case(rng, image=(1, 2, 3, 4), taps=(5, 7), dilation=dilation)
        assert np.array_equal(call(library, case), case.expected)


def _status(library: ctypes.CDLL, case: Case) -> int:
    memory = Memory(lambda constant: pytest.fail(f"{constant} lies in no file"))
    params, weights = memory.make(case.params), memory.make(case.filter)
    return getattr(library, f"tflnest_{case.kernel}_check")(ctypes.byref(params), ctypes.byref(weights))


def _broken_conv(case: Case) -> list[Case]:
    params = case.params
    changes = [
        {"stride": Extent(0, 1)},
        {"dilation": Extent(1, -1)},
        {"padding": Extent(-1, 0)},
        {"filter": Extent(1 << 12, 1 << 12)},
        {"groups": 3},
        {"groups": 0},
        {"tile_channels": -1},
        {"input": replace(params.input, height=0)},
        {"input": replace(params.input, batches=2)},
        {"output": replace(params.output, width=1 << 30)},
        {"output": replace(params.output, height=1 << 23, width=1 << 23)},
        {"stride": Extent((1 << 24) - 1, 1), "output": replace(params.output, height=1 << 20, width=1)},
        {"requantization": replace(params.requantization, input_zero_point=128)},
        {"requantization": replace(params.requantization, activation_min=5, activation_max=4)},
    ]
    return [replace(case, params=replace(params, **change)) for change in changes]


def _broken_filter(case: Case) -> list[Case]:
    filter_ = case.filter
    first = filter_.fields[0]
    negative = replace(filter_.multipliers, values=-filter_.multipliers.values)
    far = replace(filter_.shifts, values=np.full_like(filter_.shifts.values, 31))
    changes = [
        {"multipliers": negative},
        {"multipliers": None},
        {"shifts": far},
        {"fields": (), "field_count": 0},
        {"field_count": 9},
        {"fields": (replace(first, bits=3), *filter_.fields[1:])},
        {"fields": (replace(first, shift=5), *filter_.fields[1:])},
        {"fields": (replace(first, codes=None), *filter_.fields[1:])},
        {"fields": (first, first), "field_count": 2},
        {"offset": 0x40},
        {"per_channel": 2},
    ]
    return [replace(case, filter=replace(filter_, **change)) for change in changes]


def test_what_a_kernel_does_not_compute_is_refused(library: ctypes.CDLL, tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    nesting = NESTINGS[1]
    assert nesting is not None
    case = conv_case(rng, image=(1, 4, 4, 16), channels=16, nesting=nesting)
    assert _status(library, case) == 0
    for broken in [*_broken_conv(case), *_broken_filter(case)]:
        assert _status(library, broken) == -1, broken
    depthwise = depthwise_case(rng, image=(1, 4, 4, 16), nesting=nesting)
    bad = replace(depthwise.params, input=replace(depthwise.params.input, channels=5))
    assert _status(library, replace(depthwise, params=bad)) == -1
    dense = fully_connected_case(rng, inputs=16, outputs=4, nesting=nesting)
    for change in (
        {"inputs": 0},
        {"inputs": 65537},
        {"batches": 0},
        {"tile_channels": -1},
        {"outputs": 1 << 30},
    ):
        assert _status(library, replace(dense, params=replace(dense.params, **change))) == -1
