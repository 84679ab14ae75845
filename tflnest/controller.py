"""Controllers: small int8 networks in a nested file that choose widths for each input.

A controller reads one activation of the model, the stem, and gives a logit for each choice of each operator that
it controls. It stands in the file as the last subgraph, with a metadata entry that says what its outputs mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tflnest import container, controller_entry
from tflnest.controller_entry import Choice, Controller
from tflnest.errors import UsageError
from tflnest.model import Model, add_buffer, opcode_index, set_metadata
from tflnest.pruning import offline_plan, prune, prune_buffers, prune_operator_codes, set_offline_offsets

__all__ = ["Choice", "Controller", "attach", "detach", "drop", "read", "stand_alone"]


def read(model: Model) -> Controller | None:
    """The controller of a model; None where it has none."""
    return model.controller


def attach(
    model: Model,
    controller_model: Model | bytes,
    stem: int,
    operators: Sequence[int],
    choices: Sequence[Choice | tuple[int, int]],
) -> Model:
    """Give a nested model a controller.

    Args:
        model: Nested, without a controller; it is not changed.
        controller_model: A plain int8 model of one subgraph. Its input has type, shape, scale and zero point of the
            stem; its output holds the logits, operator by operator.
        stem: Index of a tensor of the main subgraph.
        operators: Indices of the operators of the main subgraph to control, all behind the stem.
        choices: Level of the model and bits of the activation of each choice, the same for all operators.

    Returns:
        The nested model with the controller, sealed and checked by reading it back.

    Raises:
        UsageError: The model is not nested or has a controller, or the controller's model is no such model.
        FormatError: The controller does not fit the model.
    """
    if model.directory is None:
        raise UsageError("the model is not nested: a controller has no levels to choose from")
    if model.controller is not None:
        raise UsageError("the model has a controller already")
    other = controller_model if isinstance(controller_model, Model) else Model.from_bytes(controller_model)
    if other.directory is not None or len(other.graph.subgraphs) != 1:
        raise UsageError("the controller must be a plain model of one subgraph")
    result = model.copy()
    tree = result.tree
    buffers = _add_subgraph(tree, other.copy())
    _extend_offline_plan(tree)
    pairs = tuple(choice if isinstance(choice, Choice) else Choice(*choice) for choice in choices)
    controller = Controller(len(tree.subgraphs) - 1, stem, tuple(operators), pairs)
    set_metadata(tree, controller_entry.METADATA_NAME, controller_entry.encode(controller))
    _list_in_base_page(result, buffers)
    return Model.from_bytes(result.to_bytes())


def drop(tree: Any, controller: Controller) -> None:
    """Take subgraph and metadata entry out of a tree; what they leave behind is for `prune`."""
    tree.subgraphs.pop(controller.subgraph)
    tree.signatureDefs = [
        item for item in tree.signatureDefs or [] if item.subgraphIndex != controller.subgraph
    ] or None
    named = controller_entry.METADATA_NAME
    tree.metadata = [entry for entry in tree.metadata if _name(entry) != named] or None
    words = offline_plan(tree)
    if words is not None:
        count = sum(len(subgraph.tensors) for subgraph in tree.subgraphs)
        set_offline_offsets(tree, words[3 : 3 + count].tolist())


def detach(model: Model) -> Model:
    """The nested model without its controller, for runtimes that do not follow one; the model itself where it has none.

    Raises:
        UsageError: The model is not nested.
    """
    if model.directory is None:
        raise UsageError("the model is not nested: it has no controller")
    if model.controller is None:
        return model
    result = model.copy()
    drop(result.tree, model.controller)
    prune_operator_codes(result.tree)
    renumber = prune_buffers(result.tree)
    pages = [
        [renumber[segment.buffer] for segment in page.segments if segment.buffer in renumber]
        for page in model.directory.pages
    ]
    _write_pages(result, pages)
    return Model.from_bytes(result.to_bytes())


def stand_alone(model: Model) -> Model:
    """The controller as a plain model of its own, for engines that know nothing of nested files.

    Raises:
        UsageError: The model has no controller.
    """
    controller = model.controller
    if controller is None:
        raise UsageError("the model has no controller")
    tree = model.copy().tree
    tree.subgraphs = [tree.subgraphs[controller.subgraph]]
    tree.signatureDefs = tree.metadata = tree.metadataBuffer = None
    prune(tree)
    return Model.from_bytes(Model(tree).to_bytes())


def _name(entry: Any) -> str:
    return entry.name.decode("utf-8", errors="replace") if isinstance(entry.name, bytes) else entry.name or ""


def _add_subgraph(tree: Any, other: Model) -> list[int]:
    """Append the subgraph of another model, which is used up; returns the buffers of its constants."""
    operators = other.graph.main.operators
    subgraph, contents = other.tree.subgraphs[0], other.tree.buffers
    moved: dict[int, int] = {0: 0}
    added = []
    for tensor in subgraph.tensors:
        tensor.name = None
        data = contents[tensor.buffer].data
        if tensor.buffer not in moved:
            empty = data is None or isinstance(data, int) or len(data) == 0
            moved[tensor.buffer] = 0 if empty else add_buffer(tree, bytes(bytearray(data)))
            added += [] if empty else [moved[tensor.buffer]]
        tensor.buffer = moved[tensor.buffer]
    for operator, described in zip(subgraph.operators, operators, strict=True):
        operator.opcodeIndex = opcode_index(tree, described.name, described.version, described.is_custom)
    subgraph.name = "controller"
    tree.subgraphs.append(subgraph)
    return added


def _extend_offline_plan(tree: Any) -> None:
    """An offline arena plan has an offset for every tensor of the model: the controller's are not planned."""
    words = offline_plan(tree)
    if words is not None:
        offsets = words[3:].tolist()
        count = sum(len(subgraph.tensors) for subgraph in tree.subgraphs)
        set_offline_offsets(tree, offsets + [-1] * (count - len(offsets)))


def _list_in_base_page(model: Model, buffers: Sequence[int]) -> None:
    directory = model.directory
    assert directory is not None
    pages = [[segment.buffer for segment in page.segments] for page in directory.pages]
    pages[0] += buffers
    _write_pages(model, pages)


def _write_pages(model: Model, pages: Sequence[Sequence[int]]) -> None:
    """Let the directory list these buffers, and forget what was read of the tree before."""
    directory = model.directory
    assert directory is not None
    renewed = container.new_directory(directory.levels, pages, directory.recipe)
    set_metadata(model.tree, container.METADATA_NAME, container.encode(renewed))
    model.changed()
