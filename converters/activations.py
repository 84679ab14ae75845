"""Which quantization each activation of a float model gets.

The TensorFlow Lite 8-bit specification fixes the output of some operators, and asks of others (pooling,
reshaping, concatenation, ...) that inputs and outputs share scale and zero point. Tensors tied together in
that way form a group, which covers the range of all its members.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from converters.affine import SIGNED_UNIT, UNIT, Affine, from_range
from converters.calibration import Range
from tflnest.graph import Operator, Subgraph

#: Operators whose output quantization is fixed.
FIXED = {"SOFTMAX": UNIT, "LOGISTIC": UNIT, "TANH": SIGNED_UNIT, "L2_NORMALIZATION": SIGNED_UNIT}

#: Operators whose inputs and outputs share one quantization. RELU6 is among them because TFLM's kernel clamps
#: without rescaling.
SHARED = frozenset(
    (
        "AVERAGE_POOL_2D",
        "CONCATENATION",
        "EXPAND_DIMS",
        "MAXIMUM",
        "MAX_POOL_2D",
        "MINIMUM",
        "PACK",
        "PAD",
        "PADV2",
        "RELU6",
        "RESHAPE",
        "RESIZE_BILINEAR",
        "RESIZE_NEAREST_NEIGHBOR",
        "SLICE",
        "SPLIT",
        "SPLIT_V",
        "SQUEEZE",
        "STRIDED_SLICE",
        "TRANSPOSE",
        "UNPACK",
    )
)


@dataclass(frozen=True)
class ActivationPlan:
    """Quantization of the float activations of a subgraph.

    Attributes:
        parameters: By tensor index.
        requantized: (operator, input position) of the inputs that must first be brought to the quantization of
            the operator's output, because a fixed one cannot be shared.
        groups: By tensor index, a number that tensors share which must have one quantization.
        fixed: The groups whose quantization the specification fixes.
    """

    parameters: Mapping[int, Affine]
    requantized: tuple[tuple[int, int], ...]
    groups: Mapping[int, int]
    fixed: frozenset[int]


class _Groups:
    """Disjoint sets of tensors, each with the range of its members and perhaps a fixed quantization."""

    def __init__(self, ranges: Mapping[int, Range]) -> None:
        self._parent = {index: index for index in ranges}
        self._range = dict(ranges)
        self._fixed: dict[int, Affine] = {}

    def root(self, index: int) -> int:
        while self._parent[index] != index:
            self._parent[index] = self._parent[self._parent[index]]
            index = self._parent[index]
        return index

    def fix(self, index: int, affine: Affine) -> None:
        self._fixed[self.root(index)] = affine

    def fixed(self, index: int) -> Affine | None:
        return self._fixed.get(self.root(index))

    def join(self, first: int, second: int) -> None:
        a, b = sorted((self.root(first), self.root(second)))
        if a == b:
            return
        self._parent[b] = a
        self._range[a] = self._range[a].union(self._range[b])
        fixed = self._fixed.pop(b, None)
        if fixed is not None:
            self._fixed[a] = fixed

    def affine(self, index: int) -> Affine:
        root = self.root(index)
        return self._fixed.get(root) or from_range(self._range[root])


def plan_activations(subgraph: Subgraph, ranges: Mapping[int, Range]) -> ActivationPlan:
    """Choose the quantization of every float activation.

    Args:
        subgraph: The float model, in execution order.
        ranges: What calibration saw, by tensor index, for every float activation.
    """
    groups = _Groups(ranges)
    requantized: list[tuple[int, int]] = []
    for operator in subgraph.operators:
        if operator.name in FIXED:
            groups.fix(operator.outputs[0], FIXED[operator.name])
        elif operator.name in SHARED:
            requantized += _share(groups, operator, ranges)
    roots = {index: groups.root(index) for index in ranges}
    fixed = frozenset(root for root in roots.values() if groups.fixed(root) is not None)
    return ActivationPlan({index: groups.affine(index) for index in ranges}, tuple(requantized), roots, fixed)


def _share(groups: _Groups, operator: Operator, ranges: Mapping[int, Range]) -> list[tuple[int, int]]:
    """Tie inputs and outputs of one operator together; returns the inputs that cannot be tied."""
    outputs = [index for index in operator.outputs if index in ranges]
    inputs = [(position, index) for position, index in enumerate(operator.inputs) if index in ranges]
    if not outputs or not inputs:
        return []
    for index in outputs[1:]:
        groups.join(outputs[0], index)
    kinds = {groups.fixed(index) for _, index in inputs}
    fixed = next(iter(kinds)) if len(kinds) == 1 else None
    if fixed is not None and not all(_covers(fixed, ranges[index]) for index in outputs):
        fixed = None
    apart = []
    for position, index in inputs:
        if groups.fixed(index) == fixed:
            groups.join(index, outputs[0])
        else:
            apart.append((operator.index, position))
    return apart


def _covers(affine: Affine, seen: Range) -> bool:
    """Whether a fixed quantization represents a range, but for one step at the ends."""
    whole = affine.range
    return whole.low - affine.scale <= seen.low and seen.high <= whole.high + affine.scale
