"""ADD, SUB, MUL, PRELU, MAXIMUM and MINIMUM, int8; by table where one input is a single constant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tflnest.device.calls import Argument, Call, Function, declare
from tflnest.device.lookups import lookup_call
from tflnest.device.loops import Broadcast, broadcast_of, check_not_empty
from tflnest.device.registry import register
from tflnest.device.structures import INT8, Int32, c_struct
from tflnest.graph import Tensor
from tflnest.kernels.activation import checked_prelu
from tflnest.kernels.elementwise import (
    LEFT_SHIFT,
    CheckedSum,
    Factor,
    Pair,
    checked_add,
    checked_mul,
    checked_pair,
    checked_sub,
)
from tflnest.kernels.registry import Node

#: Multiplier and shift of one half: the factor of the input with the larger scale of a sum.
HALF: Factor = (1 << 30, 0)


@c_struct("tflnest_add_params")
@dataclass(frozen=True)
class AddParams:
    """ADD and SUB."""

    broadcast: Broadcast
    first_zero_point: Int32
    first_factor: Int32
    second_zero_point: Int32
    second_left: Int32
    second_multiplier: Int32
    second_right: Int32
    second_sign: Int32
    output_multiplier: Int32
    output_right: Int32
    output_zero_point: Int32
    activation_min: Int32
    activation_max: Int32


@c_struct("tflnest_mul_params")
@dataclass(frozen=True)
class MulParams:
    """MUL."""

    broadcast: Broadcast
    first_zero_point: Int32
    second_zero_point: Int32
    multiplier: Int32
    shift: Int32
    output_zero_point: Int32
    activation_min: Int32
    activation_max: Int32


@c_struct("tflnest_prelu_params")
@dataclass(frozen=True)
class PreluParams:
    """PRELU."""

    broadcast: Broadcast
    first_zero_point: Int32
    second_zero_point: Int32
    identity_multiplier: Int32
    identity_shift: Int32
    slope_multiplier: Int32
    slope_shift: Int32
    output_zero_point: Int32


@c_struct("tflnest_extremum_params")
@dataclass(frozen=True)
class ExtremumParams:
    """MAXIMUM and MINIMUM."""

    broadcast: Broadcast
    largest: Int32


def _binary(name: str, header: str, params: type[Any]) -> Function:
    return declare(Function(name, header, params, inputs=(INT8, INT8)))


ADD = _binary("tflnest_add_s8", "tflnest/tflnest_add.h", AddParams)
MUL = _binary("tflnest_mul_s8", "tflnest/tflnest_mul.h", MulParams)
PRELU = _binary("tflnest_prelu_s8", "tflnest/tflnest_mul.h", PreluParams)
EXTREMUM = _binary("tflnest_extremum_s8", "tflnest/tflnest_extremum.h", ExtremumParams)


def _call(
    node: Node,
    function: Function,
    first: Tensor,
    second: Tensor,
    output: Tensor,
    make: Callable[[Broadcast], Any],
) -> Call:
    """The call of a binary kernel, or a table.

    Args:
        node: The operator.
        function: Its kernel.
        first: The kernel's first input.
        second: The kernel's second input.
        output: The output.
        make: Makes the parameters, given how the inputs go together.
    """
    check_not_empty(node)
    for position, (source, other) in enumerate(_in_order(node, first, second)):
        if other.size == 1 and other.data is not None and source.size == output.size:
            return lookup_call(node, position, other)
    broadcast = broadcast_of(first, second, output)
    arguments = Argument(first.index), Argument(second.index)
    return Call(function, make(broadcast), arguments, (Argument(output.index),))


def _in_order(node: Node, first: Tensor, second: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
    """Each input of the operator with its other input."""
    if node.operator.inputs[0] != first.index:
        first, second = second, first
    return (first, second), (second, first)


def _sum_call(node: Node, checked: CheckedSum) -> Call:
    """A sum whose first input is the one with the larger scale."""
    pair = checked.pair
    first, second, factor, signs = pair.first, pair.second, checked.second, (1, checked.sign)
    if checked.first != HALF:
        first, second, factor, signs = second, first, checked.first, (checked.sign, 1)
    # One half is written as a shift to the right by 1, so that there always is one.
    multiplier, left, right = factor[0], LEFT_SHIFT, max(-factor[1], 1)
    if factor == HALF:
        left += 1

    def make(broadcast: Broadcast) -> AddParams:
        return AddParams(
            broadcast=broadcast,
            first_zero_point=first.zero_point,
            first_factor=signs[0] << (LEFT_SHIFT - 1),
            second_zero_point=second.zero_point,
            second_left=left,
            second_multiplier=multiplier,
            second_right=right,
            second_sign=signs[1],
            output_multiplier=checked.total[0],
            output_right=-checked.total[1],
            output_zero_point=pair.output.zero_point,
            activation_min=checked.range[0],
            activation_max=checked.range[1],
        )

    return _call(node, ADD, first, second, pair.output, make)


@register("ADD")
def bind_add(node: Node) -> tuple[Call, ...]:
    """ADD."""
    return (_sum_call(node, checked_add(node)),)


@register("SUB")
def bind_sub(node: Node) -> tuple[Call, ...]:
    """SUB."""
    return (_sum_call(node, checked_sub(node)),)


@register("MUL")
def bind_mul(node: Node) -> tuple[Call, ...]:
    """MUL."""
    checked = checked_mul(node)
    points = checked.pair.zero_points

    def make(broadcast: Broadcast) -> MulParams:
        return MulParams(broadcast, points[0], points[1], *checked.factor, points[2], *checked.range)

    return (_pair_call(node, MUL, checked.pair, make),)


@register("PRELU")
def bind_prelu(node: Node) -> tuple[Call, ...]:
    """PRELU."""
    checked = checked_prelu(node)
    points = checked.pair.zero_points

    def make(broadcast: Broadcast) -> PreluParams:
        return PreluParams(broadcast, points[0], points[1], *checked.identity, *checked.slope, points[2])

    return (_pair_call(node, PRELU, checked.pair, make),)


@register("MAXIMUM")
def bind_maximum(node: Node) -> tuple[Call, ...]:
    """MAXIMUM."""
    pair = checked_pair(node, ("INT8",))
    return (_pair_call(node, EXTREMUM, pair, lambda broadcast: ExtremumParams(broadcast, 1)),)


@register("MINIMUM")
def bind_minimum(node: Node) -> tuple[Call, ...]:
    """MINIMUM."""
    pair = checked_pair(node, ("INT8",))
    return (_pair_call(node, EXTREMUM, pair, lambda broadcast: ExtremumParams(broadcast, 0)),)


def _pair_call(node: Node, function: Function, pair: Pair, make: Callable[[Broadcast], Any]) -> Call:
    return _call(node, function, pair.first, pair.second, pair.output, make)
