"""The activation that a controller reads, and what it controls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from converters.quantization import WEIGHTED
from converters.training.network import NestedNetwork
from tflnest.errors import UsageError
from tflnest.graph import Subgraph, Tensor

#: Samples that go through the network together where nobody says how many.
BATCH = 256


@dataclass(frozen=True)
class Stem:
    """Where the controller reads, and what it controls.

    Attributes:
        tensor: Index of the activation in the float graph.
        ready: Operators that have run when it has its values.
        operators: The nested operators behind, by index.
    """

    tensor: int
    ready: int
    operators: tuple[int, ...]


def find_stem(network: NestedNetwork, wanted: str | int | None) -> Stem:
    """The activation that a controller reads.

    Args:
        network: What is controlled.
        wanted: See `ControllerOptions.stem`.

    Raises:
        UsageError: There is no such activation, or nothing behind it nests.
    """
    subgraph = network.preparation.subgraph
    tensor = _stem_tensor(subgraph, wanted)
    if len(tensor.shape) != 4:
        raise UsageError(
            f"the stem {tensor.label} has shape {list(tensor.shape)}: features are pooled over height and width",
            "choose an activation of shape (1, height, width, channels)",
        )
    ready = next(item.index + 1 for item in subgraph.operators if tensor.index in item.outputs)
    behind = tuple(
        index
        for index, item in sorted(network.filters.items())
        if index >= ready and item.nesting is not None
    )
    if not behind:
        raise UsageError(f"no operator behind the stem {tensor.label} nests: there is nothing to choose")
    return Stem(tensor.index, ready, behind)


def _stem_tensor(subgraph: Subgraph, wanted: str | int | None) -> Tensor:
    written = {index: subgraph.tensors[index] for item in subgraph.operators for index in item.outputs}
    if wanted is None:
        first = next(item for item in subgraph.operators if item.name in WEIGHTED)
        return subgraph.tensors[first.outputs[0]]
    for index, tensor in written.items():
        if wanted in (index, tensor.name):
            return tensor
    names = [tensor.name for tensor in written.values() if len(tensor.shape) == 4]
    raise UsageError(f"no operator writes a tensor {wanted!r}", f"stems are among: {', '.join(names)}")


def pooled_features(
    network: NestedNetwork, stem: Stem, x: NDArray[Any], batch_size: int = BATCH
) -> NDArray[np.float32]:
    """The stem's means over height and width at the network's present level, (samples, channels)."""
    return stem_values(network, stem, x, batch_size, partial(ops.mean, axis=(1, 2)))


def stem_values(
    network: NestedNetwork, stem: Stem, x: NDArray[Any], batch_size: int, function: Callable[[Any], Any]
) -> NDArray[np.float32]:
    """A function of the stem, of samples at the network's present level."""
    rows = []
    for start in range(0, len(x), batch_size):
        values = network.start(np.asarray(x[start : start + batch_size], np.float32))
        network.advance(values, 0, stem.ready, exact=True)
        rows.append(ops.convert_to_numpy(function(values[stem.tensor])))
    return np.concatenate(rows)
