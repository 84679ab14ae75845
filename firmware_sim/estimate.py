"""What an inference costs, roughly: multiply-accumulates from shapes, times a figure of the core.

The figures of the profiles come from instruction counts of int8 kernels; caches, wait states of the flash and
interrupts are not in them. Read the result as "about", not as a measurement. Levels cost the same: decoding
planes takes about 0.3 instructions per weight more than reading int8 weights.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from firmware_sim.board import CycleCosts
from tflnest.controller_entry import Controller
from tflnest.graph import Graph, Operator, Subgraph
from tflnest.nested import is_nested, parse

#: Operators that move no data, or copy it at a byte per cycle.
_COPIES = frozenset({"RESHAPE", "SQUEEZE", "EXPAND_DIMS", "SHAPE"})


@dataclass(frozen=True)
class OperatorCost:
    """Work of one operator in one inference.

    Attributes:
        macs: Multiply-accumulates; taps of a pooling; 0 for other operators.
        cycles: Estimated cycles.
    """

    macs: int
    cycles: float


def operator_cost(operator: Operator, subgraph: Subgraph, costs: CycleCosts) -> OperatorCost:
    """Estimate an operator."""
    name, shape = operator.name, _filter_shape(operator, subgraph)
    if is_nested(operator):
        name = parse(operator, subgraph).stock
    outputs = sum(subgraph.tensors[index].size for index in operator.outputs)
    if name == "CONV_2D" and len(shape) == 4:
        macs = outputs * int(np.prod(shape[1:], dtype=np.int64))
        return OperatorCost(macs, macs * costs.convolution_mac)
    if name == "TRANSPOSE_CONV" and len(shape) == 4 and len(operator.inputs) > 2:
        macs = subgraph.tensors[operator.inputs[2]].size * int(np.prod(shape[:3], dtype=np.int64))
        return OperatorCost(macs, macs * costs.convolution_mac)
    if name == "DEPTHWISE_CONV_2D" and len(shape) == 4:
        macs = outputs * shape[1] * shape[2]
        return OperatorCost(macs, macs * costs.depthwise_mac)
    if name == "FULLY_CONNECTED" and len(shape) == 2:
        macs = outputs * shape[1]
        return OperatorCost(macs, macs * costs.dense_mac)
    if name in ("AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D"):
        options = operator.options
        macs = outputs * int(options.get("filter_width", 1)) * int(options.get("filter_height", 1))
        return OperatorCost(macs, macs * costs.depthwise_mac)
    if name in ("MEAN", "SUM") and operator.inputs and operator.inputs[0] >= 0:
        macs = subgraph.tensors[operator.inputs[0]].size
        return OperatorCost(macs, macs * costs.depthwise_mac)
    return OperatorCost(0, outputs * (1.0 if name in _COPIES else costs.element))


def graph_costs(graph: Graph, costs: CycleCosts, controller: Controller | None = None) -> list[OperatorCost]:
    """Estimate every operator of the main subgraph, in order, and behind them those of a controller.

    What control flow enters is not counted.
    """
    subgraphs = [graph.main, *([] if controller is None else [graph.subgraphs[controller.subgraph]])]
    return [operator_cost(operator, item, costs) for item in subgraphs for operator in item.operators]


def _filter_shape(operator: Operator, subgraph: Subgraph) -> tuple[int, ...]:
    if is_nested(operator):
        return parse(operator, subgraph).filter_shape
    if len(operator.inputs) < 2 or operator.inputs[1] < 0:
        return ()
    return subgraph.tensors[operator.inputs[1]].shape
