"""Decide which filters of an int8 model nest, and round those that do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from converters.recipe import Candidate, Decision, Recipe
from converters.rounding import LevelInputs, Problem, round_codes
from tflnest.errors import FormatError
from tflnest.fixedpoint import quantize_multipliers
from tflnest.graph import Graph, Operator, Subgraph, Tensor
from tflnest.nested import CHANNEL_AXIS, FILTER_RANK, MAX_DIMENSION, STOCK_OPTIONS, page_of, unusable_option
from tflnest.nesting import MASTER_BITS, Nesting
from tflnest.requantization import effective_scales, recover_filter_scales

#: Operators through which the model's input reaches the first convolution.
PASS_THROUGH = {"PAD", "PADV2", "TRANSPOSE", "RESHAPE", "QUANTIZE", "EXPAND_DIMS", "SQUEEZE"}


@dataclass(frozen=True)
class PlannedFilter:
    """What happens to one filter, and why.

    Attributes:
        subgraph: Index of the subgraph.
        tensor: The filter.
        operators: Indices of the operators that use it.
        operator_name: Name of these operators.
        nesting: How it is nested; None where it stays flat.
        model_levels: For each level of the model the position in `nesting.levels`.
        rounding: Rounding method.
        reason: Which rule or obstacle decided.
        adjustable: Whether the budget may give it another base width.
    """

    subgraph: int
    tensor: Tensor
    operators: tuple[int, ...]
    operator_name: str
    nesting: Nesting | None
    model_levels: tuple[int, ...]
    rounding: str
    reason: str
    adjustable: bool = False

    @property
    def key(self) -> tuple[int, int]:
        """Subgraph and tensor: what tells filters apart."""
        return self.subgraph, self.tensor.index

    def with_widths(self, widths: Sequence[int]) -> PlannedFilter:
        """The same filter with another width at each level; with 8 bits at all of them it stays flat.

        Args:
            widths: Bits at each level of the model; they do not fall.
        """
        assert self.nesting is not None
        reason = f"sensitivity: {widths[0]} bits at the lowest level"
        if widths[0] == MASTER_BITS:
            return replace(self, nesting=None, model_levels=(), rounding="", reason=reason)
        own = tuple(sorted(set(widths)))
        nesting = replace(self.nesting, levels=own)
        return replace(
            self, nesting=nesting, model_levels=tuple(own.index(width) for width in widths), reason=reason
        )

    def page_of(self, position: int) -> int:
        """The page that brings an own level."""
        return page_of(self.model_levels, position)


@dataclass(frozen=True)
class RoundedFilter:
    """A nested filter: what was planned, and the codes.

    Attributes:
        plan: The plan.
        planes: uint8 codes per plane, shaped like the filter.
        levels: int8 weights per own level, shaped like the filter.
    """

    plan: PlannedFilter
    planes: tuple[NDArray[np.uint8], ...]
    levels: tuple[NDArray[np.int8], ...]


def plan_nesting(graph: Graph, recipe: Recipe) -> list[PlannedFilter]:
    """Decide for every filter of a model.

    Args:
        graph: An int8 model.
        recipe: What the user wants.

    Returns:
        One entry per constant filter of CONV_2D, DEPTHWISE_CONV_2D and FULLY_CONNECTED, in file order.
    """
    planned = []
    for subgraph in graph.subgraphs:
        first = _first_convolution(subgraph)
        users: dict[int, list[Operator]] = {}
        for operator in subgraph.operators:
            if operator.name in STOCK_OPTIONS and len(operator.inputs) >= 2 and operator.inputs[1] >= 0:
                users.setdefault(operator.inputs[1], []).append(operator)
        for index, operators in users.items():
            tensor = subgraph.tensors[index]
            if tensor.is_constant:
                planned.append(_plan_filter(subgraph, tensor, operators, recipe, first))
    return planned


def _first_convolution(subgraph: Subgraph) -> int | None:
    """Index of the first convolution on the way from the model's input; None where there is none."""
    reached = set(subgraph.inputs)
    for operator in subgraph.operators:
        if not operator.inputs or operator.inputs[0] not in reached:
            continue
        if operator.name in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            return operator.index
        if operator.name in PASS_THROUGH:
            reached.update(operator.outputs)
    return None


def _plan_filter(
    subgraph: Subgraph, tensor: Tensor, operators: Sequence[Operator], recipe: Recipe, first: int | None
) -> PlannedFilter:
    indices = tuple(operator.index for operator in operators)
    obstacle = _obstacle(subgraph, tensor, operators)
    if obstacle is not None:
        decision = Decision(None, "", obstacle)
    else:
        first_convolution = first is not None and first in indices
        decision = recipe.decide(Candidate(tensor.name, operators[0].name, tensor.bytes, first_convolution))
    nesting = decision.nesting
    model_levels: tuple[int, ...] = ()
    if nesting is not None:
        nesting, model_levels = _used_levels(nesting, recipe.levels)
    return PlannedFilter(
        subgraph.index,
        tensor,
        indices,
        operators[0].name,
        nesting,
        model_levels,
        decision.rounding,
        decision.reason,
        decision.adjustable,
    )


def _used_levels(nesting: Nesting, model_levels: Sequence[int]) -> tuple[Nesting, tuple[int, ...]]:
    """Which own level each level of the model runs: the highest one not above it, else the own base.

    Own levels that no level of the model runs are left out.
    """
    chosen = [
        max((own for own in nesting.levels if own <= level), default=nesting.levels[0])
        for level in model_levels
    ]
    used = tuple(sorted(set(chosen)))
    return replace(nesting, levels=used), tuple(used.index(level) for level in chosen)


