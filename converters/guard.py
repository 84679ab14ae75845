"""Score levels on samples that they were not fitted to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from converters.fitting import FittedLevels
from converters.sensitivity import loss_tensor, output_loss
from converters.streams import Stream, drop_finished, evaluate, last_uses, level_node, same_inputs
from tflnest.graph import Subgraph
from tflnest.kernels import prepare


def level_outputs(
    subgraph: Subgraph, fitted: FittedLevels, levels: int, inputs: Sequence[NDArray[Any]]
) -> list[NDArray[Any]]:
    """What the source and every level give, where the loss is measured.

    Args:
        subgraph: Main subgraph of the int8 source.
        fitted: What its levels consist of.
        levels: Number of levels of the model.
        inputs: One array per graph input, samples first.

    Returns:
        The outputs of the source, then of every level of the model, samples first.
    """
    users = {index: item for item in fitted.filters for index in item.plan.operators}
    watched = frozenset({loss_tensor(subgraph).index})
    source: Stream = dict(zip(subgraph.inputs, inputs, strict=True))
    streams: list[Stream] = [dict(source) for _ in range(levels)]
    last_use = last_uses(subgraph)
    for operator in subgraph.operators:
        kernel = prepare(level_node(subgraph, operator))
        evaluate(subgraph, operator, kernel, source)
        rounded = users.get(operator.index)
        for number, stream in enumerate(streams):
            if rounded is not None and rounded.plan.subgraph == subgraph.index:
                own = rounded.plan.model_levels[number]
                level = fitted.parameters[subgraph.index, operator.index][own]
                level_kernel = prepare(
                    level_node(subgraph, operator, rounded.levels[own], level.bias, level.scales)
                )
                evaluate(subgraph, operator, level_kernel, stream)
            elif same_inputs(operator, source, stream):
                stream.update({index: source[index] for index in operator.outputs})
            else:
                evaluate(subgraph, operator, kernel, stream)
        for stream in (source, *streams):
            drop_finished(stream, last_use, operator, watched)
    (index,) = watched
    return [stream[index] for stream in (source, *streams)]


def level_losses(
    subgraph: Subgraph, fitted: FittedLevels, levels: int, inputs: Sequence[NDArray[Any]]
) -> list[float]:
    """How far every level is from the source; see `output_loss`."""
    source, *outputs = level_outputs(subgraph, fitted, levels, inputs)
    return [output_loss(subgraph, loss_tensor(subgraph), source, values) for values in outputs]
