"""Drop what nothing in a model refers to: tensors, buffers and operator codes.

Edits of a model (folding, quantization, nesting) leave things behind that would only cost bytes.
"""

from __future__ import annotations

from typing import Any

import numpy as np

#: Metadata of the arena planner that counts tensors by position; wrong once a tensor is gone.
OFFLINE_PLAN = "OfflineMemoryAllocation"


def prune(tree: Any) -> None:
    """Remove unused tensors, buffers and operator codes from a `ModelT`, and renumber the rest in order.

    Inputs, outputs, signatures, variables and everything that an operator names stay. A planner's offline
    allocation is dropped when tensors are: it counts them by position.

    Args:
        tree: The schema's object tree, edited in place; call `Model.changed()` afterwards.
    """
    removed = False
    for index, subgraph in enumerate(tree.subgraphs):
        removed |= _prune_tensors(tree, subgraph, index)
    if removed:
        kept = [entry for entry in tree.metadata or [] if _text(entry.name) != OFFLINE_PLAN]
        tree.metadata = kept or None
    _prune_buffers(tree)
    _prune_operator_codes(tree)


def _text(value: bytes | str | None) -> str:
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else value or ""


def _indices(values: Any) -> list[int]:
    """A vector of the tree as a list: None and flatbuffers' 0 both mean that it is absent."""
    return [] if values is None or isinstance(values, int) else [int(value) for value in values]


def _signature_maps(tree: Any, subgraph: int) -> list[Any]:
    signatures = [item for item in tree.signatureDefs or [] if item.subgraphIndex == subgraph]
    return [entry for item in signatures for entry in [*(item.inputs or []), *(item.outputs or [])]]


def _prune_tensors(tree: Any, subgraph: Any, index: int) -> bool:
    """Prune one subgraph; says whether a tensor went."""
    maps = _signature_maps(tree, index)
    used = {*_indices(subgraph.inputs), *_indices(subgraph.outputs), *(entry.tensorIndex for entry in maps)}
    for operator in subgraph.operators or []:
        used.update(_indices(operator.inputs), _indices(operator.outputs), _indices(operator.intermediates))
    used.update(number for number, tensor in enumerate(subgraph.tensors) if tensor.isVariable)
    used.discard(-1)
    if len(used) == len(subgraph.tensors):
        return False
    order = sorted(used)
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
    return True


def _prune_buffers(tree: Any) -> None:
    holders = [tensor for subgraph in tree.subgraphs for tensor in subgraph.tensors] + list(
        tree.metadata or []
    )
    order = sorted({0, *(holder.buffer for holder in holders), *_indices(tree.metadataBuffer)})
    renumber = {old: new for new, old in enumerate(order)}
    tree.buffers = [tree.buffers[old] for old in order]
    for holder in holders:
        holder.buffer = renumber[holder.buffer]
    if _indices(tree.metadataBuffer):
        tree.metadataBuffer = [renumber[old] for old in _indices(tree.metadataBuffer)]


def _prune_operator_codes(tree: Any) -> None:
    operators = [operator for subgraph in tree.subgraphs for operator in subgraph.operators or []]
    order = sorted({operator.opcodeIndex for operator in operators})
    renumber = {old: new for new, old in enumerate(order)}
    tree.operatorCodes = [tree.operatorCodes[old] for old in order]
    for operator in operators:
        operator.opcodeIndex = renumber[operator.opcodeIndex]