def _obstacle(subgraph: Subgraph, tensor: Tensor, operators: Sequence[Operator]) -> str | None:
    """Why a filter can't be nested; None where it can."""
    if tensor.type != "INT8":
        return f"the filter is {tensor.type}, only INT8 nests"
    if tensor.quantization is None or np.any(tensor.quantization.zero_point):
        return "the filter is not symmetrically quantized"
    if tensor.index in subgraph.outputs:
        return "the filter is an output of the graph"
    for operator in subgraph.operators:
        if tensor.index in operator.inputs and (
            operator.name != operators[0].name or operator.inputs[1] != tensor.index
        ):
            return f"operator {operator.label} uses the same tensor in another way"
    for operator in operators:
        obstacle = _operator_obstacle(subgraph, tensor, operator)
        if obstacle is not None:
            return f"operator {operator.label}: {obstacle}"
    return None


def _operator_obstacle(subgraph: Subgraph, tensor: Tensor, operator: Operator) -> str | None:
    if operator.inputs[0] < 0 or len(operator.inputs) > 3 or len(operator.outputs) != 1:
        return f"it has inputs {list(operator.inputs)} and outputs {list(operator.outputs)}"
    depthwise = operator.name == "DEPTHWISE_CONV_2D"
    if (
        len(tensor.shape) != FILTER_RANK[operator.name]
        or max(tensor.shape) > MAX_DIMENSION
        or (depthwise and tensor.shape[0] != 1)
    ):
        return f"its filter has shape {list(tensor.shape)}"
    unusable = unusable_option(operator.name, operator.version, operator.options)
    if unusable is not None:
        return unusable
    activation, output = subgraph.tensors[operator.inputs[0]], subgraph.tensors[operator.outputs[0]]
    if activation.type != "INT8" or output.type != "INT8":
        return f"it computes {activation.type} to {output.type}, only INT8 to INT8 nests"
    if activation.is_constant or activation.quantization is None or output.quantization is None:
        return "its activations are not quantized"
    if operator.name == "FULLY_CONNECTED" and operator.options.get("weights_format", 0):
        return "its weights are shuffled"
    channels = tensor.shape[CHANNEL_AXIS[operator.name]]
    assert tensor.quantization is not None
    if tensor.quantization.scale.size not in (1, channels):
        return f"{tensor.quantization.scale.size} scales for {channels} channels"
    bias = bias_tensor(subgraph, operator)
    if bias is not None and (bias.type != "INT32" or not bias.is_constant or bias.size != channels):
        return f"its bias is no INT32 constant with {channels} elements"
    try:
        multiplier, shift = filter_multipliers(subgraph, tensor, operator)
        recover_filter_scales(activation.scale, output.scale, multiplier, shift)
    except FormatError as error:
        return error.message
    return None


def bias_tensor(subgraph: Subgraph, operator: Operator) -> Tensor | None:
    """The bias of a stock operator; None where it has none."""
    index = operator.inputs[2] if len(operator.inputs) > 2 else -1
    return None if index < 0 else subgraph.tensors[index]


def source_bias(subgraph: Subgraph, operator: Operator) -> NDArray[np.int32]:
    """The bias of a stock operator, int32 (channels,); zeros where it has none."""
    bias = bias_tensor(subgraph, operator)
    if bias is not None and bias.data is not None:
        return np.array(bias.data, dtype=np.int32).reshape(-1)
    filter_tensor = subgraph.tensors[operator.inputs[1]]
    return np.zeros(filter_tensor.shape[CHANNEL_AXIS[operator.name]], dtype=np.int32)


def filter_multipliers(
    subgraph: Subgraph, tensor: Tensor, operator: Operator, scales: NDArray[np.float32] | None = None
) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
    """Multiplier and shift per channel.

    Args:
        subgraph: The subgraph that the operator stands in.
        tensor: Its filter.
        operator: A stock operator.
        scales: Filter scales of a level; None for the filter's own.

    Raises:
        FormatError: A scale is no positive number, or has no multiplier.
    """
    assert tensor.quantization is not None
    scales = tensor.quantization.scale if scales is None else scales
    activation, output = subgraph.tensors[operator.inputs[0]], subgraph.tensors[operator.outputs[0]]
    if not all(np.isfinite(value) and value > 0 for value in (*scales, activation.scale, output.scale)):
        raise FormatError("a scale is not a positive number")
    effective = effective_scales(activation.scale, scales, output.scale)
    multiplier, shift = quantize_multipliers(effective)
    return multiplier, shift.astype(np.int8)


def round_filter(
    plan: PlannedFilter,
    seed: int,
    inputs: LevelInputs | None = None,
    target: NDArray[np.float64] | None = None,
    method: str | None = None,
) -> RoundedFilter:
    """Round one filter that nests.

    Args:
        plan: How.
        seed: For methods that draw random numbers.
        inputs: What the filter sees, for methods that need data.
        target: Weights to come close to, see `Problem`.
        method: Rounding method; None for the plan's.
    """
    assert plan.nesting is not None and plan.tensor.data is not None
    axis = CHANNEL_AXIS[plan.operator_name]
    problem = Problem(plan.tensor.data, plan.nesting, axis, seed, inputs, target)
    planes = plan.nesting.split(round_codes(method or plan.rounding, problem))
    levels = tuple(plan.nesting.join(planes, level) for level in plan.nesting.levels)
    return RoundedFilter(plan, tuple(planes), levels)


def round_filters(planned: Sequence[PlannedFilter], seed: int) -> list[RoundedFilter]:
    """Round every filter that is to be nested, without data."""
    return [round_filter(plan, seed) for plan in planned if plan.nesting is not None]
