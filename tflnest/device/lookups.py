"""Functions of one value as tables, and QUANTIZE and CAST between integer types."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tflnest.device.calls import Argument, Call, Function, declare
from tflnest.device.loops import check_not_empty
from tflnest.device.movement import copied_call
from tflnest.device.registry import register
from tflnest.device.structures import (
    INT8,
    INT16,
    INT32,
    Computed,
    Int8Data,
    Int32,
    Int32Data,
    c_struct,
)
from tflnest.graph import DTYPES, Tensor
from tflnest.kernels.checks import input_tensor, output_tensor, require_type, unsupported, zero_point_of
from tflnest.kernels.conversion import quantize_factor
from tflnest.kernels.registry import Node, prepare

_HEADER = "tflnest/tflnest_lookup.h"


@c_struct("tflnest_lookup_params")
@dataclass(frozen=True)
class LookupParams:
    """A table of bytes."""

    size: Int32
    table: Int8Data

    def for_samples(self, count: int) -> LookupParams:
        """The same for so many times the elements."""
        return replace(self, size=self.size * count)


@c_struct("tflnest_lookup_wide_params")
@dataclass(frozen=True)
class LookupWideParams:
    """A table of wider values."""

    size: Int32
    table: Int32Data

    def for_samples(self, count: int) -> LookupWideParams:
        """The same for so many times the elements."""
        return replace(self, size=self.size * count)


@c_struct("tflnest_quantize_params")
@dataclass(frozen=True)
class QuantizeParams:
    """From one quantization to another."""

    size: Int32
    output_bytes: Int32
    input_zero_point: Int32
    multiplier: Int32
    shift: Int32
    output_zero_point: Int32

    def for_samples(self, count: int) -> QuantizeParams:
        """The same for so many times the elements."""
        return replace(self, size=self.size * count)


LOOKUP = declare(Function("tflnest_lookup_s8", _HEADER, LookupParams))
LOOKUP_S16 = declare(Function("tflnest_lookup_wide_s16", _HEADER, LookupWideParams, outputs=(INT16,)))
LOOKUP_S32 = declare(Function("tflnest_lookup_wide_s32", _HEADER, LookupWideParams, outputs=(INT32,)))

_QUANTIZE_HEADER = "tflnest/tflnest_quantize.h"
QUANTIZE_S16 = declare(
    Function("tflnest_quantize_s16", _QUANTIZE_HEADER, QuantizeParams, inputs=(INT16,), outputs=(INT8,))
)
QUANTIZE_S32 = declare(
    Function("tflnest_quantize_s32", _QUANTIZE_HEADER, QuantizeParams, inputs=(INT32,), outputs=(INT8,))
)

#: Types of 8 bits, whose functions are tables.
BYTES = ("INT8", "UINT8", "BOOL")

_INTEGERS = ("INT8", "UINT8", "INT16", "INT32", "UINT32", "INT64")


def _all_bytes(type_name: str) -> NDArray[Any]:
    """Every value of a type of 8 bits, in the order in which their bytes count."""
    if type_name == "BOOL":
        return np.arange(256) > 0
    return np.arange(256, dtype=np.uint8).view(DTYPES[type_name])


def lookup_call(node: Node, position: int = 0, constant: Tensor | None = None) -> Call:
    """An operator that is a function of one input of 8 bits, as the reference kernel computes it.

    Args:
        node: The operator; its output has 8, 16 or 32 bits.
        position: Which input.
        constant: Its other input, a single value, where it has two.
    """
    source, output = input_tensor(node, position), output_tensor(node)
    arrays: list[NDArray[Any] | None] = [None if constant is None else constant.data] * len(node.inputs)
    arrays[position] = _all_bytes(source.type)
    (results,) = prepare(node).evaluate(arrays)
    results = np.ascontiguousarray(results.reshape(-1))
    return Call(*_tabulated(results, output.size), (Argument(source.index),), (Argument(output.index),))


def _tabulated(results: NDArray[Any], size: int) -> tuple[Function, LookupParams | LookupWideParams]:
    """The kernel and the parameters for a table of 256 results."""
    if results.itemsize == 1:
        return LOOKUP, LookupParams(size, Computed(results.view(np.int8), "table"))
    function = LOOKUP_S16 if results.itemsize == 2 else LOOKUP_S32
    return function, LookupWideParams(size, Computed(results.astype(np.int32), "table"))


def _bind_activation(node: Node) -> tuple[Call, ...]:
    """An activation function; int8 only."""
    require_type(node, input_tensor(node, 0), ("INT8",))
    check_not_empty(node)
    return (lookup_call(node),)


for _name in ("HARD_SWISH", "LEAKY_RELU", "LOGISTIC", "RELU", "RELU6", "TANH"):
    register(_name)(_bind_activation)


@register("QUANTIZE")
def bind_quantize(node: Node) -> tuple[Call, ...]:
    """QUANTIZE from one integer type to another."""
    source, output = input_tensor(node, 0), output_tensor(node)
    require_type(node, source, ("INT8", "UINT8", "INT16", "INT32"))
    prepare(node)
    check_not_empty(node)
    if source.type in BYTES:
        return (lookup_call(node),)
    multiplier, shift = quantize_factor(node, source, output)
    params = QuantizeParams(
        size=output.size,
        output_bytes=output.dtype.itemsize,
        input_zero_point=zero_point_of(node, source),
        multiplier=multiplier,
        shift=shift,
        output_zero_point=zero_point_of(node, output),
    )
    function = QUANTIZE_S16 if source.type == "INT16" else QUANTIZE_S32
    return (Call(function, params, (Argument(source.index),), (Argument(output.index),)),)


@register("CAST")
def bind_cast(node: Node) -> tuple[Call, ...]:
    """CAST of integers: by table from 8 bits to at most 32, else to narrower ones, whose low bytes are copied."""
    source, output = input_tensor(node, 0), output_tensor(node)
    require_type(node, source, (*_INTEGERS, "BOOL"))
    require_type(node, output, (*_INTEGERS, "BOOL"))
    prepare(node)
    check_not_empty(node)
    width, target = source.dtype.itemsize, output.dtype.itemsize
    if source.type in BYTES and target <= 4:
        return (lookup_call(node),)
    if target > width or output.type == "BOOL":
        raise unsupported(node, f"from {source.type} to {output.type}")
    return (copied_call(source, output, [output.size], [width], [target], run=target),)
