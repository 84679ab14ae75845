"""What an inference costs: instructions of the device's kernels by a fitted model, times cycles per instruction.

Where the device runtime lacks an operator, or nothing like it was counted, the cost comes from multiply-accumulates
and a figure of the core. Caches, wait states of the flash and interrupts are not in it: read the result as "about",
not as a measurement.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from firmware_sim.board import Board, CycleCosts
from firmware_sim.firmware.plan import FirmwarePlan, Options, core_of, plan_firmware
from firmware_sim.instructions import InstructionModel, instruction_model
from tflnest.controller_entry import Controller
from tflnest.errors import UnsupportedError
from tflnest.graph import Graph, Operator, Subgraph
from tflnest.model import Model
from tflnest.nested import is_nested, parse

#: Operators that move no data, or copy it at a byte per cycle.
_COPIES = frozenset({"RESHAPE", "SQUEEZE", "EXPAND_DIMS", "SHAPE"})


@dataclass(frozen=True)
class OperatorCost:
    """Work of one operator in one inference.

    Attributes:
        macs: Multiply-accumulates; taps of a pooling; 0 for other operators.
        cycles: Estimated cycles.
        instructions: Of the device's kernels, by the fitted model; None where it does not know them.
    """

    macs: int
    cycles: float
    instructions: float | None = None


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


def firmware_costs(plan: FirmwarePlan, board: Board, level: int) -> list[OperatorCost]:
    """The same for generated firmware, by the fitted model where it knows the kernels.

    Args:
        plan: Of the firmware, with its tiles.
        board: Where it runs.
        level: Position of the model's level.
    """
    program = plan.program
    found = graph_costs(program.model.graph, board.cycles, program.model.controller)
    fitted = instruction_model(board.core)
    if fitted is None:
        return found
    running = {step.operator.index: position for position, step in enumerate(program.steps)}
    return [
        _fitted_cost(fitted, plan, running.get(index), level, board, cost) for index, cost in enumerate(found)
    ]


def _fitted_cost(
    fitted: InstructionModel,
    plan: FirmwarePlan,
    position: int | None,
    level: int,
    board: Board,
    cost: OperatorCost,
) -> OperatorCost:
    """The cost of a step; nothing for an operator that is not in the firmware, which was folded or moves no data."""
    instructions = 0.0 if position is None else fitted.step(plan, position, level)
    if instructions is None:
        return cost
    return replace(cost, cycles=instructions * board.cycles.per_instruction, instructions=instructions)


def model_costs(model: Model, board: Board) -> list[OperatorCost]:
    """Estimate every operator of a model at its highest level; see `graph_costs` and `firmware_costs`."""
    try:
        plan = plan_firmware(model, core_of(board), Options())
    except UnsupportedError:
        return graph_costs(model.graph, board.cycles, model.controller)
    return firmware_costs(plan, board, plan.top)


def _filter_shape(operator: Operator, subgraph: Subgraph) -> tuple[int, ...]:
    if is_nested(operator):
        return parse(operator, subgraph).filter_shape
    if len(operator.inputs) < 2 or operator.inputs[1] < 0:
        return ()
    return subgraph.tensors[operator.inputs[1]].shape
