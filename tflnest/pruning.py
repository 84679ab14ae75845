"""Drop what nothing in a model refers to: tensors, buffers and operator codes.

Edits of a model (folding, quantization, nesting) leave things behind that would only cost bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tflnest import controller_entry
from tflnest.model import metadata_buffer, set_metadata

#: Metadata of the arena planner, which counts the tensors of the first subgraph by position.
OFFLINE_PLAN = "OfflineMemoryAllocation"


def prune(tree: Any) -> None:
    """Remove unused tensors, buffers and operator codes from a `ModelT`, and renumber the rest in order.

    Inputs, outputs, signatures, variables and everything that an operator names stay. A planner's offline
    allocation and a controller's entry, which count tensors by position, are renumbered with them.

    Args:
        tree: The schema's object tree, edited in place; call `Model.changed()` afterwards.
    """
    prune_tensors(tree)
    prune_buffers(tree)
    prune_operator_codes(tree)


def prune_tensors(tree: Any) -> None:
    """Remove unused tensors alone; what `prune` says of them holds."""
    orders = [_prune_tensors(tree, subgraph, index) for index, subgraph in enumerate(tree.subgraphs)]
    _renumber_offline_plan(tree, orders[0])
    _renumber_controller(tree, orders[0])


def _indices(values: Any) -> list[int]:
    """A vector of the tree as a list: None and flatbuffers' 0 both mean that it is absent."""
    return [] if values is None or isinstance(values, int) else [int(value) for value in values]


def _signature_maps(tree: Any, subgraph: int) -> list[Any]:
    signatures = [item for item in tree.signatureDefs or [] if item.subgraphIndex == subgraph]
    return [entry for item in signatures for entry in [*(item.inputs or []), *(item.outputs or [])]]


def _prune_tensors(tree: Any, subgraph: Any, index: int) -> list[int]:
    """Prune one subgraph; returns the old position of every tensor that stays."""
    maps = _signature_maps(tree, index)
    used = {*_indices(subgraph.inputs), *_indices(subgraph.outputs), *(entry.tensorIndex for entry in maps)}
    for operator in subgraph.operators or []:
        used.update(_indices(operator.inputs), _indices(operator.outputs), _indices(operator.intermediates))
    used.update(number for number, tensor in enumerate(subgraph.tensors) if tensor.isVariable)
    used.discard(-1)
    order = sorted(used)
    if len(order) == len(subgraph.tensors):
        return order
    renumber = {-1: -1, **{old: new for new, old in enumerate(order)}}
    subgraph.tensors = [subgraph.tensors[old] for old in order]
    owners: list[tuple[Any, tuple[str, ...]]] = [(subgraph, ("inputs", "outputs"))]
    owners += [(operator, ("inputs", "outputs", "intermediates")) for operator in subgraph.operators or []]
    for owner, fields in owners:
        for field in fields:
            values = [renumber[value] for value in _indices(getattr(owner, field))]
            if values:
                setattr(owner, field, np.array(values, dtype=np.int32))
    for entry in maps:
        entry.tensorIndex = renumber[entry.tensorIndex]
    return order


def offline_plan(tree: Any) -> NDArray[np.int32] | None:
    """The planner's words {version, subgraphs, tensors, one offset per tensor}; None where there is no plan."""
    buffer = metadata_buffer(tree, OFFLINE_PLAN)
    data = None if buffer is None else tree.buffers[buffer].data
    if data is None or isinstance(data, int) or len(data) < 12 or len(data) % 4:
        return None
    return np.ascontiguousarray(data, dtype=np.uint8).view("<i4")


def set_offline_offsets(tree: Any, offsets: Sequence[int]) -> None:
    """Replace the offsets of an offline plan that is there."""
    words = offline_plan(tree)
    if words is not None:
        renewed = np.array([words[0], words[1], len(offsets), *offsets], dtype="<i4")
        set_metadata(tree, OFFLINE_PLAN, renewed.tobytes())


def _renumber_offline_plan(tree: Any, order: list[int]) -> None:
    """Keep the planner's offsets in step with the tensors."""
    words = offline_plan(tree)
    if words is not None:
        offsets = words[3:].tolist()
        set_offline_offsets(tree, [offsets[old] if old < len(offsets) else -1 for old in order])


def _renumber_controller(tree: Any, order: list[int]) -> None:
    """Keep the tensor that a controller reads."""
    buffer = metadata_buffer(tree, controller_entry.METADATA_NAME)
    if buffer is not None:
        controller = controller_entry.decode(bytes(bytearray(tree.buffers[buffer].data)))
        moved = replace(controller, stem=order.index(controller.stem))
        set_metadata(tree, controller_entry.METADATA_NAME, controller_entry.encode(moved))


def prune_buffers(tree: Any, ranks: Mapping[int, int] | None = None) -> dict[int, int]:
    """Remove unused buffers.

    Args:
        tree: Of the model, which is edited.
        ranks: Buffers with a rank are moved behind those without one, and sorted by it; by their old position.

    Returns:
        The new position of every buffer that stays, by its old one.
    """
    rank = {} if ranks is None else ranks
    holders = [tensor for subgraph in tree.subgraphs for tensor in subgraph.tensors] + list(
        tree.metadata or []
    )
    used = {0, *(holder.buffer for holder in holders), *_indices(tree.metadataBuffer)}
    order = sorted(used, key=lambda index: (rank.get(index, -1), index))
    renumber = {old: new for new, old in enumerate(order)}
    tree.buffers = [tree.buffers[old] for old in order]
    for holder in holders:
        holder.buffer = renumber[holder.buffer]
    if _indices(tree.metadataBuffer):
        tree.metadataBuffer = [renumber[old] for old in _indices(tree.metadataBuffer)]
    return renumber


def prune_operator_codes(tree: Any) -> None:
    """Remove unused operator codes."""
    operators = [operator for subgraph in tree.subgraphs for operator in subgraph.operators or []]
    order = sorted({operator.opcodeIndex for operator in operators})
    renumber = {old: new for new, old in enumerate(order)}
    tree.operatorCodes = [tree.operatorCodes[old] for old in order]
    for operator in operators:
        operator.opcodeIndex = renumber[operator.opcodeIndex]
