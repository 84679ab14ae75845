"""The C kernels' checks refuse parameters that make no sense, before anything runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tflnest.device.calls import Function
from tflnest.device.convolutions import CONV, DEPTHWISE_CONV, FULLY_CONNECTED
from tflnest.device.parameters import (
    ConvParams,
    DepthwiseConvParams,
    Extent,
    Field,
    Filter,
    FullyConnectedParams,
    Requantization,
    Shape,
)
from tflnest.device.structures import Computed, Data, Memory
from tflnest.native.library import STATUS_OK, library

REFUSED = -1
CHANNELS = 6
LARGEST = (1 << 31) - 1

FIXED = Requantization(-128, 127, -128, 127)
WINDOW = (Extent(3, 3), Extent(1, 2), Extent(1, 1), Extent(1, 1))
PARAMS: dict[Function, Any] = {
    CONV: ConvParams(Shape(1, 5, 5, 4), Shape(1, 5, 3, CHANNELS), *WINDOW, 2, 4, FIXED),
    DEPTHWISE_CONV: DepthwiseConvParams(Shape(1, 5, 5, 3), Shape(1, 5, 3, CHANNELS), *WINDOW, 4, FIXED),
    FULLY_CONNECTED: FullyConnectedParams(2, 9, CHANNELS, 4, FIXED),
}

PLANE = np.zeros(256, np.uint8)


def data(dtype: Any, *values: int) -> Computed:
    return Computed(np.array(values, dtype), "values")


def codes(offset: int = 0) -> Computed:
    start = -PLANE.ctypes.data % 8 + offset
    return Computed(PLANE[start:], "codes")


FLAT = Filter(
    values=Computed(np.zeros(256, np.int8), "filter"),
    fields=(),
    field_count=0,
    offset=0,
    disjoint=0,
    per_channel=1,
    bias=data(np.int32, *range(CHANNELS)),
    multipliers=data(np.int32, *[1 << 30] * CHANNELS),
    shifts=data(np.int8, *[-5] * CHANNELS),
)
PACKED = replace(
    FLAT,
    values=None,
    fields=(Field(codes(), 4, 4), Field(codes(), 2, 2)),
    field_count=2,
    offset=130,
    disjoint=1,
)


def status(function: Function, params: Any, filter_: Filter | None) -> int:
    memory = Memory(lambda constant: np.zeros(0))
    made = None if filter_ is None else memory.make(filter_)
    return library().check(function, memory.make(params), made)


def changed(value: Any, path: str, new: Any) -> Any:
    """The value with one member replaced: "input.height"."""
    name, _, rest = path.partition(".")
    return replace(value, **{name: changed(getattr(value, name), rest, new) if rest else new})


@pytest.mark.parametrize("function", PARAMS, ids=lambda item: item.name)
@pytest.mark.parametrize("filter_", [FLAT, PACKED], ids=["flat", "packed"])
def test_sound_parameters_are_accepted(function: Function, filter_: Filter) -> None:
    assert status(function, PARAMS[function], filter_) == STATUS_OK
    assert status(function, PARAMS[function], replace(filter_, bias=None)) == STATUS_OK
    one = replace(filter_, per_channel=0, multipliers=data(np.int32, 5), shifts=data(np.int8, 30))
    assert status(function, PARAMS[function], one) == STATUS_OK


SHAPES = ("input", "output")
DIMENSIONS = ("batches", "height", "width", "channels")
WINDOWED = [
    *(
        (f"{shape}.{name}", value)
        for shape in SHAPES
        for name in DIMENSIONS
        for value in (0, -1, 1 << 24, LARGEST)
    ),
    *(
        (f"{name}.{axis}", value)
        for name in ("filter", "stride", "dilation")
        for axis in ("height", "width")
        for value in (0, -3, 1 << 24, LARGEST, -(1 << 31))
    ),
    *((f"padding.{axis}", value) for axis in ("height", "width") for value in (-1, 1 << 24, LARGEST)),
    ("output.batches", 2),
    ("filter", Extent(300, 300)),
]
COMMON = [
    *(("tile_channels", value) for value in (-1, -(1 << 31))),
    *(
        (f"requantization.{name}", value)
        for name in ("input_zero_point", "output_zero_point", "activation_min", "activation_max")
        for value in (-129, 128, LARGEST, -(1 << 31))
    ),
    ("requantization", Requantization(0, 0, 5, 4)),
]
HOSTILE = [
    *((function, *change) for function in PARAMS for change in COMMON),
    *((function, *change) for function in (CONV, DEPTHWISE_CONV) for change in WINDOWED),
    *((CONV, "groups", value) for value in (0, -1, 3, 4, LARGEST)),
    (DEPTHWISE_CONV, "input.channels", 4),
    *(
        (FULLY_CONNECTED, name, value)
        for name in ("batches", "inputs", "outputs")
        for value in (0, -1, -(1 << 31), LARGEST)
    ),
]


@pytest.mark.parametrize(("function", "path", "value"), HOSTILE)
def test_hostile_parameters_are_refused(function: Function, path: str, value: Any) -> None:
    if value == LARGEST and path == "batches":
        value = LARGEST // 4  # the product with inputs or outputs is what is too large
    params = changed(PARAMS[function], path, value)
    many = replace(FLAT, per_channel=0, bias=None)  # no array depends on the number of channels
    assert status(function, params, many) == REFUSED


def with_field(**changes: Any) -> Filter:
    return replace(PACKED, fields=(replace(PACKED.fields[0], **changes), PACKED.fields[1]))


def with_scale(multiplier: int, shift: int) -> Filter:
    multipliers = [1 << 30] * (CHANNELS - 1) + [multiplier]
    return replace(
        FLAT, multipliers=data(np.int32, *multipliers), shifts=data(np.int8, *[-5] * (CHANNELS - 1), shift)
    )


def both(values: Data) -> Filter:
    return replace(PACKED, values=values)


FILTERS = {
    "no filter": None,
    "no weights": replace(FLAT, values=None),
    "two kinds of weights": both(FLAT.values),
    "no multipliers": replace(FLAT, multipliers=None),
    "no shifts": replace(FLAT, shifts=None),
    "negative multiplier": with_scale(-1, -5),
    "shift too far left": with_scale(1 << 30, 31),
    "shift too far right": with_scale(1 << 30, -32),
    "per_channel is no flag": replace(FLAT, per_channel=2),
    "disjoint is no flag": replace(PACKED, disjoint=2),
    "no fields": replace(PACKED, field_count=0),
    "nine fields": replace(PACKED, fields=(Field(codes(), 1, 0),) * 9, field_count=9, disjoint=0),
    "no field array": replace(PACKED, fields=()),
    "3 bits": with_field(bits=3),
    "0 bits": with_field(bits=0),
    "8 bits": with_field(bits=8, shift=0),
    "shifted out": with_field(shift=5),
    "far shifted out": with_field(shift=255),
    "no codes": with_field(codes=None),
    "codes not aligned": with_field(codes=codes(2)),
    "fields share bits": with_field(bits=2, shift=2),
    "offset carries": replace(PACKED, offset=16),
}


@pytest.mark.parametrize("function", PARAMS, ids=lambda item: item.name)
@pytest.mark.parametrize("filter_", FILTERS.values(), ids=FILTERS.keys())
def test_hostile_filters_are_refused(function: Function, filter_: Filter | None) -> None:
    assert status(function, PARAMS[function], filter_) == REFUSED


@pytest.mark.parametrize("function", PARAMS, ids=lambda item: item.name)
def test_a_field_may_share_bits_where_sums_are_bytes(function: Function) -> None:
    sums = replace(with_field(bits=2, shift=2), disjoint=0)
    assert status(function, PARAMS[function], sums) == STATUS_OK
    assert status(function, PARAMS[function], replace(sums, offset=16)) == STATUS_OK


@pytest.mark.parametrize("function", [CONV, DEPTHWISE_CONV], ids=lambda item: item.name)
@pytest.mark.parametrize("path", ["padding.height", "dilation.height", "stride.height"])
def test_taps_too_far_from_the_image_are_refused(function: Function, path: str) -> None:
    """Their offsets would not fit 31 bits, though every extent is in range."""
    wide = changed(PARAMS[function], "input.width", 4000)
    assert status(function, wide, FLAT) == STATUS_OK
    far = (1 << 24) - 1
    assert status(function, changed(wide, path, far), FLAT) == REFUSED
