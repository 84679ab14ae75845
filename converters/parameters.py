"""What each own level of a nested operator has of its own beside its weights: bias and scales."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from converters.planning import RoundedFilter, source_bias
from tflnest.graph import Graph
from tflnest.nesting import MASTER_BITS

#: Position of an operator: subgraph and operator index.
Place = tuple[int, int]


@dataclass(frozen=True)
class LevelParameters:
    """Bias and filter scales of one own level of one operator.

    Attributes:
        bias: int32 (channels,), in units of the input's scale times the level's filter scale.
        scales: float32 filter scales, as many as the source has; None for the source's own.
        activation_bits: Bits at which the operator reads its activation, 1 to 8.
    """

    bias: NDArray[np.int32]
    scales: NDArray[np.float32] | None = None
    activation_bits: int = MASTER_BITS


#: For each operator the parameters of every own level.
Parameters = dict[Place, list[LevelParameters]]


def source_parameters(graph: Graph, filters: Sequence[RoundedFilter]) -> Parameters:
    """The source's biases and scales for every level of every nested operator."""
    parameters: Parameters = {}
    for rounded in filters:
        subgraph = graph.subgraphs[rounded.plan.subgraph]
        for index in rounded.plan.operators:
            level = LevelParameters(source_bias(subgraph, subgraph.operators[index]))
            parameters[subgraph.index, index] = [level] * len(rounded.levels)
    return parameters
