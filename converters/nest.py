"""Turn the operators of an int8 model into nested ones.

Tensors keep their positions, so that everything in a file that counts tensors by position stays true: plane 0 takes
the place of the filter, and what is new takes the places of biases that are gone, or is appended. Only where more biases go
than constants come, with a single level, tensors move up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from converters.parameters import LevelParameters, Parameters
from converters.planning import PlannedFilter, RoundedFilter, bias_tensor, filter_multipliers
from converters.recipe import Recipe
from tflnest import container
from tflnest.graph import Operator, Subgraph
from tflnest.model import Model, add_buffer, opcode_index, set_metadata
from tflnest.nested import OPERATOR_VERSION, PREFIX, encode_options
from tflnest.packing import pack
from tflnest.pruning import (
    offline_plan,
    prune_buffers,
    prune_operator_codes,
    prune_tensors,
    set_offline_offsets,
)
from tflnest.schema import enum_value, schema

#: Buffers from this size on lie in the file page by page, so that an operating system which maps it can leave
#: whole pages on disk.
GROUPED_BYTES = 1024


class _Writer:
    """Adds constants to a tree, one buffer and one new tensor per content, and notes which page each belongs to.

    Attributes:
        pages: Of every buffer that was added.
        rewritten: Subgraph and index of the operators that no longer read their biases.
    """

    def __init__(self, tree: Any) -> None:
        self.tree = tree
        self._buffers: dict[bytes, int] = {}
        self._tensors: dict[tuple[int, bytes], int] = {}
        self._free: dict[int, list[int]] = {}
        self.rewritten: set[tuple[int, int]] = set()
        self.pages: dict[int, int] = {}

    def buffer(self, content: bytes, page: int) -> int:
        """Index of a buffer with this content; equal contents share one, which the lowest page brings."""
        if content not in self._buffers:
            self._buffers[content] = add_buffer(self.tree, content)
        index = self._buffers[content]
        self.pages[index] = min(page, self.pages.get(index, page))
        return index

    def append(self, subgraph: Any, values: NDArray[np.uint8], page: int) -> int:
        """Add a constant tensor, unless there is one of this content already; returns its index.

        It takes a place that was released, or comes last: runtimes keep a structure per tensor in memory, so that
        fewer tensors are a smaller arena.
        """
        content = values.tobytes()
        key = (id(subgraph), content)
        if key not in self._tensors:
            free = self._free.get(id(subgraph))
            if not free:
                subgraph.tensors.append(schema().TensorT())
            self._tensors[key] = free.pop() if free else len(subgraph.tensors) - 1
            return self.overwrite(subgraph, self._tensors[key], values, page)
        self.buffer(content, page)
        return self._tensors[key]

    def release(self, subgraph: Any, index: int) -> None:
        """Give the place of a tensor away that no operator reads any more."""
        subgraph.tensors[index].name = None
        self._free.setdefault(id(subgraph), []).append(index)

    @property
    def has_free_places(self) -> bool:
        """Whether there is a tensor that nothing took the place of."""
        return any(self._free.values())

    def overwrite(self, subgraph: Any, index: int, values: NDArray[np.uint8], page: int) -> int:
        """Put a constant in the place of another tensor; returns its index."""
        tensor = subgraph.tensors[index]
        tensor.shape = list(values.shape)
        tensor.shapeSignature = None
        tensor.type = enum_value("TensorType", "UINT8")
        tensor.quantization = None
        tensor.buffer = self.buffer(values.tobytes(), page)
        return index


def nest(
    source: Model,
    filters: Sequence[RoundedFilter],
    parameters: Parameters,
    recipe: Recipe,
) -> Model:
    """Rewrite an int8 model.

    Args:
        source: The int8 model; it is not changed.
        filters: The filters to nest.
        parameters: For each operator that uses one of them, bias and scales of every own level.
        recipe: Stored in the file; its levels are the model's.

    Returns:
        The nested model, sealed and checked by reading it back.
    """
    model = source.copy()
    tree = model.tree
    writer = _Writer(tree)
    packed = [_pack(rounded) for rounded in filters]
    uses = Counter(
        planes for planes, rounded in zip(packed, filters, strict=True) for _ in rounded.plan.operators
    )
    for planes, rounded in zip(packed, filters, strict=True):
        subgraph = source.graph.subgraphs[rounded.plan.subgraph]
        plan, is_separate = rounded.plan, uses[planes] > 1
        operators = [subgraph.operators[index] for index in plan.operators]
        levels = [
            _Levels.of(subgraph, plan, item, parameters[subgraph.index, item.index]) for item in operators
        ]
        for operator in operators:
            _release_bias(writer, subgraph, operator)
        inputs = _write_constants(writer, plan, planes, levels, is_separate)
        for operator, own, indices in zip(operators, levels, inputs, strict=True):
            _rewrite_operator(writer, subgraph, operator, plan, own, indices, is_separate)
    _extend_offline_plan(tree)
    if writer.has_free_places:
        prune_tensors(tree)
    _drop_unread(tree)
    _write_directory(model, writer, recipe)
    return Model.from_bytes(model.to_bytes())


@dataclass(frozen=True)
class _Levels:
    """What the own levels of an operator have beside weights.

    Attributes:
        biases: Which bias each own level uses.
        sets: Which set of multipliers and shifts each own level uses.
        activation_bits: Bits at which each own level reads its activation.
        constants: What each own level brings beside its plane: the bias, multipliers and shifts that no level below
            has; may be empty.
    """

    biases: list[int]
    sets: list[int]
    activation_bits: list[int]
    constants: list[bytes]

    @classmethod
    def of(
        cls, subgraph: Subgraph, plan: PlannedFilter, operator: Operator, levels: Sequence[LevelParameters]
    ) -> _Levels:
        biases = [level.bias.tobytes() for level in levels]
        scales = [filter_multipliers(subgraph, plan.tensor, operator, level.scales) for level in levels]
        sets = [multiplier.tobytes() + shift.tobytes() for multiplier, shift in scales]
        parts = zip(_new(biases), _new(sets), strict=True)
        return cls(
            _numbers(biases),
            _numbers(sets),
            [level.activation_bits for level in levels],
            [bias + scale for bias, scale in parts],
        )


def _numbers(contents: Sequence[bytes]) -> list[int]:
    """Number contents in the order in which they first appear."""
    known = list(dict.fromkeys(contents))
    return [known.index(content) for content in contents]


def _new(contents: Sequence[bytes]) -> list[bytes]:
    """Every content where it first appears, and nothing where it is repeated."""
    return [b"" if content in contents[:position] else content for position, content in enumerate(contents)]


def _pack(rounded: RoundedFilter) -> tuple[bytes, ...]:
    """The planes of a filter."""
    nesting = rounded.plan.nesting
    assert nesting is not None
    return tuple(pack(codes, plane.bits) for plane, codes in zip(nesting.planes, rounded.planes, strict=True))


def _write_constants(
    writer: _Writer,
    plan: PlannedFilter,
    planes: Sequence[bytes],
    operators: Sequence[_Levels],
    is_separate: bool,
) -> list[list[int]]:
    """Store a filter and what its operators have beside it.

    One tensor per level is the smallest file, and the smallest arena. Operators that share planes have what is their
    own in tensors of their own: nothing is stored twice.

    Returns:
        For each operator the indices of its constant inputs.
    """
    subgraph = writer.tree.subgraphs[plan.subgraph]

    def append(content: bytes, position: int) -> int:
        return writer.append(subgraph, np.frombuffer(content, np.uint8), plan.page_of(position))

    own = [b""] * len(planes) if is_separate else operators[0].constants
    first, *others = [plane + constants for plane, constants in zip(planes, own, strict=True)]
    indices = [
        writer.overwrite(subgraph, plan.tensor.index, np.frombuffer(first, np.uint8), plan.page_of(0)),
        *(append(content, position) for position, content in enumerate(others, 1)),
    ]
    if not is_separate:
        return [indices]
    return [
        [*indices, *(append(content, position) for position, content in enumerate(item.constants) if content)]
        for item in operators
    ]


def _rewrite_operator(
    writer: _Writer,
    subgraph: Subgraph,
    operator: Operator,
    plan: PlannedFilter,
    levels: _Levels,
    constants: Sequence[int],
    is_separate: bool,
) -> None:
    assert plan.nesting is not None
    item = writer.tree.subgraphs[subgraph.index].operators[operator.index]
    item.opcodeIndex = opcode_index(writer.tree, PREFIX + operator.name, OPERATOR_VERSION, custom=True)
    item.inputs = [operator.inputs[0], *constants]
    item.builtinOptionsType = 0
    item.builtinOptions = None
    options = encode_options(
        operator.name,
        operator.version,
        operator.options,
        plan.nesting,
        plan.model_levels,
        plan.tensor.shape,
        bias=levels.biases,
        requantization=levels.sets,
        activation_bits=levels.activation_bits,
        is_separate=is_separate,
    )
    item.customOptions = np.frombuffer(options, np.uint8)
    item.customOptionsFormat = enum_value("CustomOptionsFormat", "FLEXBUFFERS")


def _release_bias(writer: _Writer, subgraph: Subgraph, operator: Operator) -> None:
    """Give away the place of an operator's bias, unless something else reads it."""
    old = bias_tensor(subgraph, operator)
    if old is not None and old.index not in (*subgraph.inputs, *subgraph.outputs):
        users = {(subgraph.index, item.index) for item in subgraph.operators if old.index in item.inputs}
        writer.rewritten.add((subgraph.index, operator.index))
        if users <= writer.rewritten:
            writer.release(writer.tree.subgraphs[subgraph.index], old.index)


