"""AVERAGE_POOL_2D, MAX_POOL_2D, MEAN, SUM, ARG_MAX, SOFTMAX and L2_NORMALIZATION."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Annotated

import numpy as np

from tflnest.device.calls import Argument, Call, Function, declare
from tflnest.device.loops import Loop, check_not_empty, contiguous_steps, loops_of
from tflnest.device.parameters import Extent, Shape
from tflnest.device.registry import register
from tflnest.device.structures import INT16, INT32, Array, Computed, Int32, Int32Data, c_struct
from tflnest.kernels.checks import input_tensor, output_tensor, require_type
from tflnest.kernels.pooling import checked_pool
from tflnest.kernels.reduction import checked_arg_max, checked_reduction
from tflnest.kernels.registry import Node, prepare
from tflnest.kernels.softmax import checked_softmax


@c_struct("tflnest_pool_params")
@dataclass(frozen=True)
class PoolParams:
    """AVERAGE_POOL_2D and MAX_POOL_2D."""

    input: Shape
    output: Shape
    filter: Extent
    stride: Extent
    padding: Extent
    activation_min: Int32
    activation_max: Int32

    def for_samples(self, count: int) -> PoolParams:
        """The same for so many times the batches."""
        batches = self.input.batches * count
        return replace(
            self, input=replace(self.input, batches=batches), output=replace(self.output, batches=batches)
        )


@c_struct("tflnest_sum_params")
@dataclass(frozen=True)
class SumParams:
    """MEAN and SUM."""

    run: Int32
    input_size: Int32
    output_size: Int32
    kept_count: Int32
    reduced_count: Int32
    kept_loops: Annotated[tuple[Loop, ...], Array]
    reduced_loops: Annotated[tuple[Loop, ...], Array]
    offset: Int32
    multiplier: Int32
    shift: Int32
    output_zero_point: Int32


@c_struct("tflnest_arg_max_params")
@dataclass(frozen=True)
class ArgMaxParams:
    """ARG_MAX."""

    outer: Int32
    axis: Int32
    inner: Int32
    output_words: Int32


@c_struct("tflnest_softmax_params")
@dataclass(frozen=True)
class SoftmaxParams:
    """SOFTMAX."""

    rows: Int32
    depth: Int32
    table_size: Int32
    exponentials: Int32Data

    def for_samples(self, count: int) -> SoftmaxParams:
        """The same for so many times the rows."""
        return replace(self, rows=self.rows * count)


@c_struct("tflnest_l2_normalization_params")
@dataclass(frozen=True)
class L2NormalizationParams:
    """L2_NORMALIZATION."""

    rows: Int32
    depth: Int32
    zero_point: Int32

    def for_samples(self, count: int) -> L2NormalizationParams:
        """The same for so many times the rows."""
        return replace(self, rows=self.rows * count)


AVERAGE_POOL = declare(Function("tflnest_average_pool_s8", "tflnest/tflnest_pool.h", PoolParams))
MAX_POOL = declare(Function("tflnest_max_pool_s8", "tflnest/tflnest_pool.h", PoolParams))
SUM = declare(Function("tflnest_sum_s8", "tflnest/tflnest_reduce.h", SumParams))
ARG_MAX = declare(Function("tflnest_arg_max_s8", "tflnest/tflnest_reduce.h", ArgMaxParams, outputs=(INT32,)))
SOFTMAX = declare(Function("tflnest_softmax_s8", "tflnest/tflnest_softmax.h", SoftmaxParams))
SOFTMAX_S16 = declare(
    Function("tflnest_softmax_s16", "tflnest/tflnest_softmax.h", SoftmaxParams, outputs=(INT16,))
)
L2_NORMALIZATION = declare(
    Function("tflnest_l2_normalization_s8", "tflnest/tflnest_l2_normalization.h", L2NormalizationParams)
)


def _bind_pool(node: Node, function: Function) -> tuple[Call, ...]:
    checked = checked_pool(node)
    check_not_empty(node)
    window = checked.window
    params = PoolParams(
        input=Shape(*checked.source.shape),
        output=Shape(*checked.output.shape),
        filter=Extent(*window.size),
        stride=Extent(*window.stride),
        padding=Extent(*window.padding),
        activation_min=checked.low,
        activation_max=checked.high,
    )
    return (Call(function, params, (Argument(checked.source.index),), (Argument(checked.output.index),)),)


@register("AVERAGE_POOL_2D")
def bind_average_pool(node: Node) -> tuple[Call, ...]:
    """AVERAGE_POOL_2D."""
    return _bind_pool(node, AVERAGE_POOL)


@register("MAX_POOL_2D")
def bind_max_pool(node: Node) -> tuple[Call, ...]:
    """MAX_POOL_2D."""
    return _bind_pool(node, MAX_POOL)


def _loops_along(axes: Sequence[int], shape: Sequence[int]) -> tuple[Loop, ...]:
    steps = contiguous_steps(shape)
    return loops_of([shape[axis] for axis in axes], [steps[axis] for axis in axes], [0] * len(axes))


def _bind_reduction(node: Node) -> tuple[Call, ...]:
    """MEAN or SUM."""
    checked = checked_reduction(node)
    check_not_empty(node)
    shape = checked.source.shape
    kept = _loops_along([axis for axis in range(len(shape)) if axis not in checked.axes], shape)
    reduced = _loops_along(checked.axes, shape)
    run = 1
    if kept and kept[-1].first_step == 1:
        run, kept = kept[-1].count, kept[:-1]
    offset = -checked.offset
    params = SumParams(
        run=run,
        input_size=checked.source.size,
        output_size=checked.output.size,
        kept_count=len(kept),
        reduced_count=len(reduced),
        kept_loops=kept,
        reduced_loops=reduced,
        offset=(offset + (1 << 31)) % (1 << 32) - (1 << 31),
        multiplier=checked.factor[0],
        shift=checked.factor[1],
        output_zero_point=checked.output.zero_point,
    )
    return (Call(SUM, params, (Argument(checked.source.index),), (Argument(checked.output.index),)),)


register("MEAN")(_bind_reduction)
register("SUM")(_bind_reduction)


@register("ARG_MAX")
def bind_arg_max(node: Node) -> tuple[Call, ...]:
    """ARG_MAX of int8 values."""
    checked = checked_arg_max(node)
    require_type(node, checked.source, ("INT8",))
    check_not_empty(node)
    shape, axis = checked.source.shape, checked.axis
    words = checked.output.dtype.itemsize // 4
    params = ArgMaxParams(prod(shape[:axis]), shape[axis], prod(shape[axis + 1 :]), words)
    return (Call(ARG_MAX, params, (Argument(checked.source.index),), (Argument(checked.output.index),)),)


@register("SOFTMAX")
def bind_softmax(node: Node) -> tuple[Call, ...]:
    """SOFTMAX; exponentials after the last that is not 0 are left out of the table."""
    checked = checked_softmax(node)
    check_not_empty(node)
    source, output = checked.source, checked.output
    depth = source.shape[-1]
    size = int(np.flatnonzero(checked.exponentials)[-1]) + 1
    table = Computed(checked.exponentials[:size].astype(np.int32), "exponentials")
    function = SOFTMAX if output.type == "INT8" else SOFTMAX_S16
    params = SoftmaxParams(source.size // depth, depth, size, table)
    return (Call(function, params, (Argument(source.index),), (Argument(output.index),)),)


@register("L2_NORMALIZATION")
def bind_l2_normalization(node: Node) -> tuple[Call, ...]:
    """L2_NORMALIZATION."""
    prepare(node)
    check_not_empty(node)
    source, output = input_tensor(node, 0), output_tensor(node)
    depth = source.shape[-1]
    params = L2NormalizationParams(source.size // depth, depth, source.zero_point)
    return (Call(L2_NORMALIZATION, params, (Argument(source.index),), (Argument(output.index),)),)
