"""When each tensor of a model is alive, as TensorFlow Lite Micro counts it.

Time is a counter that goes up by one for every operator, and once more for every subgraph that a control
flow operator enters. Source: TFLM micro_allocation_info.cc.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tflnest.errors import FormatError
from tflnest.graph import Graph, Operator

#: Most operators that are walked; subgraphs that enter others twice multiply.
MAX_STEPS = 100_000

#: First and last time of a tensor that nothing uses; it is planned all the same.
UNUSED = -1

#: Options of the control flow operators that name subgraphs, in the order in which they are entered.
SUBGRAPH_OPTIONS = {
    "IF": ("then_subgraph_index", "else_subgraph_index"),
    "CALL_ONCE": ("init_subgraph_index",),
    "WHILE": ("cond_subgraph_index", "body_subgraph_index"),
}


@dataclass
class Lifetimes:
    """First and last time of tensors and operators.

    Attributes:
        tensors: (subgraph, tensor) -> [first, last], both inclusive.
        operators: (subgraph, operator) -> (first, last); more than one step for control flow.
    """

    tensors: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    operators: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)

    def of(self, subgraph: int, tensor: int) -> tuple[int, int]:
        """First and last time of a tensor; both `UNUSED` where nothing uses it."""
        first, last = self.tensors.get((subgraph, tensor), (UNUSED, UNUSED))
        return first, last


def lifetimes(graph: Graph) -> Lifetimes:
    """Count the lifetimes of a model.

    Raises:
        FormatError: A control flow operator names a subgraph that does not exist, or one that it is part of; or
            there are more than `MAX_STEPS` operators to walk.
    """
    result = Lifetimes()
    _Marker(graph, result).mark(0)
    return result


class _Marker:
    def __init__(self, graph: Graph, result: Lifetimes) -> None:
        self._graph = graph
        self._result = result
        self._now = 0
        self._entered: list[int] = []

    def mark(self, number: int) -> None:
        subgraph = self._graph.subgraphs[number]
        self._entered.append(number)
        for tensor in subgraph.inputs:
            self._use(number, tensor, create=True)
        for operator in subgraph.operators:
            self._now += 1
            if self._now > MAX_STEPS:
                raise FormatError(f"the control flow of the model enters more than {MAX_STEPS:,} operators")
            start = self._now
            for tensor in operator.outputs:
                self._create(number, tensor)
            for entered in self._subgraphs_of(operator, number):
                self._now += 1
                self.mark(entered)
            for tensor in operator.inputs + operator.outputs:
                if tensor >= 0:
                    self._use(number, tensor)
            self._result.operators[number, operator.index] = (start, self._now)
        for tensor in subgraph.outputs:
            self._use(number, tensor, create=True)
        self._entered.pop()

    def _subgraphs_of(self, operator: Operator, number: int) -> list[int]:
        options: Mapping[str, object] = operator.options
        named = [options.get(key) for key in SUBGRAPH_OPTIONS.get(operator.name, ())]
        for index in named:
            where = f"subgraph {number}, operator {operator.label}"
            if not isinstance(index, int) or not 0 <= index < len(self._graph.subgraphs):
                raise FormatError(
                    f"{where} enters subgraph {index}, and there are {len(self._graph.subgraphs)}"
                )
            if index in self._entered:
                raise FormatError(f"{where} enters subgraph {index}, which it is part of itself")
        return [index for index in named if isinstance(index, int)]

    def _create(self, number: int, tensor: int) -> None:
        life = self._result.tensors.setdefault((number, tensor), [UNUSED, UNUSED])
        if life[0] == UNUSED:
            life[0] = self._now

    def _use(self, number: int, tensor: int, create: bool = False) -> None:
        if create:
            self._create(number, tensor)
        self._result.tensors.setdefault((number, tensor), [UNUSED, UNUSED])[1] = self._now