def _extend_offline_plan(tree: Any) -> None:
    """An offline arena plan lists one offset per tensor: the appended constants get -1."""
    words = offline_plan(tree)
    if words is not None:
        offsets = words[3:].tolist()
        set_offline_offsets(tree, offsets + [-1] * (len(tree.subgraphs[0].tensors) - len(offsets)))


def _drop_unread(tree: Any) -> None:
    """Leave out what costs bytes and no runtime reads: recorded ranges."""
    for subgraph in tree.subgraphs:
        for tensor in subgraph.tensors:
            quantization = tensor.quantization
            if quantization is None:
                continue
            quantization.min = quantization.max = None
            if (
                quantization.scale is None
                or isinstance(quantization.scale, int)
                or len(quantization.scale) == 0
            ):
                tensor.quantization = None if quantization.details is None else quantization


def drop_names(model: Model) -> Model:
    """The same nested model without the names of inner activations, which no runtime reads."""
    slim = model.copy()
    for subgraph, tree_subgraph in zip(model.graph.subgraphs, slim.tree.subgraphs, strict=True):
        kept = {*subgraph.inputs, *subgraph.outputs}
        for tensor, item in zip(subgraph.tensors, tree_subgraph.tensors, strict=True):
            if tensor.index not in kept and not tensor.is_constant:
                item.name = None
    slim.changed()
    return Model.from_bytes(slim.to_bytes())


def _write_directory(model: Model, writer: _Writer, recipe: Recipe) -> None:
    tree = model.tree
    prune_operator_codes(tree)
    large = {
        index: page for index, page in writer.pages.items() if _size(tree.buffers[index]) >= GROUPED_BYTES
    }
    renumber = prune_buffers(tree, large)
    page_of = {renumber[old]: page for old, page in writer.pages.items() if old in renumber}
    constants = {tensor.buffer for subgraph in tree.subgraphs for tensor in subgraph.tensors}
    filled = {index for index in constants if index and _size(tree.buffers[index])}
    pages: list[list[int]] = [[] for _ in recipe.levels]
    for index in sorted(filled):
        pages[page_of.get(index, 0)].append(index)
    directory = container.new_directory(recipe.levels, pages, recipe.to_toml())
    set_metadata(tree, container.METADATA_NAME, container.encode(directory))
    model.changed()


def _size(buffer: Any) -> int:
    return 0 if buffer.data is None or isinstance(buffer.data, int) else len(buffer.data)
